"""The permissions of roles and services under AUTH=true. Without AUTH, everything is permitted.

A service that acts with a role may do what the role's identity-based policies allow, if the role's
trust policy names the service (IAM User Guide, "Policy evaluation logic"). ministack 1.5.33 checks
the callers of its HTTP gateway, but not its own state machines, IoT rules and asynchronous Lambda
invocations.
"""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any

import ministack.core.iam_evaluator as iam
import ministack.services.iam as iam_service
import ministack.services.stepfunctions as sfn
from ministack import app
from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from patches.patching import require

require(app, "AUTH")
require(
    iam,
    "EvalContext",
    "_gather_role_policies",
    "_permissions_boundary",
    "evaluate",
    "evaluate_resource_policy",
    "_service_principal_matches",
)
require(iam_service, "_roles")
require(lambda_runtime, "execution_credentials")
require(lambda_svc, "_get_base_func_record_for_ref")


def denial(role_arn: str, service: str, session: str, action: str, resource: str) -> str | None:
    """AWS's message that denies `service` the action with the role; None when it is permitted."""
    if not app.AUTH:
        return None
    if role_arn.count(":") != 5:
        return f"'{role_arn}' is not the ARN of a role"

    account, name = role_arn.split(":")[4], role_arn.rsplit("/", 1)[-1]
    principal = f"arn:aws:sts::{account}:assumed-role/{name}/{session}"
    if not trusts(account, name, f"{service}.amazonaws.com"):
        return (
            f"User: {service}.amazonaws.com is not authorized to perform: sts:AssumeRole "
            f"on resource: {role_arn}"
        )

    context = iam.EvalContext(principal, "AssumedRole", account, action, resource, sfn.get_region())
    policies = iam._gather_role_policies(name, account)
    limits = iam._permissions_boundary(iam_service._roles, name, account)
    result = iam.evaluate(context, policies, *limits)
    if result.decision == "Allow":
        return None

    why = f"because no identity-based policy allows the {action} action"
    if result.decision == "Deny":
        why = "with an explicit deny in an identity-based policy"
    return f"User: {principal} is not authorized to perform: {action} on resource: {resource} {why}"


def trusts(account: str, role_name: str, service: str) -> bool:
    """Whether the role's trust policy lets the service assume it."""
    role = iam_service._roles.get_scoped(account, None, role_name) or {}
    statements = json.loads(role.get("AssumeRolePolicyDocument") or "{}").get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        allowed = statement.get("Effect") == "Allow"
        if allowed and iam._service_principal_matches(statement.get("Principal"), service):
            return True
    return False


def function_permits(function_arn: str, service: str, source_arn: str) -> bool:
    """Whether the function's own policy lets the service invoke it for `source_arn`."""
    if not app.AUTH:
        return True
    function, _, _ = lambda_svc._get_base_func_record_for_ref(function_arn)
    if function is None:
        return False
    source = {"aws:sourcearn": source_arn, "aws:sourceaccount": sfn.get_account_id()}
    context = iam.EvalContext(
        "*",
        "Service",
        "",
        "lambda:InvokeFunction",
        function_arn,
        sfn.get_region(),
        service_context=source,
    )
    policy = function.get("policy")
    return iam.evaluate_resource_policy(policy, context, service=service).decision == "Allow"


# ---- State machines -----------------------------------------------------------------------------


