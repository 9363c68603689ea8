"""Whole executions: their states in turn, start, stop, TimeoutSeconds."""

from __future__ import annotations

import contextvars
import copy
import json
import re
import threading
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import patch, require, stock
from patches.stepfunctions.faults import MAX_DATA, TaskError, check_size, refuse, text, too_long
from patches.stepfunctions.history import LAST_EVENT, NOT_TRUNCATED, record
from patches.stepfunctions.paths import CONTEXT, assign_variables, is_jsonata
from patches.stepfunctions.scope import EXECUTION, SCOPE, Cancelled, Scope, current_scope

require(
    sfn,
    "_emit_execution_status_event",
    "_execute_choice",
    "_execute_map",
    "_execute_parallel",
    "_execute_pass",
    "_execute_wait",
    "_executions",
    "_fail_state_error",
    "_resolve_state_machine_arn",
    "_state_machines",
)


@patch(sfn, "_run_sub_machine")
def run_states(states: dict, start_at: str, data: Any, execution: dict, ctx: dict) -> Any:
    """Run states from `start_at` to an end: a whole execution, a branch, or an iteration.

    AWS: the history has the states of branches too. At most 256 KiB pass between states.
    ministack: does neither, and goes on when the execution was stopped or a sibling has failed.
    """
    name: str | None = start_at
    data = copy.deepcopy(data)
    CONTEXT.set(ctx)
    while name is not None:
        current_scope().check()
        here, state = name, states[name]
        kind = state["Type"]

        # EnteredTime is set once for an entry: all attempts of a retried state share it.
        ctx["State"] = {"Name": here, "EnteredTime": sfn.now_iso(), "RetryCount": 0}
        entered = {"name": here, "input": text(data), "inputDetails": NOT_TRUNCATED}
        sfn._add_event(execution, f"{kind}StateEntered", {"stateEnteredEventDetails": entered})

        if kind == "Fail":
            raise TaskError(*sfn._fail_state_error(state, data, ctx))
        if kind == "Succeed":
            data, name = end_at_succeed(state, data, ctx), None
        elif kind in ("Task", "Parallel", "Map"):
            run = getattr(sfn, f"_execute_{kind.lower()}")
            data, name = run(state, data, execution, ctx)
        else:
            given, run = data, getattr(sfn, f"_execute_{kind.lower()}")
            data, name = run(state, given, ctx)
            if not is_jsonata(state, ctx):
                assign_variables(state, data if kind == "Pass" else given, ctx)

        check_size(data, f"The state '{here}' returned a result with a size exceeding")
        exited = {"name": here, "output": text(data), "outputDetails": NOT_TRUNCATED}
        sfn._add_event(execution, f"{kind}StateExited", {"stateExitedEventDetails": exited})
    return data


def end_at_succeed(state: dict, data: Any, ctx: dict) -> Any:
    if is_jsonata(state, ctx):
        return sfn._apply_jsonata_output(state, data, ctx, default=data)
    return sfn._apply_output_path(state, sfn._apply_input_path(state, data, ctx), ctx)


_end_lock = threading.Lock()
_running: dict[str, Scope] = {}  # execution ARN -> its scope


def end_execution(execution: dict, status: str, **outcome: str) -> bool:
    """End a running execution. Return False if it has ended already."""
    with _end_lock:
        if execution["status"] != "RUNNING":
            return False
        execution.update(status=status, stopDate=sfn.now_iso(), **outcome)

    word = {"SUCCEEDED": "Succeeded", "FAILED": "Failed", "TIMED_OUT": "TimedOut"}[status]
    record(execution, f"Execution{word}", outcome)
    sfn._emit_execution_status_event(execution)
    return True


@patch(sfn, "_run_execution")
def _run_execution(arn: str) -> None:
    # A nested `startExecution.sync` runs in its parent's thread and needs a context of its own.
    contextvars.copy_context().run(run_execution, arn)


def run_execution(arn: str) -> None:
    """Run a whole execution.

    AWS: the machine's TimeoutSeconds ends it as TIMED_OUT ("State machine structure"). A failed
    execution has no output (API reference "DescribeExecution").
    ministack: has no such timeout, gives a failed execution an output, and waits 150 ms before the
    first state.
    """
    execution = sfn._executions[arn]
    machine = sfn._state_machines[execution["stateMachineArn"]]
    definition = json.loads(machine["definition"])
    ctx = context_object(execution, machine, definition)

    scope = Scope()
    _running[arn] = scope
    if execution["status"] != "RUNNING":  # it was stopped before it began
        scope.cancel()
    SCOPE.set(scope)
    EXECUTION.set(execution)
    LAST_EVENT.set([arn, len(execution["events"])])
    execution["events"][0].setdefault("previousEventId", 0)

    timer = timeout_timer(execution, scope, definition.get("TimeoutSeconds"))
    try:
        data = ctx["Execution"]["Input"]
        output = run_states(definition["States"], definition["StartAt"], data, execution, ctx)
        end_execution(execution, "SUCCEEDED", output=text(output))
    except Cancelled:
        pass
    except TaskError as error:
        end_execution(execution, "FAILED", error=error.error, cause=error.cause)
    except Exception as error:  # noqa: BLE001 - an error of ministack must end the execution
        sfn.logger.exception("Step Functions execution %s", arn)
        end_execution(execution, "FAILED", error="States.Runtime", cause=repr(error))
    finally:
        timer.cancel()
        scope.cancel()
        _running.pop(arn, None)


def context_object(execution: dict, machine: dict, definition: dict) -> dict:
    """The context object, in ministack's shape: with the query language and the variables.

    AWS: it has Execution.RoleArn ("Contents of the Context object"). ministack leaves that out.
    """
    return {
        "QueryLanguage": definition.get("QueryLanguage", "JSONPath"),
        "Execution": {
            "Id": execution["executionArn"],
            "Input": json.loads(execution["input"]),
            "Name": execution["name"],
            "RoleArn": machine["roleArn"],
            "StartTime": execution["startDate"],
        },
        "StateMachine": {"Id": execution["stateMachineArn"], "Name": machine["name"]},
        "variables": {},
    }


def timeout_timer(execution: dict, scope: Scope, seconds: float | None) -> threading.Timer:
    """A timer that ends the execution as TIMED_OUT; not started without TimeoutSeconds."""

    def time_out() -> None:
        if end_execution(execution, "TIMED_OUT"):
            scope.cancel()

    context = contextvars.copy_context()
    timer = threading.Timer(seconds or 0, context.run, (time_out,))
    timer.daemon = True
    if seconds:
        timer.start()
    return timer


_stock_stop_execution = stock(sfn, "_stop_execution")


@patch(sfn, "_stop_execution")
def _stop_execution(data: dict) -> tuple:
    """Stop an execution with all its waits and tokens (API reference "StopExecution").

    ministack marks it ABORTED, but its threads go on and its tokens stay valid.
    """
    arn = data.get("executionArn")
    with _end_lock:
        response = _stock_stop_execution(data)
    scope = _running.get(arn)
    if scope is not None and response[0] == 200:
        scope.cancel()
    return response


_stock_start_execution = stock(sfn, "_start_execution")


@patch(sfn, "_start_execution")
def _start_execution(data: dict) -> tuple:
    """Check the input and the name of a new execution (API reference "StartExecution").

    AWS: the input must be JSON of at most 256 KiB. A name has 1 to 80 characters of a restricted
    set. A call with the name and the input of a running execution returns that execution.
    ministack: does none of these.
    """
    given = data.get("input", "{}")
    refusal = too_long(data, {"input": MAX_DATA})
    if refusal:
        return refusal

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
