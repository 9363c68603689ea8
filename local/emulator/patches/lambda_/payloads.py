"""The limits of requests and responses."""

from __future__ import annotations

import json
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import lambda_svc

from patches.patching import patch, stock

MAX_SYNC = 6 * 1024 * 1024  # "Lambda quotas": request and response of a synchronous invocation
MAX_ASYNC = 1024 * 1024  # the same page: the request of an asynchronous invocation

_stock_invoke = stock(lambda_svc, "_invoke")


@patch(lambda_svc, "_invoke")
async def _invoke(name: str, event: Any, headers: dict, *args: Any, **options: Any) -> tuple:
    """Limit payloads ("Lambda quotas").

    A larger request is refused with RequestTooLargeException; a larger response becomes the error
    Function.ResponseSizeTooLarge. ministack has no limits.
    """
    kind = headers.get("x-amz-invocation-type") or "RequestResponse"
    limit = MAX_ASYNC if kind == "Event" else MAX_SYNC
    length = len(json.dumps(event, ensure_ascii=False).encode())
    if length > limit:
        message = f"{length} byte payload is too large for the {kind} invocation type"
        message += f" (limit {limit} bytes)"
        return error_response_json("RequestTooLargeException", message, 413)

    status, answer_headers, body = await _stock_invoke(name, event, headers, *args, **options)
    if status == 200 and len(body) > MAX_SYNC:
        answer_headers["X-Amz-Function-Error"] = "Unhandled"
        message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
        body = json.dumps(error).encode()
    return status, answer_headers, body
