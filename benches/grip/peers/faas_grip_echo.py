"""An echo with faas-grip for Python. Prints the CPU time of one echo in nanoseconds."""

import json
import sys
import time

import faas_grip

with open(sys.argv[1], encoding="utf-8") as file:
    TEXT = file.read()
TIMES = int(sys.argv[2])


def echo():
    ws = faas_grip.lambda_get_websocket(json.loads(TEXT))
    if ws.is_opening():
        ws.accept()
    while ws.can_recv():
        message = ws.recv()
        if message is None:
            ws.close()
            break
        if isinstance(message, bytes):
            ws.send_binary(message)
        else:
            ws.send(message)
    return json.dumps(ws.to_response())


for _ in range(max(1, TIMES // 10)):
    echo()
before = time.process_time_ns()
for _ in range(TIMES):
    echo()
print((time.process_time_ns() - before) // TIMES)
