"""Invocations by EventBridge and S3, and the permissions that they need."""

from __future__ import annotations

import contextvars
import json
import logging
from typing import Any

from ministack.services import eventbridge, lambda_svc, s3

from patches import roles
from patches.lambda_.asynchronous import invoke_async_with_retry
from patches.patching import patch, require, stock

logger = logging.getLogger("lambda")

require(lambda_svc, "_execution_record_for_config", "_get_func_record_for_ref")


_rule_arn: contextvars.ContextVar[str] = contextvars.ContextVar("rule_arn", default="")

_stock_invoke_target = stock(eventbridge, "_invoke_target")


@patch(eventbridge, "_invoke_target")
def _invoke_target(target: dict, event: dict, rule: dict, view: Any = None) -> None:
    token = _rule_arn.set(rule.get("Arn", ""))
    try:
        _stock_invoke_target(target, event, rule, view)
    finally:
        _rule_arn.reset(token)


@patch(eventbridge, "_dispatch_to_lambda")
def _dispatch_to_lambda(arn: str, payload: str) -> None:
    """Invoke the target of an EventBridge rule, if the function's policy permits it.

    AWS: the policy needs a statement (EventBridge User Guide, "Using resource-based policies for
    Amazon EventBridge"), and the invocation is asynchronous.
    ministack: checks no permission and never retries.
    """
    func, config, name = lambda_svc._get_func_record_for_ref(arn)
    if not func or not config:
        logger.warning("EventBridge: function %s not found", name)
    elif not roles.function_permits(arn, "events.amazonaws.com", _rule_arn.get()):
        logger.warning("EventBridge: %s may not invoke function %s", _rule_arn.get(), name)
    else:
        record = lambda_svc._execution_record_for_config(func, config)
        invoke_async_with_retry(record, json.loads(payload))


_stock_deliver = stock(s3, "_deliver_event_to_lambda")


@patch(s3, "_deliver_event_to_lambda")
def _deliver_event_to_lambda(arn: str, event: dict, bucket_region: str) -> None:
    """Invoke a function for a bucket, if the function's policy permits it ("Process Amazon S3
    event notifications with Lambda").

    ministack checks no permission.
    """
    bucket = event["Records"][0]["s3"]["bucket"]["arn"]
    if roles.function_permits(arn, "s3.amazonaws.com", bucket):
        _stock_deliver(arn, event, bucket_region)
    else:
        logger.warning("S3: %s may not invoke function %s", bucket, arn)
