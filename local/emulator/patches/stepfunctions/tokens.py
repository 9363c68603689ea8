"""Task tokens and their answers: SendTaskSuccess, SendTaskFailure, SendTaskHeartbeat."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import ministack.services.stepfunctions as sfn
from ministack.core import iam_actions

from patches.patching import patch, require, stock
from patches.stepfunctions.faults import MAX_DATA, refuse, too_long
from patches.stepfunctions.scope import current_scope

MAX_TOKEN, MAX_ERROR, MAX_CAUSE = 2_048, 256, 32_768  # API reference, SendTask*

require(sfn, "_task_tokens")

_machine_of: dict[str, str] = {}  # every token ever made -> ARN of its state machine
_lock = threading.RLock()


def new_token() -> str:
    """A token of hundreds of base64 characters, as on AWS ("Wait for a Callback with Task Token").

    ministack makes a UUID, which would hide that a buffer or a field is too small for a token.
    """
    return base64.b64encode(b"\0\0\0\x2a" + secrets.token_bytes(500)).decode()


def open_token(token: str, execution: dict) -> dict:
    """Register a waiting task. ministack's own activity tasks have the same fields."""
    task = {"event": threading.Event(), "result": None, "error": None}
    task.update(heartbeat=time.monotonic(), scope=current_scope())
    _machine_of[token] = execution["stateMachineArn"]
    sfn._task_tokens[token] = task
    return task


def close_token(token: str) -> None:
    with _lock:
        sfn._task_tokens.pop(token, None)


def is_cancelled(task: dict) -> bool:
    """Whether the task's execution or branch has ended. ministack's activity tasks have no scope."""
    return "scope" in task and task["scope"].cancelled


def settle(task: dict, result: str | None = None, error: dict | None = None) -> None:
    """End a waiting task with a result or an error. Only the first call has an effect."""
    with _lock:
        if not task["event"].is_set():
            task["result"], task["error"] = result, error
            task["event"].set()


_stock_resource = stock(iam_actions, "extract_resource_arn")


@patch(iam_actions, "extract_resource_arn")
def extract_resource_arn(
    service: str, method: str, path: str, headers: dict, body: bytes, *rest: Any
) -> str:
    """The permission to answer a task can name the state machine as its resource.

    AWS: the CDK's `grantTaskResponse` and the samples for callbacks grant it in this way.
    ministack: requires a permission on `*`.
    """
    if service == "states" and ".SendTask" in headers.get("x-amz-target", ""):
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            return _machine_of.get(json.loads(body).get("taskToken"), "*")
    return _stock_resource(service, method, path, headers, body, *rest)


def answer_task(data: dict, limits: dict[str, int], answer: Callable[[dict], None]) -> tuple:
    """The common part of SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat (API reference).

    AWS: InvalidToken when the token was never issued, TaskTimedOut when its task has ended for any
    reason, ValidationException when a member is too long.
    ministack: answers TaskDoesNotExist, or accepts the call; it has no limits.
    """
    refusal = too_long(data, {"taskToken": MAX_TOKEN, **limits})
    if refusal:
        return refusal

    token = data.get("taskToken") or ""
    with _lock:
        task = sfn._task_tokens.get(token)
        if task is None and token not in _machine_of:
            return refuse("InvalidToken", "Invalid Token: 'Invalid token'")
        if task is None or task["event"].is_set() or is_cancelled(task):
            return refuse("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
        answer(task)
    return sfn.json_response({})


@patch(sfn, "_send_task_success")
def _send_task_success(data: dict) -> tuple:
    """Output that is not JSON is InvalidOutput (API reference "SendTaskSuccess").

    ministack accepts it.
    """
    output = data.get("output") or ""
    try:
        json.loads(output)
    except ValueError:
        return refuse("InvalidOutput", "Invalid Output: 'Output is not valid JSON'")
    return answer_task(data, {"output": MAX_DATA}, lambda task: settle(task, result=output))


@patch(sfn, "_send_task_failure")
def _send_task_failure(data: dict) -> tuple:
    error = {"Error": data.get("error") or "", "Cause": data.get("cause") or ""}
    limits = {"error": MAX_ERROR, "cause": MAX_CAUSE}
    return answer_task(data, limits, lambda task: settle(task, error=error))


@patch(sfn, "_send_task_heartbeat")
def _send_task_heartbeat(data: dict) -> tuple:
    return answer_task(data, {}, lambda task: task.update(heartbeat=time.monotonic()))
