"""The checks of a state machine's definition when it is created, updated or validated."""

from __future__ import annotations

import json
from collections.abc import Callable

import ministack.services.stepfunctions as sfn

from patches.patching import patch, stock
from patches.stepfunctions.faults import refuse

STATE_TYPES = ("Choice", "Fail", "Map", "Parallel", "Pass", "Succeed", "Task", "Wait")

TASK_FIELDS = {"Type", "Comment", "QueryLanguage", "Resource", "Next", "End", "InputPath"}
TASK_FIELDS |= {"OutputPath", "Parameters", "Arguments", "Output", "Assign", "ResultPath"}
TASK_FIELDS |= {"ResultSelector", "Credentials", "Retry", "Catch", "TimeoutSeconds"}
TASK_FIELDS |= {"TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath"}


def definition_fault(definition: str) -> str | None:
    """The reason to refuse a definition, or None (API reference "InvalidDefinition").

    AWS: checks the JSON, the schema, and that every transition has a target.
    ministack: accepts any definition.
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


patch(sfn, "_create_state_machine")(checking_definitions(stock(sfn, "_create_state_machine")))
patch(sfn, "_update_state_machine")(checking_definitions(stock(sfn, "_update_state_machine")))


@patch(sfn, "_validate_state_machine_definition")
def _validate_state_machine_definition(data: dict) -> tuple:
    """API reference "ValidateStateMachineDefinition". ministack always answers OK."""
    fault = definition_fault(data.get("definition", ""))
    if fault is None:
        return sfn.json_response({"result": "OK", "diagnostics": [], "truncated": False})
    code, message = fault.split(": ", 1)
    found = {"severity": "ERROR", "code": code, "message": message}
    return sfn.json_response({"result": "FAIL", "diagnostics": [found], "truncated": False})
