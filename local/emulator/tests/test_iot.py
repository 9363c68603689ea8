"""IoT Core: limits, policies, certificates, rules."""

from __future__ import annotations

import base64
import json
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
    wait_for_log,
)
from tests.mqtt import DISCONNECT, PUBACK, SUBACK, Iot, Mqtt


def setUpModule() -> None:
    launcher.start(POSTERN_ASYNC_RETRY_SECONDS="0.1,0.3")


class IotLimits(Iot):
    def test_large_payload_over_http_is_refused(self) -> None:
        data = aws("iot-data")
        data.publish(topic="a", qos=1, payload=b"x" * 131_072)
        with self.assertRaises(ClientError) as caught:
            data.publish(topic="a", qos=1, payload=b"x" * 131_073)
        answer = caught.exception.response
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 413)
        self.assertEqual(answer["Error"]["Code"], "RequestEntityTooLargeException")

    def test_large_payload_over_mqtt_ends_the_connection(self) -> None:
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

    def test_topic_over_the_limits_is_refused(self) -> None:
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

    def test_topic_filter_over_the_limits_is_refused(self) -> None:
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

    def test_connack_announces_the_limits(self) -> None:
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

    def test_policy_can_name_attributes_of_the_thing(self) -> None:
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

    def test_text_that_is_not_a_csr_is_refused(self) -> None:
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
