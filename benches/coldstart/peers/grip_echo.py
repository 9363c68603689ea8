"""Echoes the messages of a WebSocket that a GRIP proxy passes as HTTP."""

import faas_grip


def handler(event, _context):
    socket = faas_grip.lambda_get_websocket(event)
    if socket.is_opening():
        socket.accept()
    while socket.can_recv():
        message = socket.recv()
        if message is None:
            socket.close()
            break
        socket.send(message)
    return socket.to_response()
