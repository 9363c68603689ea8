"""Errors of states, refusals of API calls, and the size limits that lead to both."""

from __future__ import annotations

import json
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import stock

TaskError = stock(sfn, "_ExecutionError")
MAX_DATA = 262_144  # "Step Functions service quotas": bytes of input or output


def text(data: Any) -> str:
    """Return the data as compact JSON, as Step Functions writes it."""
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def check_size(data: Any, message: str) -> None:
    """Fail when data between states exceeds 256 KiB ("Step Functions service quotas").

    ministack has no limit.
    """
    if len(text(data).encode()) > MAX_DATA:
        raise TaskError(
            "States.DataLimitExceeded", f"{message} the maximum number of bytes service limit."
        )


def refuse(code: str, message: str) -> tuple:
    return sfn.error_response_json(code, message, 400)


def too_long(data: dict, limits: dict[str, int]) -> tuple | None:
    """Return the refusal of a call with a member longer than its limit in bytes, or None."""
    for member, limit in limits.items():
        if len((data.get(member) or "").encode()) > limit:
            return refuse(
                "ValidationException",
                f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
                f"Member must have length less than or equal to {limit}",
            )
    return None
