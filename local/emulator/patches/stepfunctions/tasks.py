"""Task states: their call, their callback, TimeoutSeconds and HeartbeatSeconds."""

from __future__ import annotations

import json
import time
from typing import Any

import ministack.services.stepfunctions as sfn

from patches import roles
from patches.patching import patch, require, stock
from patches.stepfunctions.faults import TaskError, check_size, text
from patches.stepfunctions.history import TaskHistory
from patches.stepfunctions.paths import effective_input, finish_state
from patches.stepfunctions.retries import with_retry_and_catch
from patches.stepfunctions.scope import EXECUTION, current_scope, start_thread
from patches.stepfunctions.tokens import close_token, new_token, open_token, settle

require(sfn, "_apply_jsonata_template", "_invoke_resource", "_resolve_path_or_ctx")


def task_limit(state: dict, field: str, data: Any, ctx: dict) -> float | None:
    """TimeoutSeconds or HeartbeatSeconds, given as a number, a path or JSONata ("Task state").

    ministack reads TimeoutSeconds as a number only, and ignores HeartbeatSeconds.
    """
    path, value = state.get(field + "Path"), state.get(field)
    if path is None and value is None:
        return None

    if path is not None:
        value = sfn._resolve_path_or_ctx(path, data, ctx)
    elif isinstance(value, str):
        value = sfn._apply_jsonata_template({"value": value}, data, ctx)["value"]

    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise TaskError("States.Runtime", f"{field} must be a positive integer, not {text(value)}")
    return value


def wait_for_task(task: dict, timeout: float | None, heartbeat: float | None) -> None:
    """Wait until a task is answered, or until TimeoutSeconds or HeartbeatSeconds have passed.

    AWS: a heartbeat restarts HeartbeatSeconds and does not extend TimeoutSeconds ("Task state").
    ministack: HeartbeatSeconds never expires.
    """
    started = time.monotonic()
    while True:
        deadlines = []
        if timeout is not None:
            deadlines.append((started + timeout, "States.Timeout"))
        if heartbeat is not None:
            deadlines.append((task["heartbeat"] + heartbeat, "States.HeartbeatTimeout"))

        deadline, error = min(deadlines, default=(None, ""))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if current_scope().wait(task["event"], left):
            return
        if left == 0.0:
            settle(task, error={"Error": error, "Cause": ""})
            return


def call_task(resource: str, parameters: Any, task: dict, history: TaskHistory) -> None:
    """Make the call of a Task state. It ends the task, unless the task waits for a callback.

    AWS: a failed call ends a callback task too, with the function's errorType ("Handling errors in
    Step Functions workflows").
    ministack: drops the error of a Lambda function and waits for the timeout.
    """
    plain = resource.removesuffix(".waitForTaskToken")
    try:
        roles.authorize_task(EXECUTION.get(), plain, parameters)
        output = sfn._invoke_resource(plain, parameters)
        check_size(output, f"The state/task '{resource}' returned a result with a size exceeding")
    except TaskError as error:
        settle(task, error={"Error": error.error, "Cause": error.cause})
    except Exception as error:  # noqa: BLE001 - an error of ministack must not leave the task waiting
        settle(task, error={"Error": "States.Runtime", "Cause": repr(error)})
    else:
        if plain == resource:
            settle(task, result=text(output))
        elif not task["event"].is_set():
            history.submitted(output)


def attempt_task(state: dict, raw_input: Any, execution: dict, ctx: dict) -> Any:
    """One attempt of a Task state: the task's result, or TaskError.

    AWS: each attempt has a token of its own, which becomes invalid when the attempt ends ("Wait
    for a Callback with Task Token").
    ministack: all attempts have the same token, which stays valid even after StopExecution.
    """
    resource = state["Resource"]
    token = new_token()
    if resource.endswith(".waitForTaskToken"):
        ctx["Task"] = {"Token": token}
    parameters = effective_input(state, raw_input, ctx)
    timeout = task_limit(state, "TimeoutSeconds", raw_input, ctx)
    heartbeat = task_limit(state, "HeartbeatSeconds", raw_input, ctx)

    history = TaskHistory(execution, resource)
    history.scheduled(parameters, timeout, heartbeat)
    task = open_token(token, execution)
    try:
        check_size(parameters, f"The state/task '{resource}' was given parameters exceeding")
        current_scope().check()
        history.started()
        start_thread(call_task, resource, parameters, task, history)
        wait_for_task(task, timeout, heartbeat)
        if task["error"] is not None:
            raise TaskError(task["error"]["Error"], task["error"]["Cause"])
    except TaskError as error:
        history.failed(error)
        raise
    finally:
        close_token(token)

    result = json.loads(task["result"])
    history.succeeded(result)
    return result


_stock_execute_task = stock(sfn, "_execute_task")


@patch(sfn, "_execute_task")
def _execute_task(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    if ":activity:" in state["Resource"]:
        return _stock_execute_task(state, raw_input, execution, ctx)

    def attempt() -> tuple:
        result = attempt_task(state, raw_input, execution, ctx)
        return finish_state(state, raw_input, result, ctx)

    return with_retry_and_catch(state, raw_input, ctx, attempt)
