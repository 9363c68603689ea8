"""Mends of ministack's Step Functions interpreter.

Everything under test in Postern hangs on callback tasks (`.waitForTaskToken`), so the part of
the interpreter that runs tasks, branches and whole executions is written anew here; ministack's
own code still does paths, intrinsic functions, JSONata, Choice, Wait, Pass and the service calls.
Pages named in the docstrings are of the AWS Step Functions Developer Guide.
"""

from __future__ import annotations

import base64
import contextvars
import copy
import json
import os
import queue
import random
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import ministack.services.lambda_svc as lambda_svc
import ministack.core.iam_actions as iam_actions
import ministack.services.stepfunctions as sfn

import roles
from patching import mend, require, stock

TaskError = stock(sfn, "_ExecutionError")
MAX_DATA = 262_144  # "Step Functions service quotas": bytes of input or output
MAX_TOKEN, MAX_ERROR, MAX_CAUSE = 2_048, 256, 32_768  # API reference, SendTask*
INLINE_MAP_CONCURRENCY = 40  # "Inline mode": at most 40 iterations at once

require(
    sfn,
    "_add_event",
    "_apply_catcher",
    "_apply_input_path",
    "_apply_jsonata_arguments",
    "_apply_jsonata_output",
    "_apply_jsonata_template",
    "_apply_output_path",
    "_apply_parameters",
    "_apply_result_path",
    "_apply_state_assign",
    "_emit_execution_status_event",
    "_execute_choice",
    "_execute_map",
    "_execute_parallel",
    "_execute_pass",
    "_execute_wait",
    "_executions",
    "_fail_state_error",
    "_find_matching_catcher",
    "_find_matching_retrier",
    "_invoke_resource",
    "_next_or_end",
    "_parse_jsonpath_tokens",
    "_resolve_params_obj",
    "_resolve_path_or_ctx",
    "_resolve_state_machine_arn",
    "_sfn_mock_config",
    "_SFN_WAIT_SCALE",
    "_state_machines",
    "_state_query_language",
    "_task_tokens",
)
require(
    lambda_svc,
    "_execute_function_with_config_scope",
    "_execution_record_for_config",
    "_get_func_record_for_ref",
)


# ---- Waiting, and being told to stop ------------------------------------------------------------


class Cancelled(BaseException):
    """The execution was stopped or timed out, or a sibling branch failed: unwind silently."""


class Scope:
    """What can be cancelled as one: an execution, or the branches of one Parallel or Map state.

    Every wait of the interpreter goes through `wait`, so that cancelling a scope wakes all that
    waits in it at once, its inner scopes included, and no thread and no token outlives it.
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self._lock = threading.Lock()
        self._on_cancel: set[Callable[[], None]] = set()
        self._outer = outer
        self.cancelled = False
        if outer is not None:
            outer._listen(self.cancel)

    def _listen(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.cancelled:
                self._on_cancel.add(callback)
                return
        callback()

    def _unlisten(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._on_cancel.discard(callback)

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            callbacks, self._on_cancel = self._on_cancel, set()
        for callback in callbacks:
            callback()

    def close(self) -> None:
        if self._outer is not None:
            self._outer._unlisten(self.cancel)

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        """Wait for `event`; true when it was set, false when `seconds` passed first."""
        self._listen(event.set)
        try:
            happened = event.wait(seconds)
        finally:
            self._unlisten(event.set)
        self.check()
        return happened


_scope: contextvars.ContextVar[Scope] = contextvars.ContextVar("scope")
_execution: contextvars.ContextVar[dict | None] = contextvars.ContextVar("execution", default=None)
# [ARN of the execution, id of the last event] of this branch; the threads of a branch share it.
_last_event: contextvars.ContextVar[list] = contextvars.ContextVar("last_event")
_context: contextvars.ContextVar[dict] = contextvars.ContextVar("context")
_running: dict[str, Scope] = {}  # execution ARN -> its scope


def current_scope() -> Scope:
    return _scope.get(None) or Scope()


def start_thread(function: Callable[..., Any], *args: Any) -> None:
    """Run in a daemon thread which keeps the account, region, scope and event chain."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(function, *args), daemon=True).start()


def sleep(seconds: float) -> None:
    current_scope().wait(threading.Event(), max(0.0, seconds))


@mend(sfn, "_scaled_sleep")
def _scaled_sleep(seconds: float) -> None:
    """Wait states and Retry intervals end when the execution is stopped ("StopExecution").

    ministack: time.sleep, which a stopped execution sleeps to its end.
    """
    sleep(seconds * sfn._SFN_WAIT_SCALE)


# ---- History ------------------------------------------------------------------------------------

_history_lock = threading.Lock()


@mend(sfn, "_add_event")
def _add_event(execution: dict, event_type: str, details: dict | None = None) -> dict:
    """Events are chained by previousEventId, per branch (API reference "HistoryEvent").

    ministack: no previousEventId; two branches can be given the same id.
    """
    arn = execution["executionArn"]
    with _history_lock:
        events = execution["events"]
        last = _last_event.get(None)
        if last is None or last[0] != arn:
            last = [arn, len(events)]
            _last_event.set(last)
        event = {
            "id": len(events) + 1,
            "previousEventId": last[1],
            "type": event_type,
            "timestamp": sfn.now_iso(),
            **(details or {}),
        }
        events.append(event)
        last[1] = event["id"]
    return event


