"""Waiting and cancellation."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import patch, require

require(sfn, "_SFN_WAIT_SCALE")


class Cancelled(BaseException):
    """The execution was stopped or timed out, or a sibling branch failed.

    It unwinds the thread without an error. It is a BaseException so that no `except Exception` in
    ministack catches it.
    """


class Scope:
    """A unit of cancellation: an execution, or the branches of one Parallel or Map state.

    Every wait of the interpreter goes through `wait`. Cancelling a scope wakes all threads that
    wait in it and in its inner scopes, so that no thread and no token outlives the scope.
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
        if self._outer is not None:
            self._outer._unlisten(self.cancel)

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        """Wait for `event`. True when it was set, false when `seconds` passed first.

        Raises Cancelled when the scope is cancelled.
        """
        self._listen(event.set)
        try:
            happened = event.wait(seconds)
        finally:
            self._unlisten(event.set)

        self.check()
        return happened


SCOPE: contextvars.ContextVar[Scope] = contextvars.ContextVar("scope")
EXECUTION: contextvars.ContextVar[dict | None] = contextvars.ContextVar("execution", default=None)


def current_scope() -> Scope:
    return SCOPE.get(None) or Scope()


def start_thread(function: Callable[..., Any], *args: Any) -> None:
    """Run a function in a daemon thread with the account, region, scope and event chain of this one."""
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(function, *args), daemon=True).start()


@patch(sfn, "_scaled_sleep")
def _scaled_sleep(seconds: float) -> None:
    """Wait states and Retry intervals end when the execution is stopped ("StopExecution").

    ministack calls `time.sleep`, and the thread of a stopped execution sleeps on.
    """
    current_scope().wait(threading.Event(), max(0.0, seconds * sfn._SFN_WAIT_SCALE))
