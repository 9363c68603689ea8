"""Patches of ministack's Lambda: queueing, asynchronous invocation, permissions, environment, speed.

Pages named in the docstrings are of the AWS Lambda Developer Guide.
"""

from __future__ import annotations

import contextvars
import datetime
import json
import logging
import os
import threading
import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.core.responses import error_response_json, new_uuid, request_scope
from ministack.services import eventbridge, lambda_svc, s3, sns, sqs

from patches import roles
from patches.patching import patch, require, stock

logger = logging.getLogger("lambda")

MAX_SYNC = 6 * 1024 * 1024  # "Lambda quotas": request and response of a synchronous invocation
MAX_ASYNC = 1024 * 1024  # the same page: an asynchronous one's request
MAX_THROTTLE_DELAY = 300.0
DEFAULT_EVENT_AGE = 6 * 3600

require(
    lambda_svc,
    "_account_region_from_function_config",
    "_execute_function",
    "_execution_record_for_config",
    "_get_func_record_for_ref",
    "_inflight_key",
    "_reserved_concurrency",
    "_runtime_env_vars",
)
require(eventbridge, "_put_events")
require(sns, "publish_internal")
require(sqs, "_act_send_message", "_queue_by_arn")


# ---- Processes of a function ---------------------------------------------------------------------


def processes_per_function() -> int:
    """How many processes of one function may run: two for each CPU, and at least four."""
    given = os.environ.get("POSTERN_FUNCTION_PROCESSES")
    return int(given) if given else max(4, 2 * (os.cpu_count() or 1))


_slots: dict[str, threading.Semaphore] = {}


def process_slots(function: str) -> threading.Semaphore:
    """The slots of one function, of all its versions. The longest waiting thread is served first."""
    slots = _slots.get(function)
    # `setdefault` is atomic: two threads that come first agree on one semaphore.
    return slots or _slots.setdefault(function, threading.Semaphore(processes_per_function()))


_request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request", default=None)

_stock_dispatch = stock(lambda_svc, "_execute_function_dispatch")


@patch(lambda_svc, "_execute_function_dispatch")
def _execute_function_dispatch(
    func: dict, config: dict, event: Any, request_id: str, started: float
) -> dict:
    """Wait for one of the function's processes, then run the invocation.

    The function's timeout and the duration in its log start after the wait. A queued invocation
    counts as concurrent, as on AWS, where it would be running: ReservedConcurrentExecutions
    throttles it.

    AWS: all attempts of an asynchronous invocation have one request id ("Understanding retry
    behavior in Lambda").
    ministack: starts a process for each concurrent invocation, so that on a busy machine all of
    them run into their timeouts; and each attempt has a new request id.
    """
    with process_slots(lambda_svc._inflight_key(config)):
        request_id = _request_id.get() or request_id
        return _stock_dispatch(func, config, event, request_id, time.time())


# ---- Asynchronous invocation --------------------------------------------------------------------


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
        _request_id.set(request_id)
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


_stock_invoke = stock(lambda_svc, "_invoke")


@patch(lambda_svc, "_invoke")
async def _invoke(name: str, event: Any, headers: dict, *args: Any, **options: Any) -> tuple:
    """Limit payloads ("Lambda quotas").

    A larger request is refused with RequestTooLargeException; a larger response becomes the error
    Function.ResponseSizeTooLarge. ministack has no limits.
    """
    kind = headers.get("x-amz-invocation-type") or "RequestResponse"
    limit = MAX_ASYNC if kind == "Event" else MAX_SYNC
    length = len(json.dumps(event, ensure_ascii=False).encode())
    if length > limit:
        message = f"{length} byte payload is too large for the {kind} invocation type"
        message += f" (limit {limit} bytes)"
        return error_response_json("RequestTooLargeException", message, 413)

    status, answer_headers, body = await _stock_invoke(name, event, headers, *args, **options)
    if status == 200 and len(body) > MAX_SYNC:
        answer_headers["X-Amz-Function-Error"] = "Unhandled"
        message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
        body = json.dumps(error).encode()
    return status, answer_headers, body


# ---- Who may invoke a function ------------------------------------------------------------------

_rule_arn: contextvars.ContextVar[str] = contextvars.ContextVar("rule_arn", default="")

_stock_invoke_target = stock(eventbridge, "_invoke_target")


