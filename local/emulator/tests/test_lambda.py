"""Lambda: payloads, environment, speed, permissions."""

from __future__ import annotations

import json
import os
import time
import unittest.mock

from tests.harness import (
    REGION,
    LambdaCase,
    allow,
    arn,
    aws,
    client,
    inbox,
    launcher,
    make_queue,
    receive,
    unique,
    until,
    wait_for_log,
)


def setUpModule() -> None:
    launcher.start()


class Lambda(LambdaCase):
    def test_retries_wait_one_and_two_minutes_by_default(self) -> None:
        from patches.lambda_.asynchronous import retry_delays

        with unittest.mock.patch.dict(os.environ):
            os.environ.pop("POSTERN_ASYNC_RETRY_SECONDS", None)
            self.assertEqual(retry_delays(), [60.0, 120.0])

    def test_old_event_is_dropped(self) -> None:
        url, queue_arn = make_queue()
        name, key = self.function(allow("sqs:SendMessage", queue_arn)), unique()
        self.configure(  # the first retry would be after a minute
            name,
            MaximumEventAgeInSeconds=60,
            DestinationConfig={"OnFailure": {"Destination": queue_arn}},
        )
        self.invoke_async(name, {"key": key, "do": "fail", "error": "E"})
        record = json.loads(receive(url)["Body"])

        self.assertEqual(record["requestContext"]["condition"], "EventAgeExceeded")
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 1)
        self.assertEqual(record["responsePayload"]["errorType"], "E")
        self.assertEqual(len(inbox.of(key)), 1)

    def test_large_requests_and_responses_are_refused(self) -> None:
        name = self.function()
        with self.refused("RequestTooLargeException"):
            self.invoke(name, {"x": "a" * (6 * 1024 * 1024)})
        with self.refused("RequestTooLargeException"):
            self.invoke_async(name, {"x": "a" * (1024 * 1024)})
        self.assertEqual(len(self.invoke(name, {"do": "size", "size": 5_000_000})), 5_000_000)
        found = self.invoke(name, {"do": "size", "size": 7_000_000})
        self.assertEqual(found["errorType"], "Function.ResponseSizeTooLarge")

    def test_function_has_only_its_own_environment(self) -> None:
        name = self.function(LoggingConfig={"LogFormat": "JSON"})
        found = self.invoke(name, {"do": "environment"})
        self.assertNotIn("SHELL_VARIABLE", found)
        self.assertNotIn("HOME", found)
        self.assertNotIn("GATEWAY_PORT", found)
        self.assertEqual(found["INBOX"], inbox.url)
        self.assertEqual(found["AWS_ENDPOINT_URL"], f"http://127.0.0.1:{launcher.port}")
        self.assertEqual(found["AWS_REGION"], REGION)
        self.assertEqual(found["AWS_LAMBDA_LOG_FORMAT"], "JSON")
        self.assertEqual(found["AWS_LAMBDA_LOG_GROUP_NAME"], f"/aws/lambda/{name}")

        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        caller = client("sts", *(found[name] for name in names)).get_caller_identity()
        self.assertIn(":assumed-role/", caller["Arn"])

    def test_invocations_are_fast(self) -> None:
        name = self.function()

        def timed() -> float:
            began = time.monotonic()
            self.assertEqual(self.invoke(name, {"do": "silent"}), {"do": "silent"})
            return time.monotonic() - began

        self.assertLess(min(timed() for _ in range(15)), 0.05)

    def test_s3_needs_permission(self) -> None:
        name, bucket = self.function(), unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        target = {"LambdaFunctionArn": arn("lambda", f"function:{name}")}
        target["Events"] = ["s3:ObjectCreated:*"]
        aws("s3").put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"LambdaFunctionConfigurations": [target]},
            SkipDestinationValidation=True,
        )
        aws("s3").put_object(Bucket=bucket, Key="refused", Body=b"")
        wait_for_log(f"S3: arn:aws:s3:::{bucket} may not invoke function")
        aws("lambda").add_permission(
            FunctionName=name,
            StatementId="s",
            Action="lambda:InvokeFunction",
            Principal="s3.amazonaws.com",
            SourceArn=f"arn:aws:s3:::{bucket}",
        )
        aws("s3").put_object(Bucket=bucket, Key="allowed", Body=b"")

        def keys() -> list[str]:
            found = [r["event"] for r in list(inbox.reports) if r["function"] == name]
            return [event["Records"][0]["s3"]["object"]["key"] for event in found]

        self.assertEqual(until(keys, "an event of S3"), ["allowed"])
