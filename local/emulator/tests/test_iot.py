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
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
    make_function,
    make_queue,
    make_role,
    receive,
    unique,
    until,
    wait_for_log,
)


def setUpModule() -> None:
    launcher.start(POSTERN_ASYNC_RETRY_SECONDS="0.1,0.3")


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
    def thing(self, attributes: dict[str, str], *statements: dict) -> tuple[str, str]:
        """A thing with attributes, whose certificate may do what is stated: name and file."""
        iot, thing = aws("iot"), unique("thing")
        made = iot.create_keys_and_certificate(setAsActive=True)
        file = Path(launcher.folder) / f"{thing}.pem"
        file.write_text(made["keyPair"]["PrivateKey"] + made["certificatePem"])

        iot.create_thing(thingName=thing, attributePayload={"attributes": attributes})
        iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document([*statements]))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])
        return thing, str(file)

    def connect_as(self, thing: str, certificate: str) -> Mqtt:
        client = Mqtt(5, thing, certificate)
        self.addCleanup(client.socket.close)
        return client

    def test_attributes_of_the_thing(self) -> None:
        tenant = unique("tenant")
        topic = arn("iot", "topic/${iot:Connection.Thing.Attributes[tenant]}/done")
        thing = self.thing(
            {"tenant": tenant}, allow("iot:Connect", "*"), allow("iot:Publish", topic)
        )
        client = self.connect_as(*thing)
        for topic, reason in ((f"{tenant}/done", b"\0"), ("another/done", b"\x87")):
            kind, body = client.publish(topic, b"{}")
            self.assertEqual((kind, body[2:3]), (PUBACK, reason))

    def test_policy_grants_the_group_of_the_thing_and_no_other(self) -> None:
        group, topic = unique("group"), unique("topic")
        attribute = "${iot:Connection.Thing.Attributes[group]}"
        thing = self.thing(
            {"group": group},
            allow("iot:Connect", "*"),
            allow("iot:Subscribe", arn("iot", f"topicfilter/$share/{attribute}/{topic}")),
            allow("iot:Receive", arn("iot", f"topic/{topic}")),
        )
        client = self.connect_as(*thing)
        for topic_filter, code in (
            (f"$share/{group}/{topic}", 1),
            (f"$share/another/{topic}", 0x87),
            (f"$share/{group}/another", 0x87),
            (topic, 0x87),
        ):
            with self.subTest(topic_filter):
                self.assertEqual(client.subscribe(topic_filter)[1][-1], code)
        self.send(topic, "job")
        self.assertEqual(client.deliveries(), ["job"])

    def test_member_that_may_not_receive_is_not_chosen(self) -> None:
        topic = unique("topic")
        subscribe = allow("iot:Subscribe", "*")
        deaf = self.connect_as(*self.thing({}, allow("iot:Connect", "*"), subscribe))
        member = self.connect(5)
        for client in (deaf, member):
            client.subscribe(f"$share/g/{topic}")
        sent = [str(n) for n in range(20)]
        self.send(topic, *sent)
        self.assertEqual(member.deliveries(), sent)
        self.assertEqual(deaf.deliveries(), [])


class IotSessions(Iot):
    def test_resumed_and_repeated_subscription_deliver_once(self) -> None:
        for version in (4, 5):
            with self.subTest(version=version):
                client_id, topic = unique("c"), unique("topic")
                for connection in range(4):  # the first, and three reconnections
                    client = self.connect(version, client_id, session=True)
                    self.assertEqual(client.connack[0], min(connection, 1))  # session present
                    self.assertEqual(client.subscribe(topic)[0], SUBACK)
                    self.send(topic, f"job {connection}")
                    self.assertEqual(client.deliveries(), [f"job {connection}"])
                    self.cut(client, client_id)

    def test_subscribing_twice_on_one_connection_delivers_once(self) -> None:
        client, topic = self.connect(5), unique("topic")
        client.subscribe(topic)
        client.subscribe(topic)
        self.send(topic, "job")
        self.assertEqual(client.deliveries(), ["job"])

    def test_offline_session_gets_its_messages_once(self) -> None:
        client_id, topic = unique("c"), unique("topic")
        client = self.connect(5, client_id, session=True)
        client.subscribe(topic)
        self.cut(client, client_id)
        self.send(topic, "job")
        client = self.connect(5, client_id, session=True)
        self.assertEqual(client.deliveries(), ["job"])


