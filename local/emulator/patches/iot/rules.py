"""Rule actions: their permissions, and how they invoke a function."""

from __future__ import annotations

from typing import Any

from ministack.core.responses import request_scope
from ministack.services import iot, lambda_svc

from patches import roles
from patches.patching import patch, require, stock

require(iot, "_topic_rule_arn")
require(lambda_svc, "_execution_record_for_config", "_get_func_record_for_ref")
require(lambda_svc, "invoke_async_with_retry")


class ActionRefused(Exception):
    """AWS would not carry out the action. ministack runs the rule's error action."""


def action_needs(action: dict, here: str) -> tuple[str, str, str] | None:
    """(role's ARN, IAM action, resource's ARN) of an action that uses a role; None for others."""
    if "sqs" in action:
        spec = action["sqs"]
        resource = roles.queue_arn(spec.get("queueUrl", ""))
        return spec.get("roleArn", ""), "sqs:SendMessage", resource
    if "sns" in action:
        spec = action["sns"]
        return spec.get("roleArn", ""), "sns:Publish", spec.get("targetArn", "")
    if "dynamoDBv2" in action:
        spec = action["dynamoDBv2"]
        table = (spec.get("putItem") or {}).get("tableName", "")
        resource = f"arn:aws:dynamodb:{here}:table/{table}"
        return spec.get("roleArn", ""), "dynamodb:PutItem", resource
    if "republish" in action:
        spec = action["republish"]
        resource = f"arn:aws:iot:{here}:topic/{spec.get('topic', '')}"
        return spec.get("roleArn", ""), "iot:Publish", resource
    return None


_stock_rule_action = stock(iot, "_dispatch_rule_action")


@patch(iot, "_dispatch_rule_action")
async def _dispatch_rule_action(
    account: str, region: str, rule_name: str, action: dict, event: Any
) -> None:
    """Run an action of a rule, or its error action, if the rule may do it.

    AWS: an action uses its own role ("Granting an AWS IoT rule the access it requires"). A Lambda
    action needs a statement for this rule and account in the function's policy ("Lambda" rule
    action). An action that fails runs the error action ("Error handling"). The function is invoked
    asynchronously: Lambda retries its errors, and they never reach the error action.
    ministack: checks neither role nor policy. It only logs that a function is missing, and neither
    retries a function that fails nor sends to its destination.
    """
    with request_scope(account, region):
        if (action.get("lambda") or {}).get("functionArn"):
            invoke_for_rule(action["lambda"]["functionArn"], rule_name, event)
            return
        need = action_needs(action, f"{region}:{account}")
        if need is not None:
            role, permission, resource = need
            why_not = roles.denial(role, "iot", rule_name, permission, resource)
            if why_not:
                raise ActionRefused(why_not)
    await _stock_rule_action(account, region, rule_name, action, event)


def invoke_for_rule(function_arn: str, rule_name: str, event: Any) -> None:
    function, config, _ = lambda_svc._get_func_record_for_ref(function_arn)
    if not function or not config:
        raise ActionRefused(f"Function not found: {function_arn}")
    rule_arn = iot._topic_rule_arn(rule_name)
    if not roles.function_permits(function_arn, "iot.amazonaws.com", rule_arn):
        raise ActionRefused(
            f"{rule_arn} is not authorized to perform: lambda:InvokeFunction on resource: "
            f"{function_arn} because no resource-based policy allows it"
        )
    record = lambda_svc._execution_record_for_config(function, config)
    lambda_svc.invoke_async_with_retry(record, event)