def text(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def size(data: Any) -> int:
    return len(text(data).encode())


class TaskHistory:
    """The events of one attempt of a Task state (API reference "HistoryEvent").

    ministack: only TaskScheduled, TaskSucceeded and TaskFailed, with the whole ARN as `resource`,
    and none of the LambdaFunction* events of a task whose Resource is a function's ARN.
    """

    NOT_TRUNCATED = {"truncated": False}

    def __init__(self, execution: dict, resource: str) -> None:
        self.execution = execution
        self.resource = resource
        self.is_function = ":function:" in resource
        kind = resource.split(":")[5:]
        self.kind = {"resourceType": ":".join(kind[:-1]) or "states", "resource": kind[-1]}

    def _add(self, event_type: str, **details: Any) -> None:
        if self.is_function:
            event_type = event_type.replace("Task", "LambdaFunction", 1)
        else:
            details = {**self.kind, **details}
        key = event_type[0].lower() + event_type[1:] + "EventDetails"
        sfn._add_event(self.execution, event_type, {key: details} if details else None)

    def scheduled(self, parameters: Any, timeout: float | None, heartbeat: float | None) -> None:
        limits = {"timeoutInSeconds": timeout, "heartbeatInSeconds": heartbeat}
        limits = {name: int(value) for name, value in limits.items() if value is not None}
        if self.is_function:
            limits.pop("heartbeatInSeconds", None)
            parts = {"resource": self.resource, "input": text(parameters)}
            self._add("TaskScheduled", **parts, inputDetails=self.NOT_TRUNCATED, **limits)
        else:
            self._add(
                "TaskScheduled", region=sfn.get_region(), parameters=text(parameters), **limits
            )

    def started(self) -> None:
        self._add("TaskStarted")

    def submitted(self, output: Any) -> None:
        self._add("TaskSubmitted", output=text(output), outputDetails=self.NOT_TRUNCATED)

    def succeeded(self, output: Any) -> None:
        self._add("TaskSucceeded", output=text(output), outputDetails=self.NOT_TRUNCATED)

    def failed(self, error: Exception) -> None:
        timed_out = error.error in ("States.Timeout", "States.HeartbeatTimeout")
        event_type = "TaskTimedOut" if timed_out else "TaskFailed"
        self._add(event_type, error=error.error, cause=error.cause)


# ---- Task tokens --------------------------------------------------------------------------------

_closed_tokens: set[str] = set()
_machine_of: dict[str, str] = {}  # the state machine that each token belongs to
_token_lock = threading.RLock()


def new_token() -> str:
    """AWS's tokens are hundreds of characters of base64 ("Wait for a Callback with Task Token").

    ministack: a UUID, beside which every buffer is large enough.
    """
    return base64.b64encode(b"\0\0\0\x2a" + secrets.token_bytes(500)).decode()


def open_token(token: str) -> dict:
    """A waiting task, in the shape that ministack's own activity tasks have too."""
    task = {"event": threading.Event(), "result": None, "error": None}
    task["heartbeat"] = time.monotonic()
    sfn._task_tokens[token] = task
    execution = _execution.get()
    if execution is not None:
        _machine_of[token] = execution["stateMachineArn"]
    return task


def close_token(token: str) -> None:
    with _token_lock:
        _closed_tokens.add(token)
        sfn._task_tokens.pop(token, None)


def settle(task: dict, result: str | None = None, error: dict | None = None) -> None:
    """Give a waiting task its result or its error. The first one counts."""
    with _token_lock:
        if not task["event"].is_set():
            task["result"], task["error"] = result, error
            task["event"].set()


def refuse(code: str, message: str) -> tuple:
    return sfn.error_response_json(code, message, 400)


def too_long(member: str, limit: int) -> tuple:
    return refuse(
        "ValidationException",
        f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
        f"Member must have length less than or equal to {limit}",
    )


def answer_task(data: dict, limits: dict[str, int], answer: Callable[[dict], None]) -> tuple:
    """What SendTaskSuccess, SendTaskFailure and SendTaskHeartbeat have in common (API reference).

    AWS: InvalidToken for what never was a token, TaskTimedOut for one whose task has ended in
    whatever way, ValidationException for too long a member.
    ministack: TaskDoesNotExist for all of these, or accepts; no limits.
    """
    token = data.get("taskToken") or ""
    for member, limit in {"taskToken": MAX_TOKEN, **limits}.items():
        if len((data.get(member) or "").encode()) > limit:
            return too_long(member, limit)
    with _token_lock:
        task = sfn._task_tokens.get(token)
        if task is None and token not in _closed_tokens:
            return refuse("InvalidToken", "Invalid Token: 'Invalid token'")
        if task is None or task["event"].is_set():
            return refuse("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
        answer(task)
    return sfn.json_response({})


_stock_resource = stock(iam_actions, "extract_resource_arn")


@mend(iam_actions, "extract_resource_arn")
def extract_resource_arn(service: str, method: str, path: str, headers: dict, body: bytes, *rest: Any) -> str:
    """The permission to answer a task can name the state machine.

    AWS: so the CDK's `grantTaskResponse` and the samples for callbacks grant it.
    ministack: asks for a permission on every resource.
    """
    if service == "states" and "SendTask" in headers.get("x-amz-target", ""):
        return _machine_of.get(json.loads(body).get("taskToken") or "", "*")
    return _stock_resource(service, method, path, headers, body, *rest)


@mend(sfn, "_send_task_success")
def _send_task_success(data: dict) -> tuple:
    """Non-JSON output is InvalidOutput (API reference "SendTaskSuccess"). ministack: accepted."""
    output = data.get("output") or ""
    try:
        json.loads(output)
    except ValueError:
        return refuse("InvalidOutput", "Invalid Output: 'Output is not valid JSON'")

    return answer_task(data, {"output": MAX_DATA}, lambda task: settle(task, result=output))


@mend(sfn, "_send_task_failure")
def _send_task_failure(data: dict) -> tuple:
    error = {"Error": data.get("error") or "", "Cause": data.get("cause") or ""}
    limits = {"error": MAX_ERROR, "cause": MAX_CAUSE}
    return answer_task(data, limits, lambda task: settle(task, error=error))


@mend(sfn, "_send_task_heartbeat")
def _send_task_heartbeat(data: dict) -> tuple:
    def beat(task: dict) -> None:
        task["heartbeat"] = time.monotonic()

    return answer_task(data, {}, beat)


# ---- Task states --------------------------------------------------------------------------------


def task_limit(state: dict, field: str, data: Any, ctx: dict) -> float | None:
    """TimeoutSeconds or HeartbeatSeconds, given as a number, a path or JSONata ("Task state").

    ministack: TimeoutSeconds as a number only; HeartbeatSeconds is never looked at.
    """
    path = state.get(field + "Path")
    if path is not None:
        value = sfn._resolve_path_or_ctx(path, data, ctx)
    elif isinstance(state.get(field), str):
        value = sfn._apply_jsonata_template({"value": state[field]}, data, ctx)["value"]
    else:
        value = state.get(field)
    if value is None and path is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise TaskError("States.Runtime", f"{field} must be a positive integer, not {text(value)}")
    return value


def wait_for_task(task: dict, timeout: float | None, heartbeat: float | None) -> None:
    """Wait until a task is answered, or TimeoutSeconds or HeartbeatSeconds have passed.

    AWS: a heartbeat starts HeartbeatSeconds anew, never TimeoutSeconds ("Task state").
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
    """Make the call of a Task state; it ends the task, unless a callback shall end it.

    AWS: a call that fails ends a callback task as well, with the function's own errorType
    ("Handling errors in Step Functions workflows").
    ministack: swallows the error of a Lambda function, then waits for the timeout.
    """
    plain = resource.removesuffix(".waitForTaskToken")
    try:
        roles.authorize_task(_execution.get(), plain, parameters)
        output = sfn._invoke_resource(plain, parameters)
        check_size(output, f"The state/task '{resource}' returned a result with a size exceeding")
    except TaskError as error:
        settle(task, error={"Error": error.error, "Cause": error.cause})
    except Exception as error:  # a fault of ministack's: never leave the task waiting
        settle(task, error={"Error": "States.Runtime", "Cause": repr(error)})
    else:
        if plain == resource:
            settle(task, result=text(output))
        elif not task["event"].is_set():
            history.submitted(output)


def check_size(data: Any, message: str) -> None:
    """At most 256 KiB between states ("Step Functions service quotas"). ministack: unlimited."""
    if size(data) > MAX_DATA:
        raise TaskError(
            "States.DataLimitExceeded", f"{message} the maximum number of bytes service limit."
        )


def attempt_task(state: dict, raw_input: Any, execution: dict, ctx: dict) -> Any:
    """One attempt of a Task state: the task's result, or TaskError.

    AWS: every attempt has a token of its own; the token of an ended attempt is dead ("Wait for a
    Callback with Task Token").
    ministack: one token for all attempts, alive after StopExecution too.
    """
    resource = state["Resource"]
    token = new_token()
    if resource.endswith(".waitForTaskToken"):
        ctx["Task"] = {"Token": token}
    if sfn._state_query_language(state, ctx) == "JSONata":
        parameters = sfn._apply_jsonata_arguments(state, raw_input, ctx)
    else:
        selected = sfn._apply_input_path(state, raw_input, ctx)
        parameters = sfn._apply_parameters(state, selected, ctx)
    timeout = task_limit(state, "TimeoutSeconds", raw_input, ctx)
    heartbeat = task_limit(state, "HeartbeatSeconds", raw_input, ctx)
    history = TaskHistory(execution, resource)
    history.scheduled(parameters, timeout, heartbeat)
    task = open_token(token)
    try:
        check_size(parameters, f"The state/task '{resource}' was given parameters exceeding")
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


@mend(sfn, "_execute_task")
def _execute_task(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    if sfn._sfn_mock_config or ":activity:" in state["Resource"]:
        return _stock_execute_task(state, raw_input, execution, ctx)

    def attempt() -> tuple:
        result = attempt_task(state, raw_input, execution, ctx)
        return finish_state(state, raw_input, result, ctx)

    return sfn._with_retry_and_catch(state, raw_input, ctx, attempt)


def finish_state(state: dict, raw_input: Any, result: Any, ctx: dict) -> tuple:
    """The output and the next state after a Task, Parallel or Map state has got its result.

    AWS: a ResultSelector may read the context object ("Manipulate results with ResultSelector").
    ministack: reads null.
    """
    if sfn._state_query_language(state, ctx) == "JSONata":
        output = sfn._apply_jsonata_output(state, raw_input, ctx, result=result, default=result)
        sfn._apply_state_assign(state, raw_input, ctx, result=result)
    else:
        selected = result
        if "ResultSelector" in state:
            selected = sfn._resolve_params_obj(state["ResultSelector"], result, ctx)
        output = sfn._apply_result_path(state, raw_input, selected)
        output = sfn._apply_output_path(state, output, ctx)
        assign_variables(state, result, ctx)
    return output, sfn._next_or_end(state)


# ---- Paths and variables ------------------------------------------------------------------------

VARIABLE = re.compile(r"\$([A-Za-z_]\w*)(.*)", re.DOTALL)

_stock_resolve_path = stock(sfn, "_resolve_path")
_stock_resolve_params = stock(sfn, "_resolve_params_obj")


def split_path(path: str, data: Any) -> tuple[str, Any]:
    """`$variable.rest` is the path `$.rest` into a variable; any other path is one into `data`."""
    found = VARIABLE.match(path)
    if found is None:
        return path, data
    variables = _context.get({}).get("variables", {})
    if found[1] not in variables:
        raise TaskError("States.Runtime", f"The variable '${found[1]}' has no value")
    return "$" + found[2], variables[found[1]]


@mend(sfn, "_resolve_path")
def _resolve_path(path: str, data: Any) -> Any:
    """AWS: in JSONPath too, `$name` is a variable ("Passing data between states with variables").

    ministack: null.
    """
    return _stock_resolve_path(*split_path(path, data))


def assign_variables(state: dict, data: Any, ctx: dict) -> None:
    """Assign of a JSONPath state, or of its Catch (the same page). ministack: JSONata only."""
    if "Assign" in state:
        ctx["variables"].update(sfn._resolve_params_obj(state["Assign"], data, ctx))


@mend(sfn, "_resolve_params_obj")
def _resolve_params_obj(template: Any, data: Any, ctx: dict | None = None) -> Any:
    """AWS: a path in Parameters, ResultSelector or ItemSelector that leads nowhere fails the state
    with States.Runtime ("Using JSONPath paths").

    ministack: gives null.
    """
    for key, path in template.items() if isinstance(template, dict) else ():
        if key.endswith(".$") and isinstance(path, str) and path.startswith("$"):
            where = (path[1:], ctx or {}) if path.startswith("$$") else split_path(path, data)
            if not path_exists(*where):
                raise TaskError(
                    "States.Runtime",
                    f"The JSONPath '{path}' specified for the field '{key}' could not be found "
                    f"in the input '{text(where[1])}'",
                )
    return _stock_resolve_params(template, data, ctx)


def path_exists(path: str, data: Any) -> bool:
    if path == "$":
        return True
    for kind, name in sfn._parse_jsonpath_tokens(path) or [("field", path)]:
        if kind == "wildcard":
            return True
        if kind == "field" and (not isinstance(data, dict) or name not in data):
            return False
        if kind == "index" and (not isinstance(data, list) or name >= len(data)):
            return False
        data = data[name]
    return True


# ---- Retry and Catch ----------------------------------------------------------------------------


@mend(sfn, "_error_matches")
def _error_matches(error_equals: list[str], error: str) -> bool:
    """Which names match an error ("Handling errors in Step Functions workflows").

    AWS: States.Timeout also means States.HeartbeatTimeout; States.ALL and States.TaskFailed never
    mean States.DataLimitExceeded or States.Runtime.
    ministack: States.ALL means all; States.Timeout only itself.
    """
    if error in error_equals:
        return True
    timed_out = error in ("States.Timeout", "States.HeartbeatTimeout")
    if timed_out and "States.Timeout" in error_equals:
        return True
    if error in ("States.DataLimitExceeded", "States.Runtime"):
        return False
    return "States.ALL" in error_equals or ("States.TaskFailed" in error_equals and not timed_out)


def retry_delay(retrier: dict, retries: int) -> float:
    """Seconds until the next attempt ("Retrying after an error").

    AWS: IntervalSeconds * BackoffRate^retries, at most MaxDelaySeconds, and with JitterStrategy
    FULL a random time up to that.
    ministack: MaxDelaySeconds and JitterStrategy ignored, 60 s at the most.
    """
    delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** retries
    delay = min(delay, retrier.get("MaxDelaySeconds", delay))
    return random.uniform(0, delay) if retrier.get("JitterStrategy") == "FULL" else delay


@mend(sfn, "_with_retry_and_catch")
def _with_retry_and_catch(state: dict, raw_input: Any, ctx: dict, attempt: Callable) -> tuple:
    counts: dict[int, int] = {}
    while True:
        ctx["State"]["RetryCount"] = sum(counts.values())
        try:
            return attempt()
        except TaskError as error:
            retrier, index = sfn._find_matching_retrier(state.get("Retry", []), error.error, counts)
            if retrier is None:
                catcher = sfn._find_matching_catcher(state.get("Catch", []), error.error)
                if catcher is None:
                    raise
                caught = {"Error": error.error, "Cause": error.cause}
                language = sfn._state_query_language(state, ctx)
                output = sfn._apply_catcher(catcher, raw_input, ctx, language, caught)
                if language == "JSONPath":
                    assign_variables(catcher, caught, ctx)
                return output, catcher["Next"]
            sfn._scaled_sleep(retry_delay(retrier, counts.get(index, 0)))
            counts[index] = counts.get(index, 0) + 1


# ---- Parallel and Map ---------------------------------------------------------------------------


def run_branches(count: int, run_one: Callable[[int], Any], at_once: int) -> list:
    """Run branches or iterations side by side; the first that fails ends the others at once.

    AWS: "If any branch fails ... the entire Parallel state is considered to have failed and all
    the branches are stopped" ("Parallel state", "Map state").
    ministack: waits for all the others, however long they take.
    """
    results: list = [None] * count
    scope = Scope(current_scope())
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    wake = threading.Event()

    def run(index: int) -> None:
        last = _last_event.get(None)
        if last is not None:
            _last_event.set(list(last))  # a chain of its own
        results[index] = run_one(index)

    def work(context: contextvars.Context) -> None:
        error = None
        try:
            while not todo.empty() and not scope.cancelled:
                context.copy().run(run, todo.get_nowait())
        except (Cancelled, queue.Empty):
            pass
        except TaskError as failure:
            error = failure
        except Exception as failure:
            error = TaskError("States.Runtime", repr(failure))
        ended.put(error)
        wake.set()

    for index in range(count):
        todo.put(index)
    before = _scope.set(scope)
    context = contextvars.copy_context()
    _scope.reset(before)
    workers = min(count, at_once)
    for _ in range(workers):
        threading.Thread(target=work, args=(context,), daemon=True).start()
    try:
        for _ in range(workers):
            while ended.empty():
                wake.clear()
                if ended.empty():
                    current_scope().wait(wake)
            error = ended.get()
            if error is not None:
                raise error
        return results
    finally:
        scope.cancel()
        scope.close()


def branch_context(ctx: dict) -> dict:
    """Each branch has its own context object ("Accessing execution data from the Context object").

    ministack: the branches of a Parallel state share one, so that a task in one branch can be
    given the token of another's.
    """
    return copy.deepcopy(ctx)


@mend(sfn, "_run_parallel_branches")
def _run_parallel_branches(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    """AWS: in JSONata, Arguments are the branches' input and Output applies ("Parallel state").

    ministack: ignores both.
    """
    if sfn._state_query_language(state, ctx) == "JSONata":
        given = "Arguments" in state
        effective = sfn._apply_jsonata_arguments(state, raw_input, ctx) if given else raw_input
    else:
        selected = sfn._apply_input_path(state, raw_input, ctx)
        effective = sfn._apply_parameters(state, selected, ctx)
    branches = state["Branches"]

    def run_one(index: int) -> Any:
        branch = branches[index]
        return sfn._run_sub_machine(
            branch["States"], branch["StartAt"], effective, execution, branch_context(ctx)
        )

    sfn._add_event(execution, "ParallelStateStarted")
    try:
        results = run_branches(len(branches), run_one, len(branches))
    except TaskError:
        sfn._add_event(execution, "ParallelStateFailed")
        raise
    sfn._add_event(execution, "ParallelStateSucceeded")
    return finish_state(state, raw_input, results, ctx)


_stock_run_map_items = stock(sfn, "_run_map_items")


@mend(sfn, "_run_map_items")
def _run_map_items(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    processor = state.get("ItemProcessor") or state.get("Iterator") or {}
    if (processor.get("ProcessorConfig") or {}).get("Mode") == "DISTRIBUTED":
        return _stock_run_map_items(state, raw_input, execution, ctx)
    jsonata = sfn._state_query_language(state, ctx) == "JSONata"
    effective = sfn._apply_input_path(state, raw_input, ctx)
    if jsonata:
        fields = {"items": state.get("Items", raw_input)}
        fields["at_once"] = state.get("MaxConcurrency", 0)
        fields = sfn._apply_jsonata_template(fields, raw_input, ctx)
        items, at_once = fields["items"], fields["at_once"]
    else:
        items = sfn._resolve_path_or_ctx(state.get("ItemsPath", "$"), effective, ctx)
        at_once = state.get("MaxConcurrency", 0)
        if "MaxConcurrencyPath" in state:
            at_once = sfn._resolve_path_or_ctx(state["MaxConcurrencyPath"], effective, ctx)
    if not isinstance(items, list):
        raise TaskError("States.Runtime", "The items of a Map state must be an array")
    selector = state.get("ItemSelector") or state.get("Parameters")
    name = ctx["State"]["Name"]

    def run_one(index: int) -> Any:
        item_ctx = branch_context(ctx)
        item_ctx["Map"] = {"Item": {"Index": index, "Value": items[index]}}
        if not selector:
            item_input = items[index]
        elif jsonata:
            item_input = sfn._apply_jsonata_template(selector, raw_input, item_ctx)
        else:
            item_input = sfn._resolve_params_obj(selector, effective, item_ctx)
        where = {"name": name, "index": index}
        sfn._add_event(execution, "MapIterationStarted", {"mapIterationStartedEventDetails": where})
        try:
            result = sfn._run_sub_machine(
                processor["States"], processor["StartAt"], item_input, execution, item_ctx
            )
        except TaskError:
            sfn._add_event(
                execution, "MapIterationFailed", {"mapIterationFailedEventDetails": where}
            )
            raise
        sfn._add_event(
            execution, "MapIterationSucceeded", {"mapIterationSucceededEventDetails": where}
        )
        return result

    length = {"mapStateStartedEventDetails": {"length": len(items)}}
    sfn._add_event(execution, "MapStateStarted", length)
    try:
        results = run_branches(len(items), run_one, int(at_once) or INLINE_MAP_CONCURRENCY)
    except TaskError:
        sfn._add_event(execution, "MapStateFailed")
        raise
    sfn._add_event(execution, "MapStateSucceeded")
    return finish_state(state, raw_input, results, ctx)


# ---- Walking through the states -----------------------------------------------------------------


@mend(sfn, "_run_sub_machine")
def run_states(states: dict, start_at: str, data: Any, execution: dict, ctx: dict) -> Any:
    """Walk from `start_at` to an end: a whole execution, a branch, or an iteration.

    AWS: the states of branches are in the history too; at most 256 KiB go from state to state.
    ministack: neither; and it walks on when the execution was stopped or a sibling has failed.
    """
    name = start_at
    data = copy.deepcopy(data)
    _context.set(ctx)
    while name:
        current_scope().check()
        state = states[name]
        kind = state["Type"]
        ctx["State"] = {"Name": name, "EnteredTime": sfn.now_iso(), "RetryCount": 0}
        entered = {"name": name, "input": text(data), "inputDetails": {"truncated": False}}
        sfn._add_event(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})
        if kind == "Fail":
            raise TaskError(*sfn._fail_state_error(state, data, ctx))
        exited = {"name": name}
        if kind == "Succeed":
            data, name = end_at_succeed(state, data, ctx), None
        elif kind in ("Task", "Parallel", "Map"):
            run = {
                "Task": sfn._execute_task,
                "Parallel": sfn._execute_parallel,
                "Map": sfn._execute_map,
            }[kind]
            data, name = run(state, data, execution, ctx)
        else:
            run = {
                "Pass": sfn._execute_pass,
                "Choice": sfn._execute_choice,
                "Wait": sfn._execute_wait,
            }[kind]
            given = data
            data, name = run(state, given, ctx)
            if sfn._state_query_language(state, ctx) == "JSONPath":
                assign_variables(state, data if kind == "Pass" else given, ctx)
        check_size(data, f"The state '{exited['name']}' returned a result with a size exceeding")
        exited.update(output=text(data), outputDetails={"truncated": False})
        sfn._add_event(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
    return data


def end_at_succeed(state: dict, data: Any, ctx: dict) -> Any:
    if sfn._state_query_language(state, ctx) == "JSONata":
        return sfn._apply_jsonata_output(state, data, ctx, default=data)
    return sfn._apply_output_path(state, sfn._apply_input_path(state, data, ctx), ctx)


# ---- Executions ---------------------------------------------------------------------------------

_end_lock = threading.Lock()


def end_execution(execution: dict, status: str, **outcome: str) -> bool:
    """Bring a running execution to its end, once: false when it has ended already."""
    with _end_lock:
        if execution["status"] != "RUNNING":
            return False
        execution.update(status=status, stopDate=sfn.now_iso(), **outcome)
    word = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "TIMED_OUT": "TimedOut"}[status]
    details = {f"execution{word}EventDetails": outcome}
    sfn._add_event(execution, f"Execution{word}", details)
    sfn._emit_execution_status_event(execution)
    return True


@mend(sfn, "_run_execution")
def _run_execution(arn: str) -> None:
    # In a context of its own: a nested `startExecution.sync` runs in its parent's thread.
    contextvars.copy_context().run(walk_execution, arn)


def walk_execution(arn: str) -> None:
    """Run a whole execution.

    AWS: TimeoutSeconds of the machine ends it as TIMED_OUT ("State machine structure"); the
    context object holds Execution.RoleArn ("Contents of the Context object"); a failed execution
    has no output (API reference "DescribeExecution").
    ministack: none of these; and it starts only after 150 ms.
    """
    execution = sfn._executions[arn]
    machine = sfn._state_machines[execution["stateMachineArn"]]
    definition = json.loads(machine["definition"])
    data = json.loads(execution["input"])
    scope = Scope()
    _running[arn] = scope
    if execution["status"] != "RUNNING":  # stopped before it had begun
        scope.cancel()
    _scope.set(scope)
    _execution.set(execution)
    _last_event.set([arn, len(execution["events"])])
    execution["events"][0].setdefault("previousEventId", 0)
    ctx = {
        "QueryLanguage": definition.get("QueryLanguage", "JSONPath"),
        "Execution": {
            "Id": arn,
            "Input": data,
            "Name": execution["name"],
            "RoleArn": machine["roleArn"],
            "StartTime": execution["startDate"],
        },
        "StateMachine": {"Id": execution["stateMachineArn"], "Name": machine["name"]},
        "variables": {},
    }

    def time_out() -> None:
        if end_execution(execution, "TIMED_OUT"):
            scope.cancel()

    timeout = definition.get("TimeoutSeconds")
    context = contextvars.copy_context()
    timer = threading.Timer(timeout or 0, context.run, (time_out,))
    timer.daemon = True
    if timeout:
        timer.start()
    try:
        output = run_states(definition["States"], definition["StartAt"], data, execution, ctx)
        end_execution(execution, "SUCCEEDED", output=text(output))
    except Cancelled:
        pass
    except TaskError as error:
        end_execution(execution, "FAILED", error=error.error, cause=error.cause)
    except Exception as error:
        sfn.logger.exception("Step Functions execution %s", arn)
        end_execution(execution, "FAILED", error="States.Runtime", cause=repr(error))
    finally:
        timer.cancel()
        scope.cancel()
        _running.pop(arn, None)


_stock_stop_execution = stock(sfn, "_stop_execution")


@mend(sfn, "_stop_execution")
def _stop_execution(data: dict) -> tuple:
    """StopExecution ends what waits, and its tokens with it (API reference "StopExecution").

    ministack: marks it ABORTED, but threads and tokens live on.
    """
    arn = data.get("executionArn")
    with _end_lock:
        response = _stock_stop_execution(data)
    scope = _running.get(arn)
    if scope is not None and response[0] == 200:
        scope.cancel()
    return response


_stock_start_execution = stock(sfn, "_start_execution")


@mend(sfn, "_start_execution")
def _start_execution(data: dict) -> tuple:
    """AWS (API reference "StartExecution"): input must be JSON of at most 256 KiB; a name has
    1..80 characters of a restricted set; the same name and input as of a *running* execution
    answer with that one.

    ministack: none of these.
    """
    given = data.get("input", "{}")
    if len(given.encode()) > MAX_DATA:
        return too_long("input", MAX_DATA)
    try:
        json.loads(given)
    except ValueError:
        return refuse(
            "InvalidExecutionInput",
            "Invalid State Machine Execution Input: 'Input is not valid JSON'",
        )
    name = data.get("name")
    if name is not None:
        if not re.fullmatch(r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}", name):
            return refuse("InvalidName", f"Invalid Name: '{name}'")
        arn = sfn._resolve_state_machine_arn(data.get("stateMachineArn", ""))
        machine = arn and sfn._state_machines[arn]
        running = machine and sfn._executions.get(
            machine["stateMachineArn"].replace(":stateMachine:", ":execution:") + ":" + name
        )
        if running and running["status"] == "RUNNING" and running["input"] == given:
            started = {"executionArn": running["executionArn"]}
            return sfn.json_response({**started, "startDate": running["startDate"]})
    return _stock_start_execution(data)


@mend(sfn, "_nested_execution_failure")
def _nested_execution_failure(payload: dict) -> tuple[str, str]:
    """A failed child of `startExecution.sync` is States.TaskFailed, its cause the child's
    description ("Start workflow executions from a task state").

    ministack: takes the error from the child's output, which a failed execution has not got.
    """
    described = {key[0].upper() + key[1:]: value for key, value in payload.items()}
    described.pop("Output", None)
    return "States.TaskFailed", text(described)


# ---- Definitions --------------------------------------------------------------------------------

STATE_TYPES = ("Choice", "Fail", "Map", "Parallel", "Pass", "Succeed", "Task", "Wait")

TASK_FIELDS = {"Type", "Comment", "QueryLanguage", "Resource", "Next", "End", "InputPath"}
TASK_FIELDS |= {"OutputPath", "Parameters", "Arguments", "Output", "Assign", "ResultPath"}
TASK_FIELDS |= {"ResultSelector", "Credentials", "Retry", "Catch", "TimeoutSeconds"}
TASK_FIELDS |= {"TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath"}


def definition_fault(definition: str) -> str | None:
    """What CreateStateMachine would refuse a definition for (API reference "InvalidDefinition").

    AWS: checks JSON, schema and that every transition has a target.
    ministack: takes anything.
    """
    try:
        machine = json.loads(definition)
    except ValueError as error:
        return f"INVALID_JSON_DESCRIPTION: {error}"
    if not isinstance(machine, dict):
        return "SCHEMA_VALIDATION_FAILED: The definition must be an object"
    return states_fault(machine, "")


def states_fault(machine: dict, where: str) -> str | None:
    states = machine.get("States")
    if not isinstance(states, dict) or not states:
        return f"SCHEMA_VALIDATION_FAILED: The field 'States' is required at {where or '/'}"
    if machine.get("StartAt") not in states:
        return f"MISSING_TRANSITION_TARGET: Missing 'StartAt' target at {where}/StartAt"
    for name, state in states.items():
        fault = state_fault(state, states, f"{where}/States/{name}")
        if fault:
            return fault
    return None


def state_fault(state: dict, states: dict, where: str) -> str | None:
    kind = state.get("Type")
    if kind not in STATE_TYPES:
        return f"SCHEMA_VALIDATION_FAILED: Invalid 'Type' at {where}/Type"
    if kind == "Task" and not isinstance(state.get("Resource"), str):
        return f"SCHEMA_VALIDATION_FAILED: The field 'Resource' is required at {where}"
    if kind not in ("Choice", "Succeed", "Fail") and ("Next" in state) == bool(state.get("End")):
        return f"SCHEMA_VALIDATION_FAILED: Exactly one of 'Next' and 'End' is required at {where}"
    if kind == "Task":
        unknown = sorted(state.keys() - TASK_FIELDS)
        if unknown:
            return f"SCHEMA_VALIDATION_FAILED: Field is not supported at {where}/{unknown[0]}"
        timeout, heartbeat = state.get("TimeoutSeconds"), state.get("HeartbeatSeconds")
        if isinstance(timeout, int) and isinstance(heartbeat, int) and heartbeat >= timeout:
            return (
                "SCHEMA_VALIDATION_FAILED: HeartbeatSeconds must be smaller than "
                f"TimeoutSeconds at {where}"
            )
    for field in ("Retry", "Catch"):
        lists = [entry.get("ErrorEquals", []) for entry in state.get(field, [])]
        if any("States.ALL" in names for names in lists[:-1]) or any(
            "States.ALL" in names and len(names) > 1 for names in lists
        ):
            return (
                "SCHEMA_VALIDATION_FAILED: States.ALL must appear alone and last "
                f"at {where}/{field}"
            )
    targets = [("Next", state.get("Next")), ("Default", state.get("Default"))]
    for group in ("Catch", "Choices"):
        for index, entry in enumerate(state.get(group, [])):
            targets.append((f"{group}[{index}]/Next", entry.get("Next", "")))
    for field, target in targets:
        if target is not None and target not in states:
            return f"MISSING_TRANSITION_TARGET: Missing 'Next' target: {target} at {where}/{field}"
    inner = [(f"Branches[{i}]", b) for i, b in enumerate(state.get("Branches", []))]
    inner += [(f, state[f]) for f in ("ItemProcessor", "Iterator") if f in state]
    for field, machine in inner:
        fault = states_fault(machine, f"{where}/{field}")
        if fault:
            return fault
    return None


def checking_definitions(change: Callable[[dict], tuple]) -> Callable[[dict], tuple]:
    def checked(data: dict) -> tuple:
        if "definition" in data:
            fault = definition_fault(data["definition"])
            if fault:
                return refuse("InvalidDefinition", f"Invalid State Machine Definition: '{fault}'")
        return change(data)

    return checked


mend(sfn, "_create_state_machine")(checking_definitions(stock(sfn, "_create_state_machine")))
mend(sfn, "_update_state_machine")(checking_definitions(stock(sfn, "_update_state_machine")))


@mend(sfn, "_validate_state_machine_definition")
def _validate_state_machine_definition(data: dict) -> tuple:
    """API reference "ValidateStateMachineDefinition". ministack: always OK."""
    fault = definition_fault(data.get("definition", ""))
    if fault is None:
        return sfn.json_response({"result": "OK", "diagnostics": [], "truncated": False})
    code, message = fault.split(": ", 1)
    found = {"severity": "ERROR", "code": code, "message": message}
    return sfn.json_response({"result": "FAIL", "diagnostics": [found], "truncated": False})


# ---- Calls of other services --------------------------------------------------------------------


@mend(sfn, "_call_lambda")
def _call_lambda(function: str, event: Any) -> Any:
    """AWS: Error is the function's errorType, Cause its error as JSON; a throttled invocation is
    Lambda.TooManyRequestsException ("Handling errors in Step Functions workflows").

    ministack: throttling is Lambda.Unknown.
    """
    found, config, name = lambda_svc._get_func_record_for_ref(function)
    if not found or not config:
        raise TaskError("Lambda.ResourceNotFoundException", f"Function not found: {name}")
    record = lambda_svc._execution_record_for_config(found, config)
    result = lambda_svc._execute_function_with_config_scope(record, event)
    body = result.get("body")
    if result.get("throttle"):
        raise TaskError("Lambda.TooManyRequestsException", body["message"])
    if result.get("error"):
        error = body if isinstance(body, dict) else {"errorMessage": str(body)}
        raise TaskError(error.get("errorType") or "Lambda.Unknown", text(error))
    if isinstance(body, bytes):
        return json.loads(body)
    return body


# ---- AWS SDK integrations -----------------------------------------------------------------------

SDK_CLIENTS = {"iotdataplane": "iot-data", "s3": "s3"}
SDK_ERROR_PREFIXES = {"iotdataplane": "IotDataPlane", "s3": "S3"}

_boto_lock = threading.Lock()
_stock_aws_sdk = stock(sfn, "_invoke_aws_sdk_integration")


@mend(sfn, "_invoke_aws_sdk_integration")
def _invoke_aws_sdk_integration(resource: str, parameters: dict) -> Any:
    """AWS: a Task can call any SDK action ("Learning to use AWS service SDK integrations").

    ministack: not iotdataplane, nor s3's putObject and getObject. These go through its front
    door, with the credentials of the machine's role.
    """
    service, action = resource.split(":")[6:8]
    if service not in SDK_CLIENTS:
        return _stock_aws_sdk(resource, parameters)
    import boto3
    import botocore.exceptions

    with _boto_lock:  # boto3's clients may be shared by threads, but not made by several at once
        client = boto3.client(
            SDK_CLIENTS[service],
            region_name=sfn.get_region(),
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
            **roles.task_credentials(_execution.get()),
        )
    operation = action[0].upper() + action[1:]
    members = client.meta.service_model.operation_model(operation).input_shape.members
    given = {}
    for key, value in parameters.items():
        member = key if key in members else key[0].lower() + key[1:]
        if member not in members:
            raise TaskError("States.Runtime", f"The field '{key}' is not supported by {resource}")
        if members[member].type_name == "blob":
            value = (value if isinstance(value, str) else text(value)).encode()
        given[member] = value
    try:
        answer = client._make_api_call(operation, given)
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        raise TaskError(f"{SDK_ERROR_PREFIXES[service]}.{code}", str(error)) from None
    del answer["ResponseMetadata"]
    return {key[0].upper() + key[1:]: sdk_value(value) for key, value in answer.items()}


def sdk_value(value: Any) -> Any:
    if hasattr(value, "read"):
        return value.read().decode()
    return value.isoformat() if hasattr(value, "isoformat") else value
