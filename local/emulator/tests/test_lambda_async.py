"""Lambda: asynchronous invocations, their retries and destinations."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

from tests.harness import (
    LambdaCase,
    allow,
    arn,
    aws,
    inbox,
    launcher,
    make_queue,
    receive,
    unique,
    wait_for_log,
)


def setUpModule() -> None:
    launcher.start(POSTERN_ASYNC_RETRY_SECONDS="0.1,0.3")


class AsyncInvocations(LambdaCase):
    def test_failed_event_is_retried_and_sent_to_its_destination(self) -> None:
        url, queue_arn = make_queue()
        name, key = self.function(allow("sqs:SendMessage", queue_arn)), unique()
        self.configure(name, DestinationConfig={"OnFailure": {"Destination": queue_arn}})
        event = {"key": key, "do": "fail", "error": "My.Error"}
        self.invoke_async(name, event)
        record = json.loads(receive(url)["Body"])
        reports = inbox.of(key)

        self.assertEqual(len(reports), 3)

        (request,) = {report["request"] for report in reports}
        self.assertRegex(record.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            record,
            {
                "version": "1.0",
                "requestContext": {
                    "requestId": request,
                    "functionArn": arn("lambda", f"function:{name}:$LATEST"),
                    "condition": "RetriesExhausted",
                    "approximateInvokeCount": 3,
                },
                "requestPayload": event,
                "responseContext": {
                    "statusCode": 200,
                    "executedVersion": "$LATEST",
                    "functionError": "Unhandled",
                },
                "responsePayload": {"errorType": "My.Error", "errorMessage": "as requested"},
            },
        )
        self.assertGreaterEqual(reports[1]["time"] - reports[0]["time"], 0.1)
        self.assertGreaterEqual(reports[2]["time"] - reports[1]["time"], 0.3)

    def test_destination_needs_the_functions_role(self) -> None:
        url, queue_arn = make_queue()
        name = self.function()
        settings = {"MaximumRetryAttempts": 0}
        settings["DestinationConfig"] = {"OnFailure": {"Destination": queue_arn}}
        self.configure(name, **settings)
        self.invoke_async(name, {"do": "fail", "error": "E"})
        wait_for_log(f"Lambda {name}: its role does not permit its destination")
        counted = aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])

        self.assertEqual(counted["Attributes"]["ApproximateNumberOfMessages"], "0")

    def test_success_is_sent_to_its_destination(self) -> None:
        url, queue_arn = make_queue()
        name = self.function(allow("sqs:SendMessage", queue_arn))
        self.configure(name, DestinationConfig={"OnSuccess": {"Destination": queue_arn}})
        self.invoke_async(name, {"a": 1})
        record = json.loads(receive(url)["Body"])

        self.assertEqual(record["requestContext"]["condition"], "Success")
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 1)
        self.assertEqual(record["responsePayload"], {"a": 1})
        self.assertNotIn("functionError", record["responseContext"])

    def test_dead_letter_queue_gets_the_event(self) -> None:
        url, queue_arn = make_queue()
        statement = allow("sqs:SendMessage", queue_arn)
        name, key = self.function(statement, DeadLetterConfig={"TargetArn": queue_arn}), unique()
        self.configure(name, MaximumRetryAttempts=0)
        event = {"key": key, "do": "fail", "error": "E"}
        self.invoke_async(name, event)
        message = receive(url)

        self.assertEqual(json.loads(message["Body"]), event)

        attributes = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
        request = inbox.of(key)[0]["request"]
        expected = {"RequestID": request, "ErrorCode": "200", "ErrorMessage": "as requested"}
        self.assertEqual(attributes, expected)

    def test_event_for_a_function_without_concurrency_is_dropped(self) -> None:
        url, queue_arn = make_queue()
        name = self.function(allow("sqs:SendMessage", queue_arn))
        self.configure(name, DestinationConfig={"OnFailure": {"Destination": queue_arn}})
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.invoke_async(name, {"a": 1})
        record = json.loads(receive(url)["Body"])
        self.assertEqual(record["requestContext"]["condition"], "ZeroReservedConcurrency")
        self.assertNotIn("responsePayload", record)

    def test_throttling_does_not_count_as_an_attempt(self) -> None:
        url, queue_arn = make_queue()
        name, first, second = self.function(allow("sqs:SendMessage", queue_arn)), unique(), unique()
        self.configure(
            name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnSuccess": {"Destination": queue_arn}},
        )
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        hanging = threading.Thread(target=self.invoke, args=(name, {"key": first, "do": "hang"}))
        hanging.start()
        report = inbox.wait(first)[0]
        self.invoke_async(name, {"key": second})
        time.sleep(0.3)
        os.kill(report["pid"], signal.SIGKILL)
        hanging.join()
        record = json.loads(receive(url)["Body"])

        self.assertEqual(record["requestPayload"], {"key": second})
        self.assertGreaterEqual(record["requestContext"]["approximateInvokeCount"], 2)
        self.assertEqual(len(inbox.of(second)), 1)

    def test_eventbridge_needs_permission_and_retries(self) -> None:
        name, rule, key = self.function(), unique("rule"), unique()
        self.configure(name, MaximumRetryAttempts=1)
        source = unique("source")
        rule_arn = aws("events").put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
        target = {"Id": "1", "Arn": arn("lambda", f"function:{name}")}
        target["Input"] = json.dumps({"key": key, "do": "fail", "error": "E"})
        aws("events").put_targets(Rule=rule, Targets=[target])
        entries = [{"Source": source, "DetailType": "t", "Detail": "{}"}]
        aws("events").put_events(Entries=entries)
        wait_for_log(f"{rule_arn['RuleArn']} may not invoke function {name}")

        self.assertEqual(inbox.of(key), [])

        aws("lambda").add_permission(
            FunctionName=name,
            StatementId="s",
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rule_arn["RuleArn"],
        )
        aws("events").put_events(Entries=entries)

        self.assertEqual(len(inbox.wait(key, 2)), 2)