@patch(eventbridge, "_invoke_target")
def _invoke_target(target: dict, event: dict, rule: dict, view: Any = None) -> None:
    token = _rule_arn.set(rule.get("Arn", ""))
    try:
        _stock_invoke_target(target, event, rule, view)
    finally:
        _rule_arn.reset(token)


@patch(eventbridge, "_dispatch_to_lambda")
def _dispatch_to_lambda(arn: str, payload: str) -> None:
    """Invoke the target of an EventBridge rule, if the function's policy permits it.

    AWS: the policy needs a statement (EventBridge User Guide, "Using resource-based policies for
    Amazon EventBridge"), and the invocation is asynchronous.
    ministack: checks no permission and never retries.
    """
    func, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not func or not config:
        logger.warning("EventBridge: function %s not found", name)
    elif not roles.function_permits(arn, "events.amazonaws.com", _rule_arn.get()):
        logger.warning("EventBridge: %s may not invoke function %s", _rule_arn.get(), name)
    else:
        record = lambda_svc._execution_record_for_config(func, config)
        invoke_async_with_retry(record, json.loads(payload))


_stock_deliver = stock(s3, "_deliver_event_to_lambda")


@patch(s3, "_deliver_event_to_lambda")
def _deliver_event_to_lambda(arn: str, event: dict, bucket_region: str) -> None:
    """Invoke a function for a bucket, if the function's policy permits it ("Process Amazon S3
    event notifications with Lambda").

    ministack checks no permission.
    """
    bucket = event["Records"][0]["s3"]["bucket"]["arn"]
    if roles.function_permits(arn, "s3.amazonaws.com", bucket):
        _stock_deliver(arn, event, bucket_region)
    else:
        logger.warning("S3: %s may not invoke function %s", bucket, arn)


# ---- The environment of a function --------------------------------------------------------------

# The variables that a function inherits from the launcher: where programs, certificates and
# temporary files are.
INHERITED = {"PATH", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
# The variables that ministack sets, besides AWS_LAMBDA_*.
SET_BY_MINISTACK = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_DISABLE_HOST_PREFIX_INJECTION",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
}

_stock_worker_env = stock(lambda_svc, "_provided_worker_env")


@patch(lambda_svc, "_provided_worker_env")
def _provided_worker_env(config: dict, code_dir: str, port: int) -> dict:
    """The variables of a function: its own, and those of "Defined runtime environment variables".

    ministack adds the whole environment of the shell that started it, which hides a variable that
    the template forgets. It sets no variable for the function's LoggingConfig.
    """
    own = lambda_svc._runtime_env_vars(config)
    environment = {
        name: value
        for name, value in _stock_worker_env(config, code_dir, port).items()
        if name in own
        or name in INHERITED
        or name in SET_BY_MINISTACK
        or name.startswith("AWS_LAMBDA_")
    }
    logs = config.get("LoggingConfig") or {}
    group = logs.get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    environment["AWS_LAMBDA_LOG_GROUP_NAME"] = group
    if logs.get("LogFormat") == "JSON":
        environment["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        environment["AWS_LAMBDA_LOG_LEVEL"] = logs.get("ApplicationLogLevel") or "INFO"
    return environment


# ---- Speed --------------------------------------------------------------------------------------

_stock_build_handler = stock(lambda_runtime.ProvidedWorker, "_build_handler_class")


@patch(lambda_runtime.ProvidedWorker, "_build_handler_class")
def _build_handler_class(self: Any, *args: Any) -> type:
    """Send an event without a delay.

    ministack writes the head and the body of an event separately. With Nagle's algorithm, a runtime
    that keeps its connection open, as Rust's does, gets the body 40 ms later.
    """
    handler = _stock_build_handler(self, *args)
    handler.disable_nagle_algorithm = True
    return handler


_stock_drain = stock(lambda_runtime.ProvidedWorker, "_drain_stderr_bounded")


@patch(lambda_runtime.ProvidedWorker, "_drain_stderr_bounded")
def _drain_stderr_bounded(self: Any, first_line_wait: float = 0.01, **options: Any) -> str:
    """Wait 10 ms for log lines after an invocation, where ministack waits 50 ms.

    A later line is in the log of the next invocation.
    """
    return _stock_drain(self, first_line_wait, **options)
