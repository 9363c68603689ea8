"""The history of an execution."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import patch
from patches.stepfunctions.faults import text

NOT_TRUNCATED = {"truncated": False}

# [ARN of the execution, id of the last event] of this branch; the threads of a branch share it.
LAST_EVENT: contextvars.ContextVar[list] = contextvars.ContextVar("last_event")
_lock = threading.Lock()


@patch(sfn, "_add_event")
def _add_event(execution: dict, event_type: str, details: dict | None = None) -> dict:
    """Each event of a branch names the one before it, `previousEventId` ("HistoryEvent").

    ministack writes no `previousEventId`, and can give events of two branches the same id.
    """
    arn = execution["executionArn"]
    with _lock:
        events = execution["events"]
        last = LAST_EVENT.get(None)
        if last is None or last[0] != arn:
            last = [arn, len(events)]
            LAST_EVENT.set(last)

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


def record(execution: dict, event_type: str, details: dict | None = None) -> None:
    """Add an event. Its details go under the name that belongs to the event's type."""
    key = event_type[0].lower() + event_type[1:] + "EventDetails"
    _add_event(execution, event_type, None if details is None else {key: details})


def chain_of_its_own() -> None:
    """Start a chain of events for this thread, after the last event of its parent."""
    last = LAST_EVENT.get(None)
    if last is not None:
        LAST_EVENT.set(list(last))


class TaskHistory:
    """The events of one attempt of a Task state (API reference "HistoryEvent").

    ministack writes only TaskScheduled, TaskSucceeded and TaskFailed, with the whole ARN as
    `resource`. It writes none of the LambdaFunction* events of a task whose Resource is the ARN of
    a function.
    """

    def __init__(self, execution: dict, resource: str) -> None:
        self.execution = execution
        self.resource = resource
        self.is_function = ":function:" in resource
        kind = resource.split(":")[5:]
        self.kind = {"resourceType": ":".join(kind[:-1]) or "states", "resource": kind[-1]}

    def _record(self, event_type: str, **details: Any) -> None:
        if self.is_function:
            event_type = event_type.replace("Task", "LambdaFunction", 1)
        else:
            details = {**self.kind, **details}
        record(self.execution, event_type, details or None)

    def scheduled(self, parameters: Any, timeout: float | None, heartbeat: float | None) -> None:
        limits = {"timeoutInSeconds": timeout}
        if self.is_function:
            given = {"resource": self.resource, "input": text(parameters)}
            given["inputDetails"] = NOT_TRUNCATED
        else:
            given = {"region": sfn.get_region(), "parameters": text(parameters)}
            limits["heartbeatInSeconds"] = heartbeat

        limits = {name: int(value) for name, value in limits.items() if value is not None}
        self._record("TaskScheduled", **given, **limits)

    def started(self) -> None:
        self._record("TaskStarted")

    def submitted(self, output: Any) -> None:
        self._record("TaskSubmitted", output=text(output), outputDetails=NOT_TRUNCATED)

    def succeeded(self, output: Any) -> None:
        self._record("TaskSucceeded", output=text(output), outputDetails=NOT_TRUNCATED)

    def failed(self, error: Exception) -> None:
        timed_out = error.error in ("States.Timeout", "States.HeartbeatTimeout")
        event_type = "TaskTimedOut" if timed_out else "TaskFailed"
        self._record(event_type, error=error.error, cause=error.cause)
