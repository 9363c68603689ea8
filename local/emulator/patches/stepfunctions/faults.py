"""How a state fails, how a call of the API is refused, and the size limits that lead to both."""

from __future__ import annotations

import json
from typing import Any

import ministack.services.stepfunctions as sfn
from patches.patching import stock

TaskError = stock(sfn, "_ExecutionError")
MAX_DATA = 262_144  # "Step Functions service quotas": bytes of input or output


def text(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def check_size(data: Any, message: str) -> None:
    """At most 256 KiB between states ("Step Functions service quotas"). ministack: unlimited."""
    if len(text(data).encode()) > MAX_DATA:
        raise TaskError(
            "States.DataLimitExceeded", f"{message} the maximum number of bytes service limit."
        )


def refuse(code: str, message: str) -> tuple:
    return sfn.error_response_json(code, message, 400)


def too_long(data: dict, limits: dict[str, int]) -> tuple | None:
    """The refusal of a call of which a member has more bytes than it may have."""
    for member, limit in limits.items():
        if len((data.get(member) or "").encode()) > limit:
            return refuse(
                "ValidationException",
                f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
                f"Member must have length less than or equal to {limit}",
            )
    return None
