"""IoT Core."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import struct
from pathlib import Path

from botocore.exceptions import ClientError
from tests.harness import (
    ACCOUNT,
    EVERYTHING,
    TIMEOUT,
    Case,
    allow,
    arn,
    aws,
    document,
    grant,
    inbox,
    launcher,
    wait_for_log,
    make_function,
    make_queue,
    make_role,
    receive,
    unique,
)


def setUpModule() -> None:
    launcher.start(POSTERN_ASYNC_RETRY_SECONDS="0.1,0.3")


CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14


class Mqtt:
    """Just enough of an MQTT client: version 4 (3.1.1) or 5, over TLS with a certificate."""

    def __init__(self, version: int, client_id: str, certificate: str) -> None:
        self.version = version
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate)
        plain = socket.create_connection(("127.0.0.1", launcher.mqtt_port), TIMEOUT)
        self.socket = context.wrap_socket(plain)
        head = self.string("MQTT") + bytes([version, 2]) + struct.pack("!H", 60)
        self.send(CONNECT, 0, head + self.no_properties() + self.string(client_id))
        kind, self.connack = self.read()
        assert kind == CONNACK, kind

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

    def connect(self, version: int) -> Mqtt:
        client = Mqtt(version, unique("c"), self.certificate)
        self.addCleanup(client.socket.close)
        return client


class IotLimits(Iot):
    def test_payload_over_http(self) -> None:
        data = aws("iot-data")
        data.publish(topic="a", qos=1, payload=b"x" * 131_072)
        with self.assertRaises(ClientError) as caught:
            data.publish(topic="a", qos=1, payload=b"x" * 131_073)
        answer = caught.exception.response
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 413)
        self.assertEqual(answer["Error"]["Code"], "RequestEntityTooLargeException")

    def test_payload_over_mqtt(self) -> None:
        for version in (4, 5):
            with self.subTest(version=version):
                client = self.connect(version)
                kind, body = client.publish("a", b"x" * 131_072)
                self.assertEqual((kind, body[:2]), (PUBACK, b"\0\7"))
                kind, body = client.publish("a", b"x" * 131_073)
                if version == 5:
                    self.assertEqual((kind, body[:1]), (DISCONNECT, b"\x95"))
                    kind, body = client.read()
                self.assertEqual(kind, 0)

    def test_topic(self) -> None:
        deep, deepest = "/".join("a" * 9), "/".join("a" * 8)
        data = aws("iot-data")
        data.publish(topic=deepest, payload=b"{}")
        data.publish(topic="$aws/rules/none/" + deepest, payload=b"{}")
        for topic in (deep, "$aws/rules/none/" + deep, "x" * 257):
            with self.subTest(topic), self.refused("InvalidRequestException"):
                data.publish(topic=topic, payload=b"{}")
        self.assertEqual(self.connect(5).publish(deepest, b"{}")[0], PUBACK)
        kind, body = self.connect(5).publish(deep, b"{}")
        self.assertEqual((kind, body[:1]), (DISCONNECT, b"\x90"))
        self.assertEqual(self.connect(4).publish(deep, b"{}")[0], 0)

    def test_topic_filter(self) -> None:
        client = self.connect(5)
        for topic_filter, fine in (
            ("+/" * 7 + "#", True),
            ("+/" * 8 + "#", False),
            ("x" * 257, False),
        ):
            with self.subTest(topic_filter):
                kind, body = client.subscribe(topic_filter)
                self.assertEqual(kind, SUBACK)
                self.assertEqual(body[-1] < 0x80, fine)

    def test_connack(self) -> None:
        connack = self.connect(5).connack
        self.assertIn(b"\x27" + struct.pack("!I", 149_504), connack)
        self.assertIn(b"\x21" + struct.pack("!H", 100), connack)


class IotPolicies(Iot):
    def test_attributes_of_the_thing(self) -> None:
        iot, thing, tenant = aws("iot"), unique("thing"), unique("tenant")
        made = iot.create_keys_and_certificate(setAsActive=True)
        certificate = Path(launcher.folder) / f"{thing}.pem"
        certificate.write_text(made["keyPair"]["PrivateKey"] + made["certificatePem"])
        iot.create_thing(thingName=thing, attributePayload={"attributes": {"tenant": tenant}})
        iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
        topic = arn("iot", "topic/${iot:Connection.Thing.Attributes[tenant]}/done")
        statements = [allow("iot:Connect", "*"), allow("iot:Publish", topic)]
        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document(statements))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])
        client = Mqtt(5, thing, str(certificate))
        self.addCleanup(client.socket.close)
        for topic, reason in ((f"{tenant}/done", b"\0"), ("another/done", b"\x87")):
            kind, body = client.publish(topic, b"{}")
            self.assertEqual((kind, body[2:3]), (PUBACK, reason))


class IotRules(Iot):
    def rule(self, action: dict, error_action: dict | None = None) -> str:
        name = unique("rule")
        payload = {"sql": f"SELECT * FROM 'in/{name}'", "actions": [action]}
        if error_action:
            payload["errorAction"] = error_action
        aws("iot").create_topic_rule(ruleName=name, topicRulePayload=payload)
        return name

    def publish(self, rule: str, payload: dict) -> None:
        aws("iot-data").publish(topic=f"in/{rule}", qos=1, payload=json.dumps(payload))

    def queue_action(self, *statements: dict, service: str = "iot") -> tuple[dict, str, str]:
        """An action that sends to a new queue with a new role; the queue's URL; the role."""
        url, queue_arn = make_queue()
        role = make_role(service, [*statements] or [allow("sqs:SendMessage", queue_arn)])
        return {"sqs": {"queueUrl": url, "roleArn": role, "useBase64": False}}, url, role

    def permit(self, function: str, rule: str, account: str = ACCOUNT) -> None:
        aws("lambda").add_permission(
            FunctionName=function,
            StatementId=unique(),
            Action="lambda:InvokeFunction",
            Principal="iot.amazonaws.com",
            SourceArn=arn("iot", f"rule/{rule}"),
            SourceAccount=account,
        )

    def test_function_policy_is_checked_and_error_action_runs(self) -> None:
        function = arn("lambda", "function:worker")
        error_action, errors, _ = self.queue_action()
        rule = self.rule({"lambda": {"functionArn": function}}, error_action)
        self.permit("worker", "another_rule")
        self.permit("worker", rule, "999999999999")
        key = unique()
        client = self.connect(5)
        sent = json.dumps({"key": key}).encode()
        self.assertEqual(client.publish(f"in/{rule}", sent)[0], PUBACK)
        found = json.loads(receive(errors)["Body"])
        (failure,) = found.pop("failures")
        self.assertEqual(failure["failedAction"], "LambdaAction")
        self.assertEqual(failure["failedResource"], function)
        self.assertIn("lambda:InvokeFunction", failure["errorMessage"])
        self.assertEqual((found["ruleName"], found["topic"]), (rule, f"in/{rule}"))
        self.assertEqual(base64.b64decode(found["base64OriginalPayload"]), sent)
        self.assertEqual(
            set(found),
            {"ruleName", "topic", "cloudwatchTraceId", "clientId", "sourceIp"}
            | {"base64OriginalPayload"},
        )
        self.assertEqual(inbox.of(key), [])
        self.permit("worker", rule)
        self.publish(rule, {"key": key})
        self.assertEqual(len(inbox.wait(key)), 1)

    def test_missing_function_runs_the_error_action(self) -> None:
        error_action, errors, _ = self.queue_action()
        rule = self.rule({"lambda": {"functionArn": arn("lambda", "function:none")}}, error_action)
        self.publish(rule, {})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("Function not found", found["failures"][0]["errorMessage"])

    def test_role_of_an_action_is_checked(self) -> None:
        action, url, role = self.queue_action(allow("sqs:SendMessage", arn("sqs", "other")))
        error_action, errors, _ = self.queue_action()
        rule = self.rule(action, error_action)
        self.publish(rule, {"n": 1})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("sqs:SendMessage", found["failures"][0]["errorMessage"])
        grant(role, EVERYTHING)
        self.publish(rule, {"n": 2})
        self.assertEqual(json.loads(receive(url)["Body"]), {"n": 2})

    def test_role_must_trust_iot(self) -> None:
        action, _, _ = self.queue_action(service="lambda")
        error_action, errors, _ = self.queue_action()
        self.publish(self.rule(action, error_action), {})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("sts:AssumeRole", found["failures"][0]["errorMessage"])

    def test_role_of_the_error_action_is_checked(self) -> None:
        error_action, errors, role = self.queue_action(
            allow("sqs:SendMessage", arn("sqs", "other"))
        )
        function = {"lambda": {"functionArn": arn("lambda", "function:none")}}
        rule = self.rule(function, error_action)
        self.publish(rule, {"n": 1})
        wait_for_log(f"IoT rule {rule}: errorAction failed")
        grant(role, EVERYTHING)
        self.publish(rule, {"n": 2})
        found = json.loads(receive(errors)["Body"])
        self.assertEqual(json.loads(base64.b64decode(found["base64OriginalPayload"])), {"n": 2})

    def test_function_is_invoked_asynchronously(self) -> None:
        name, key = unique("f"), unique()
        url, queue_arn = make_queue()
        role = make_role("lambda", [allow("sqs:SendMessage", queue_arn)])
        function = make_function(name, role)
        aws("lambda").put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=1,
            DestinationConfig={"OnFailure": {"Destination": queue_arn}},
        )
        rule = self.rule({"lambda": {"functionArn": function}})
        self.permit(name, rule)
        event = {"key": key, "do": "fail", "error": "My.Error"}
        self.publish(rule, event)
        record = json.loads(receive(url)["Body"])
        self.assertEqual(len(inbox.of(key)), 2)
        self.assertEqual(record["requestPayload"], event)
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 2)
        self.assertEqual(record["responsePayload"]["errorType"], "My.Error")