class IotSharedSubscriptions(Iot):
    def member(self, topic: str, client_id: str = "", session: bool = False) -> Mqtt:
        client = self.connect(5, client_id, session)
        self.assertEqual(client.subscribe(f"$share/plant/{topic}")[1][-1], 1)
        return client

    def test_each_message_goes_to_one_member(self) -> None:
        topic = unique("topic")
        members = [self.member(topic) for _ in range(3)]
        plain = self.connect(5)
        plain.subscribe(topic)
        sent = [str(n) for n in range(60)]
        self.send(topic, *sent)

        shares = [member.deliveries() for member in members]
        self.assertEqual(sorted(sum(shares, [])), sorted(sent))
        # One member of three gets none of 60 once in 10^10 runs.
        self.assertTrue(all(shares), shares)
        self.assertEqual(plain.deliveries(), sent)

    def test_each_group_gets_every_message(self) -> None:
        topic, clients = unique("topic"), []
        for group in ("one", "two"):
            clients.append(self.connect(5))
            clients[-1].subscribe(f"$share/{group}/{topic}")
        self.send(topic, "job")
        self.assertEqual([client.deliveries() for client in clients], [["job"], ["job"]])

    def test_wildcard_in_a_shared_filter(self) -> None:
        base = unique("base")
        client = self.member(f"{base}/+/x")
        self.send(f"{base}/a/x", "yes")
        self.send(f"{base}/a/y", "no")
        self.assertEqual(client.deliveries(), ["yes"])

    def test_malformed_shared_filter_is_refused(self) -> None:
        client = self.connect(5)
        for topic_filter in ("$share/g", "$share/g/", "$share//a", "$share/+/a"):
            with self.subTest(topic_filter):
                self.assertGreaterEqual(client.subscribe(topic_filter)[1][-1], 0x80)

    def test_group_without_a_connected_member_keeps_messages(self) -> None:
        topic = unique("topic")
        names = [unique("c"), unique("c")]
        for name in names:
            self.cut(self.member(topic, name, session=True), name)
        self.send(topic, "1", "2")

        first = self.connect(5, names[1], session=True)
        self.assertEqual(first.deliveries(), ["1", "2"])
        second = self.connect(5, names[0], session=True)
        self.assertEqual(second.deliveries(), [])

    def test_group_without_a_session_keeps_nothing(self) -> None:
        topic, name = unique("topic"), unique("c")
        self.cut(self.member(topic, name), name)
        self.send(topic, "lost")
        self.assertEqual(self.member(topic).deliveries(), [])

    def test_unacknowledged_messages_of_a_lost_member_go_to_another(self) -> None:
        for session in (False, True):
            with self.subTest(session=session):
                topic, name = unique("topic"), unique("c")
                lost = self.member(topic, name, session)
                self.send(topic, "1", "2")
                self.assertEqual(lost.deliveries(acknowledge=False), ["1", "2"])
                other = self.member(topic)
                self.cut(lost, name)
                self.assertEqual(until(other.deliveries, "the messages"), ["1", "2"])

                back = self.connect(5, name, session)
                self.assertEqual(back.deliveries(), [])

    def test_unacknowledged_messages_of_the_only_member_come_back_to_it(self) -> None:
        topic, name = unique("topic"), unique("c")
        lost = self.member(topic, name, session=True)
        self.send(topic, "1")
        self.assertEqual(lost.deliveries(acknowledge=False), ["1"])
        self.cut(lost, name)
        self.assertEqual(self.connect(5, name, session=True).deliveries(), ["1"])


class IotCertificates(Iot):
    def enrol(self) -> tuple[str, str]:
        """A certificate made from a CSR, with a key of our own: its id, and the file of both."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "worker-1")])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        csr = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        iot = aws("iot")
        made = iot.create_certificate_from_csr(
            certificateSigningRequest=csr.decode(), setAsActive=True
        )
        issued = x509.load_pem_x509_certificate(made["certificatePem"].encode())
        self.assertEqual(issued.public_key(), key.public_key())
        self.assertEqual(issued.subject, subject)

        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document([allow("iot:*", "*")]))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = Path(launcher.folder) / f"{unique()}.pem"
        file.write_bytes(pem + made["certificatePem"].encode())
        self.addCleanup(iot.detach_policy, policyName=policy, target=made["certificateArn"])
        return made["certificateId"], str(file)

    def test_certificate_from_a_csr_connects_until_it_is_revoked(self) -> None:
        certificate, file = self.enrol()
        client = Mqtt(5, unique("c"), file)
        self.addCleanup(client.socket.close)
        self.assertEqual(client.publish("a", b"{}")[0], PUBACK)
        for status in ("INACTIVE", "ACTIVE", "REVOKED"):
            with self.subTest(status):
                aws("iot").update_certificate(certificateId=certificate, newStatus=status)
                if status == "ACTIVE":
                    Mqtt(5, unique("c"), file).cut()
                else:
                    with self.assertRaises((OSError, EOFError)):
                        Mqtt(5, unique("c"), file)

    def test_deleted_certificate_does_not_connect(self) -> None:
        certificate, file = self.enrol()
        Mqtt(5, unique("c"), file).cut()
        iot = aws("iot")
        iot.update_certificate(certificateId=certificate, newStatus="INACTIVE")
        iot.delete_certificate(certificateId=certificate, forceDelete=True)
        with self.assertRaises((OSError, EOFError)):
            Mqtt(5, unique("c"), file)

    def test_request_that_is_no_csr_is_refused(self) -> None:
        with self.refused("InvalidRequestException"):
            aws("iot").create_certificate_from_csr(certificateSigningRequest="no CSR")


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
