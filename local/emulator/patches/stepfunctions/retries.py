"""Retry and Catch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import patch, require
from patches.stepfunctions.faults import TaskError
from patches.stepfunctions.paths import assign_variables, is_jsonata

require(sfn, "_apply_catcher", "_find_matching_catcher", "_find_matching_retrier")


@patch(sfn, "_error_matches")
def _error_matches(error_equals: list[str], error: str) -> bool:
    """Whether the names match an error ("Handling errors in Step Functions workflows").

    AWS: States.Timeout also matches States.HeartbeatTimeout. States.ALL and States.TaskFailed
    match neither States.DataLimitExceeded nor States.Runtime.
    ministack: States.ALL matches every error, States.Timeout only itself.
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

    AWS: IntervalSeconds * BackoffRate^retries, at most MaxDelaySeconds. With JitterStrategy FULL,
    a random time up to that.
    ministack: ignores MaxDelaySeconds and JitterStrategy, and waits 60 s at most.
    """
    delay = retrier.get("IntervalSeconds", 1) * retrier.get("BackoffRate", 2.0) ** retries
    delay = min(delay, retrier.get("MaxDelaySeconds", delay))
    return random.uniform(0, delay) if retrier.get("JitterStrategy") == "FULL" else delay


@patch(sfn, "_with_retry_and_catch")
def with_retry_and_catch(state: dict, raw_input: Any, ctx: dict, attempt: Callable) -> tuple:
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
                if not is_jsonata(state, ctx):
                    assign_variables(catcher, caught, ctx)
                return output, catcher["Next"]

            sfn._scaled_sleep(retry_delay(retrier, counts.get(index, 0)))
            counts[index] = counts.get(index, 0) + 1