def task_needs(resource: str, parameters: Any) -> list[tuple[str, str, str]]:
    """The permissions that a Task's call needs: (service in the error's name, action, ARN).

    It knows the integrations that Postern and its tests use. Other calls need no permission here.
    """
    parameters = parameters if isinstance(parameters, dict) else {}
    here = f"{sfn.get_region()}:{sfn.get_account_id()}"
    if ":function:" in resource:
        return [("Lambda", "lambda:InvokeFunction", resource)]
    kind = ":".join(resource.split(":")[5:])
    if kind in ("lambda:invoke", "aws-sdk:lambda:invoke"):
        name = parameters.get("FunctionName", "")
        arn = name if name.startswith("arn:") else f"arn:aws:lambda:{here}:function:{name}"
        return [("Lambda", "lambda:InvokeFunction", arn)]
    if kind.startswith(("states:startExecution", "aws-sdk:sfn:startExecution")):
        return [("StepFunctions", "states:StartExecution", parameters.get("StateMachineArn", "*"))]
    if kind in ("sqs:sendMessage", "aws-sdk:sqs:sendMessage"):
        return [("SQS", "sqs:SendMessage", queue_arn(parameters.get("QueueUrl", "")))]
    if kind in ("sns:publish", "aws-sdk:sns:publish"):
        return [("SNS", "sns:Publish", parameters.get("TopicArn", "*"))]
    if kind in ("events:putEvents", "aws-sdk:eventbridge:putEvents"):
        buses = {entry.get("EventBusName", "default") for entry in parameters.get("Entries", [])}
        arns = [
            b if b.startswith("arn:") else f"arn:aws:events:{here}:event-bus/{b}" for b in buses
        ]
        return [("EventBridge", "events:PutEvents", arn) for arn in sorted(arns)]
    if kind.startswith(("dynamodb:", "aws-sdk:dynamodb:")):
        action = kind.rsplit(":", 1)[-1]
        table = parameters.get("TableName", "*")
        arn = table if table.startswith("arn:") else f"arn:aws:dynamodb:{here}:table/{table}"
        service = "DynamoDb" if kind.startswith("aws-sdk") else "DynamoDB"
        return [(service, f"dynamodb:{action[0].upper()}{action[1:]}", arn)]
    return []


def queue_arn(url: str) -> str:
    account, name = url.rstrip("/").split("/")[-2:] if url.count("/") > 1 else ("", url)
    return f"arn:aws:sqs:{sfn.get_region()}:{account or sfn.get_account_id()}:{name}"


def machine_role(execution: dict | None) -> tuple[str, str]:
    """The role of the execution's machine, and a session name like those of Step Functions."""
    arn = (execution or {}).get("stateMachineArn", "")
    machine = sfn._state_machines.get(arn.split("/")[0]) or {}
    return machine.get("roleArn", ""), secrets.token_urlsafe(24)[:32].replace("-", "x")


def authorize_task(execution: dict | None, resource: str, parameters: Any) -> None:
    """Raise the error of a Task whose call the machine's role does not permit.

    AWS: a Task's call is made with the machine's role ("Creating an IAM role for your state
    machine"). A call that the role does not permit fails the task with the service's own error.
    ministack: makes the call without a check.
    """
    if not app.AUTH or execution is None:
        return
    role, session = machine_role(execution)
    for service, action, arn in task_needs(resource, parameters):
        sentence = denial(role, "states", session, action, arn)
        if sentence is None:
            continue
        error = "AWSLambdaException" if service == "Lambda" else "AccessDeniedException"
        detail = f"(Service: {service}, Status Code: 403, Request ID: {uuid.uuid4()})"
        raise sfn._ExecutionError(f"{service}.{error}", f"{sentence} {detail}")


def task_credentials(execution: dict | None) -> dict[str, str]:
    """Credentials of the machine's role, for a call through the HTTP gateway."""
    role, _ = machine_role(execution)
    here = f"{sfn.get_region()}:{sfn.get_account_id()}"
    machine = (execution or {}).get("stateMachineArn", "").rsplit(":", 1)[-1]
    # ministack's function for the credentials of a Lambda function works for a machine too.
    values = lambda_runtime.execution_credentials(
        {
            "FunctionName": machine,
            "FunctionArn": f"arn:aws:lambda:{here}:function:states-{machine}",
            "Role": role,
        }
    )
    return {name.lower(): value for name, value in values.items() if value}
