"""An MQTT client for the tests, and the test case with a device's certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from pathlib import Path

from tests.harness import TIMEOUT, Case, allow, aws, document, launcher, unique

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14


class Mqtt:
    """Just enough of an MQTT client: version 4 (3.1.1) or 5, over TLS with a certificate.

    `session` keeps the session: clean start 0, and an expiry of ten minutes in version 5.
    """

    def __init__(
        self, version: int, client_id: str, certificate: str, session: bool = False
    ) -> None:
        self.version = version
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate)
        plain = socket.create_connection(("127.0.0.1", launcher.mqtt_port), TIMEOUT)
        self.socket = context.wrap_socket(plain)

        properties = self.no_properties()
        if session and version == 5:
            properties = b"\5\x11" + struct.pack("!I", 600)
        flags = 0 if session else 2
        head = self.string("MQTT") + bytes([version, flags]) + struct.pack("!H", 60)
        self.send(CONNECT, 0, head + properties + self.string(client_id))
        kind, self.connack = self.read()
        if kind != CONNACK:
            raise ConnectionRefusedError(f"no CONNACK but a packet of type {kind}")

    def no_properties(self) -> bytes:
        return b"\0" if self.version == 5 else b""

    @staticmethod
    def string(text: str) -> bytes:
        return struct.pack("!H", len(text.encode())) + text.encode()

    def send(self, kind: int, flags: int, body: bytes) -> None:
        length, rest = b"", len(body)
        while rest or not length:
            rest, digit = rest >> 7, rest & 127
            length += bytes([digit | (128 if rest else 0)])
        self.socket.sendall(bytes([kind << 4 | flags]) + length + body)

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def read(self) -> tuple[int, bytes]:
        """The next packet; (0, b"") when the server has closed the connection."""
        try:
            kind = self.receive(1)[0] >> 4
            length = shift = 0
            while True:
                digit = self.receive(1)[0]
                length |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    return kind, self.receive(length)
        except (EOFError, OSError):
            return 0, b""

    def publish(self, topic: str, payload: bytes) -> tuple[int, bytes]:
        head = self.string(topic) + struct.pack("!H", 7) + self.no_properties()
        with contextlib.suppress(OSError):
            self.send(PUBLISH, 2, head + payload)
        return self.read()

    def subscribe(self, topic_filter: str) -> tuple[int, bytes]:
        head = struct.pack("!H", 8) + self.no_properties()
        self.send(SUBSCRIBE, 2, head + self.string(topic_filter) + b"\1")
        return self.read()

    def deliveries(self, acknowledge: bool = True) -> list[str]:
        """The payloads that the broker has delivered until now (QoS 1, without properties).

        A PINGREQ marks the end: the broker answers it after what it sent before.
        """
        self.send(PINGREQ, 0, b"")
        found = []
        while True:
            kind, body = self.read()
            if kind == PINGRESP:
                return found
            assert kind == PUBLISH, kind
            offset = 2 + struct.unpack_from("!H", body)[0]
            packet_id = body[offset : offset + 2]
            found.append(body[offset + 2 + len(self.no_properties()) :].decode())
            if acknowledge:
                self.send(PUBACK, 0, packet_id)

    def cut(self) -> None:
        """End the connection without a DISCONNECT, as a machine that loses power does."""
        self.socket.close()


class Iot(Case):
    @classmethod
    def setUpClass(cls) -> None:
        iot = aws("iot")
        made = iot.create_keys_and_certificate(setAsActive=True)
        cls.certificate = str(Path(launcher.folder) / "device.pem")
        pem = made["keyPair"]["PrivateKey"] + made["certificatePem"]
        Path(cls.certificate).write_text(pem)
        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document([allow("iot:*", "*")]))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])

    def connect(self, version: int, client_id: str = "", session: bool = False) -> Mqtt:
        client = Mqtt(version, client_id or unique("c"), self.certificate, session)
        self.addCleanup(client.socket.close)
        return client

    def cut(self, client: Mqtt, client_id: str) -> None:
        """Cut a connection, and wait until the broker has noticed."""
        watcher = self.connect(5)
        watcher.subscribe(f"$aws/events/presence/disconnected/{client_id}")
        client.cut()
        self.assertEqual(watcher.read()[0], PUBLISH)

    def send(self, topic: str, *payloads: str) -> None:
        for payload in payloads:
            aws("iot-data").publish(topic=topic, qos=1, payload=payload.encode())
