"""Asynchronous invocations: retries, records, destinations, the dead-letter queue."""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import threading
import time
from typing import Any

from ministack.core.responses import new_uuid, request_scope
from ministack.services import eventbridge, lambda_svc, sns, sqs

from patches import roles
from patches.lambda_.processes import REQUEST_ID
from patches.patching import patch, require

logger = logging.getLogger("lambda")

MAX_THROTTLE_DELAY = 300.0
DEFAULT_EVENT_AGE = 6 * 3600

require(
    lambda_svc,
    "_account_region_from_function_config",
    "_execute_function",
    "_execution_record_for_config",
    "_get_func_record_for_ref",
    "_reserved_concurrency",
)
require(eventbridge, "_put_events")
require(sns, "publish_internal")
require(sqs, "_act_send_message", "_queue_by_arn")


def retry_delays() -> list[float]:
    """Seconds before the first and the second retry. Tests set them to fractions of a second."""
    given = os.environ.get("POSTERN_ASYNC_RETRY_SECONDS") or "60,120"
    return [float(part) for part in given.split(",")]


@patch(lambda_svc, "invoke_async_with_retry")
def invoke_async_with_retry(func: dict, event: Any) -> None:
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(invoke_async, func, event), daemon=True).start()


def invoke_async(func: dict, event: Any) -> None:
    """Run an asynchronous invocation to its end ("How Lambda handles errors and retries with
    asynchronous invocation").

    AWS: waits 1 minute after the first error, then 2. A throttled event goes back to the queue for
    1 s, then longer, up to 5 minutes, which does not count as an attempt. An event older than
    MaximumEventAgeInSeconds is dropped, and so is an event for a function whose reserved
    concurrency is 0.
    ministack: waits 1 s, then 2. Throttling counts as an error. The only condition it reports is
    RetriesExhausted.
    """
    config = func.get("config") or func
    account, region = lambda_svc._account_region_from_function_config(config)
    configs = func.get("event_invoke_configs") or {}
    settings = func.get("event_invoke_config") or configs.get("$LATEST") or {}
    retries = settings.get("MaximumRetryAttempts")
    retries = 2 if retries is None else int(retries)
    age_limit = float(settings.get("MaximumEventAgeInSeconds") or DEFAULT_EVENT_AGE)
    delays = retry_delays()

    request_id = new_uuid()
    started = time.monotonic()
    errors = throttles = 0
    with request_scope(account, region):
        REQUEST_ID.set(request_id)
        while True:
            result = lambda_svc._execute_function(func, event)
            if result.get("throttle"):
                throttles += 1
                delay = min(2.0 ** (throttles - 1), MAX_THROTTLE_DELAY)
                if lambda_svc._reserved_concurrency(func, config) == 0:
                    condition = "ZeroReservedConcurrency"
                    break
            elif result.get("error"):
                errors += 1
                if errors > retries:
                    condition = "RetriesExhausted"
                    break
                delay = delays[min(errors, len(delays)) - 1]
            else:
                condition = "Success"
                break
            if time.monotonic() - started + delay > age_limit:
                condition = "EventAgeExceeded"
                break
            time.sleep(delay)

        invocation = Invocation(config, event, result, request_id, condition, errors + throttles)
        invocation.send_to(settings.get("DestinationConfig") or {})


class Invocation:
    """An asynchronous invocation that has ended, and the destinations of its record."""

    def __init__(
        self, config: dict, event: Any, result: dict, request_id: str, condition: str, failed: int
    ) -> None:
        self.config = config
        self.event = event
        self.result = result
        self.request_id = request_id
        self.condition = condition
        self.count = failed + (condition == "Success")

    def record(self) -> dict:
        """The invocation record ("Capturing records of Lambda asynchronous invocations").

        ministack leaves out version, timestamp, requestId, executedVersion and the qualifier of
        functionArn; its approximateInvokeCount is always 3.
        """
        now = datetime.datetime.now(datetime.UTC)
        version = self.config.get("Version", "$LATEST")
        response = {"statusCode": 200, "executedVersion": version}
        if self.condition != "Success":
            response["functionError"] = self.result.get("function_error") or "Unhandled"
        record = {
            "version": "1.0",
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z",
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": f"{self.config['FunctionArn']}:{version}",
                "condition": self.condition,
                "approximateInvokeCount": self.count,
            },
            "requestPayload": self.event,
        }
        if not self.result.get("throttle"):
            record["responseContext"] = response
            record["responsePayload"] = self.result.get("body")
        return record

    def send_to(self, destinations: dict) -> None:
        """Send the record to its destination, and the event of a failure to the dead-letter queue.

        ministack has no OnSuccess, and sends the record to the dead-letter queue.
        """
        outcome = "OnSuccess" if self.condition == "Success" else "OnFailure"
        arn = (destinations.get(outcome) or {}).get("Destination")
        if arn:
            self.send(arn, json.dumps(self.record()), {})
        dead_letters = (self.config.get("DeadLetterConfig") or {}).get("TargetArn")
        if dead_letters and outcome == "OnFailure":
            body = self.result.get("body")
            message = body.get("errorMessage", "") if isinstance(body, dict) else str(body)
            attributes = {"RequestID": self.request_id, "ErrorCode": "200", "ErrorMessage": message}
            self.send(dead_letters, json.dumps(self.event), attributes)

    def send(self, arn: str, body: str, attributes: dict[str, str]) -> None:
        """Send to a destination, if the function's role permits it ("Permissions for
        destinations").

        ministack does not check the role.
        """
        name = self.config["FunctionName"]
        service = arn.split(":")[2]
        action = {
            "sqs": "sqs:SendMessage",
            "sns": "sns:Publish",
            "lambda": "lambda:InvokeFunction",
            "events": "events:PutEvents",
        }[service]
        why_not = roles.denial(self.config.get("Role", ""), "lambda", name, action, arn)
        if why_not:
            logger.warning("Lambda %s: its role does not permit its destination: %s", name, why_not)
            return

        if service == "sqs":
            queue = sqs._queue_by_arn(arn)
            if queue is None:
                logger.warning("Lambda %s: destination %s not found", name, arn)
                return
            message: dict[str, Any] = {"MessageBody": body}
            if attributes:
                message["MessageAttributes"] = {
                    key: {"DataType": "String", "StringValue": value}
                    for key, value in attributes.items()
                }
            sqs._act_send_message(message, queue["url"])
        elif service == "sns":
            sns.publish_internal(arn, body)
        elif service == "lambda":
            func, config, _ = lambda_svc._get_func_record_for_ref(arn)
            if func and config:
                record = lambda_svc._execution_record_for_config(func, config)
                invoke_async_with_retry(record, json.loads(body))
        else:
            entry = {"Source": "lambda", "Detail": body, "EventBusName": arn}
            entry["DetailType"] = f"Lambda Function Invocation Result - {self.condition}"
            eventbridge._put_events({"Entries": [entry]})
