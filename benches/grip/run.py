"""Measures every case with every library, interleaved, and prints the medians of the CPU time as a table.

    python3 benches/grip/run.py RUST_BINARY NODE_MODULES_PARENT PYTHON [ROUNDS]

NODE_MODULES_PARENT is the folder in which `npm ci` was run with peers/package-lock.json. PYTHON has the packages of
benches/requirements.txt.
"""

import base64
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
HEADERS = {
    "Accept": "application/websocket-events",
    "Connection-Id": "b5a1d1f8-43d2-44c3-a8a0-1d1a8c3d5a10",
    "Content-Type": "application/websocket-events",
    "Host": "example.com",
    "Sec-WebSocket-Extensions": "grip",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "User-Agent": "example/1.0",
    "X-Forwarded-For": "203.0.113.7",
}


def event(body):
    """Returns a REST API's event, the only form that all of the libraries read."""
    return {
        "resource": "/{proxy+}",
        "path": "/",
        "httpMethod": "POST",
        "headers": HEADERS,
        "multiValueHeaders": {name: [value] for name, value in HEADERS.items()},
        "requestContext": {"stage": "prod", "httpMethod": "POST", "requestId": "0a1b2c3d"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


TEXT = b"TEXT 64\r\n" + b"x" * 100 + b"\r\n"
# Name, body, number of messages, and repetitions: with grip, and with the other libraries.
CASES = [
    ("1 x 100 B", TEXT, 1, 100_000, 20_000),
    ("10 x 100 B", TEXT * 10, 10, 30_000, 3_000),
    ("100 x 100 B", TEXT * 100, 100, 5_000, 300),
    ("1,000 x 100 B", TEXT * 1_000, 1_000, 1_000, 20),
    ("10,000 x 100 B", TEXT * 10_000, 10_000, 100, 1),
    (
        "200 kB binary",
        b"BINARY 30d40\r\n" + bytes(range(256)) * 781 + b"\0" * 64 + b"\r\n",
        1,
        1_000,
        100,
    ),
]
# The time of @fanoutio/grip grows with the square of the messages: one echo would take a minute or more.
LEFT_OUT = {("@fanoutio/grip", "10,000 x 100 B")}


def main():
    rust, node_parent, python = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    node_env = {**os.environ, "NODE_PATH": f"{node_parent}/node_modules"}
    peers = {
        "grip": ([rust], None, None),
        "node faas-grip": (["node", str(HERE / "peers/faas_grip.js")], node_env, None),
        "@fanoutio/grip": (["node", "fanoutio_grip.js"], node_env, node_parent),
        "python faas-grip": ([python, str(HERE / "peers/faas_grip_echo.py")], None, None),
    }
    # import() searches the script's folder, and not NODE_PATH.
    script = pathlib.Path(node_parent) / "fanoutio_grip.js"
    script.write_text((HERE / "peers/fanoutio_grip.js").read_text())
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, body, _, _, _) in enumerate(CASES):
            (pathlib.Path(folder) / f"{number}.json").write_text(json.dumps(event(body)))
        for _ in range(rounds):
            for number, (case, _, _, ours, others) in enumerate(CASES):
                for peer, (command, env, cwd) in peers.items():
                    if (peer, case) in LEFT_OUT:
                        continue
                    count = ours if peer == "grip" else others
                    if peer == "@fanoutio/grip":
                        count = max(1, count // 20)
                    run = subprocess.run(
                        [*command, f"{folder}/{number}.json", str(count)],
                        env=env,
                        cwd=cwd,
                        check=True,
                        capture_output=True,
                        text=True,
                    )
                    times.setdefault((peer, case), []).append(int(run.stdout))
    names = list(peers)
    print(
        "CPU time of an echo, from event to response, in microseconds: median of",
        rounds,
        "rounds; x: times that of grip",
    )
    print("| case | " + " | ".join(names) + " | grip, each message |")
    print("| --- |" + " ---: |" * (len(names) + 1))
    for case, _, messages, _, _ in CASES:
        own = statistics.median(times["grip", case])
        cells = []
        for peer in names:
            if (peer, case) not in times:
                cells.append("-")
                continue
            median = statistics.median(times[peer, case])
            cells.append(
                f"{median / 1000:,.1f}" + ("" if peer == "grip" else f" ({median / own:,.0f}x)")
            )
        print(f"| {case} | " + " | ".join(cells) + f" | {own / messages:,.0f} ns |")


main()
