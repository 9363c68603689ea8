"""The bound on a function's processes, and the queue of invocations before it."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from typing import Any

from ministack.services import lambda_svc

from patches.patching import patch, require, stock

require(lambda_svc, "_inflight_key")


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


# The request id that all attempts of an asynchronous invocation share.
REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("request", default=None)

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
        request_id = REQUEST_ID.get() or request_id
        return _stock_dispatch(func, config, event, request_id, time.time())
