"""The permissions that the caller of CloudFormation needs, under AUTH=true.

CloudFormation makes the calls for a stack's resources with the caller's own credentials ("Controlling
access with AWS Identity and Access Management", AWS CloudFormation User Guide). ministack 1.5.33 checks
the calls of CloudFormation itself, and makes the others without a check.

`CALLS` lists the actions for each type of resource that Postern's templates contain, after the
"handlers" of the types in the CloudFormation registry. It leaves out reads that follow a change. A
type that the table lacks can be deployed by the root user only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ministack.core.iam_evaluator as iam
import ministack.services.iam as iam_service
from ministack import app
from ministack.core.responses import get_account_id, get_region
from ministack.services.cloudformation import provisioners, stacks

from patches.patching import patch, require, stock

require(
    iam, "EvalContext", "_gather_role_policies", "_gather_user_policies", "caller_arn", "evaluate"
)
require(iam_service, "_users")
require(provisioners, "_physical_name")


class Calls(NamedTuple):
    """The actions for one type of resource, and the form of its ARN, in which * is its name."""

    arn: str
    name: str
    create: str
    update: str
    delete: str


ROLE = "arn:aws:iam::ACCOUNT:role/*"
FUNCTION = "arn:aws:lambda:REGION:ACCOUNT:function:*"
CALLS = {
    "AWS::IAM::Role": Calls(
        ROLE,
        "RoleName",
        "iam:CreateRole",
        "iam:AttachRolePolicy iam:DetachRolePolicy iam:PutRolePolicy iam:DeleteRolePolicy",
        "iam:DeleteRole iam:DetachRolePolicy iam:DeleteRolePolicy",
    ),
    "AWS::IAM::ManagedPolicy": Calls(
        "arn:aws:iam::ACCOUNT:policy/*",
        "ManagedPolicyName",
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion iam:DeletePolicyVersion iam:ListPolicyVersions",
        "iam:DeletePolicy iam:ListPolicyVersions iam:ListEntitiesForPolicy",
    ),
    "AWS::Lambda::Function": Calls(
        FUNCTION,
        "FunctionName",
        "lambda:CreateFunction lambda:GetFunction lambda:TagResource",
        "lambda:UpdateFunctionCode lambda:UpdateFunctionConfiguration lambda:GetFunction",
        "lambda:DeleteFunction",
    ),
    "AWS::Lambda::Permission": Calls(
        FUNCTION,
        "FunctionName",
        "lambda:AddPermission",
        "lambda:AddPermission lambda:RemovePermission",
        "lambda:RemovePermission",
    ),
    "AWS::Lambda::Url": Calls(
        FUNCTION,
        "TargetFunctionArn",
        "lambda:CreateFunctionUrlConfig",
        "lambda:UpdateFunctionUrlConfig",
        "lambda:DeleteFunctionUrlConfig",
    ),
    "AWS::Lambda::EventInvokeConfig": Calls(
        FUNCTION,
        "FunctionName",
        "lambda:PutFunctionEventInvokeConfig",
        "lambda:PutFunctionEventInvokeConfig",
        "lambda:DeleteFunctionEventInvokeConfig",
    ),
    "AWS::Lambda::EventSourceMapping": Calls(
        "arn:aws:lambda:REGION:ACCOUNT:event-source-mapping:*",
        "",
        "lambda:CreateEventSourceMapping lambda:GetEventSourceMapping",
        "lambda:UpdateEventSourceMapping lambda:GetEventSourceMapping",
        "lambda:DeleteEventSourceMapping lambda:GetEventSourceMapping",
    ),
    "AWS::Logs::LogGroup": Calls(
        "arn:aws:logs:REGION:ACCOUNT:log-group:*",
        "LogGroupName",
        "logs:CreateLogGroup logs:DescribeLogGroups@*",
        "logs:DescribeLogGroups@*",
        "logs:DeleteLogGroup",
    ),
    "AWS::SQS::Queue": Calls(
        "arn:aws:sqs:REGION:ACCOUNT:*",
        "QueueName",
        "sqs:CreateQueue sqs:GetQueueAttributes",
        "sqs:SetQueueAttributes sqs:GetQueueAttributes",
        "sqs:DeleteQueue",
    ),
    "AWS::S3::Bucket": Calls(
        "arn:aws:s3:::*", "BucketName", "s3:CreateBucket", "", "s3:DeleteBucket"
    ),
    "AWS::S3::BucketPolicy": Calls(
        "arn:aws:s3:::*",
        "Bucket",
        "s3:PutBucketPolicy",
        "s3:PutBucketPolicy",
        "s3:DeleteBucketPolicy",
    ),
    "AWS::SecretsManager::Secret": Calls(
        "arn:aws:secretsmanager:REGION:ACCOUNT:secret:*",
        "Name",
        "secretsmanager:CreateSecret secretsmanager:TagResource secretsmanager:GetRandomPassword@*",
        "secretsmanager:UpdateSecret",
        "secretsmanager:DeleteSecret secretsmanager:DescribeSecret",
    ),
    "AWS::StepFunctions::StateMachine": Calls(
        "arn:aws:states:REGION:ACCOUNT:stateMachine:*",
        "StateMachineName",
        "states:CreateStateMachine states:DescribeStateMachine states:TagResource",
        "states:UpdateStateMachine states:DescribeStateMachine",
        "states:DeleteStateMachine states:DescribeStateMachine",
    ),
    "AWS::IoT::Thing": Calls(
        "arn:aws:iot:REGION:ACCOUNT:thing/*",
        "ThingName",
        "iot:CreateThing iot:DescribeThing",
        "iot:UpdateThing iot:DescribeThing",
        "iot:DeleteThing iot:DescribeThing",
    ),
    "AWS::IoT::Policy": Calls(
        "arn:aws:iot:REGION:ACCOUNT:policy/*",
        "PolicyName",
        "iot:CreatePolicy iot:GetPolicy",
        "iot:CreatePolicyVersion iot:ListPolicyVersions iot:DeletePolicyVersion",
        "iot:DeletePolicy iot:ListPolicyVersions",
    ),
    "AWS::IoT::TopicRule": Calls(
        "arn:aws:iot:REGION:ACCOUNT:rule/*",
        "RuleName",
        "iot:CreateTopicRule iot:GetTopicRule",
        "iot:ReplaceTopicRule iot:GetTopicRule",
        "iot:DeleteTopicRule iot:GetTopicRule",
    ),
    "AWS::DynamoDB::Table": Calls(
        "arn:aws:dynamodb:REGION:ACCOUNT:table/*",
        "TableName",
        "dynamodb:CreateTable dynamodb:DescribeTable dynamodb:UpdateTimeToLive",
        "dynamodb:UpdateTable dynamodb:DescribeTable dynamodb:UpdateTimeToLive",
        "dynamodb:DeleteTable dynamodb:DescribeTable",
    ),
    "AWS::Events::Rule": Calls(
        "arn:aws:events:REGION:ACCOUNT:rule/*",
        "Name",
        "events:PutRule events:PutTargets events:DescribeRule",
        "events:PutRule events:PutTargets events:RemoveTargets events:DescribeRule",
        "events:DeleteRule events:RemoveTargets events:DescribeRule",
    ),
    "AWS::Scheduler::Schedule": Calls(
        "arn:aws:scheduler:REGION:ACCOUNT:schedule/default/*",
        "Name",
        "scheduler:CreateSchedule scheduler:GetSchedule",
        "scheduler:UpdateSchedule scheduler:GetSchedule",
        "scheduler:DeleteSchedule scheduler:GetSchedule",
    ),
}
for _kind, _arn, _calls in (
    ("Alarm", "arn:aws:cloudwatch:REGION:ACCOUNT:alarm:*", ("PutMetricAlarm", "DeleteAlarms")),
    ("Dashboard", "arn:aws:cloudwatch::ACCOUNT:dashboard/*", ("PutDashboard", "DeleteDashboards")),
):
    _put, _delete = (f"cloudwatch:{call}" for call in _calls)
    CALLS[f"AWS::CloudWatch::{_kind}"] = Calls(_arn, f"{_kind}Name", _put, _put, _delete)
for _kind in ("Api", "Authorizer", "Integration", "Route", "Stage"):
    # Paths in the place of names, of which API Gateway makes ids.
    _arn = "arn:aws:apigateway:REGION::/apis" + ("" if _kind == "Api" else f"/*/{_kind.lower()}s")
    _calls = (f"apigateway:{call}" for call in ("POST", "PATCH", "DELETE"))
    CALLS[f"AWS::ApiGatewayV2::{_kind}"] = Calls(_arn, "ApiId", *_calls)

# What a property needs besides, whenever the resource is created or changed.
SETTINGS = {
    "AWS::IAM::Role": {
        "ManagedPolicyArns": "iam:AttachRolePolicy",
        "Policies": "iam:PutRolePolicy",
    },
    "AWS::Lambda::Function": {
        "ReservedConcurrentExecutions": "lambda:PutFunctionConcurrency",
        "VpcConfig": "ec2:DescribeSecurityGroups@* ec2:DescribeSubnets@* ec2:DescribeVpcs@*",
    },
    "AWS::Logs::LogGroup": {"RetentionInDays": "logs:PutRetentionPolicy"},
    "AWS::S3::Bucket": {
        "BucketEncryption": "s3:PutEncryptionConfiguration",
        "LifecycleConfiguration": "s3:PutLifecycleConfiguration",
        "OwnershipControls": "s3:PutBucketOwnershipControls",
        "PublicAccessBlockConfiguration": "s3:PutBucketPublicAccessBlock",
        "Tags": "s3:PutBucketTagging",
        "VersioningConfiguration": "s3:PutBucketVersioning",
    },
}
# The services to which a resource passes roles, and the properties that hold the roles' ARNs.
PASSED = {
    "AWS::Lambda::Function": ("lambda", ("Role",)),
    "AWS::StepFunctions::StateMachine": ("states", ("RoleArn",)),
    "AWS::Scheduler::Schedule": ("scheduler", ("RoleArn",)),
    "AWS::IoT::TopicRule": ("iot", ("RoleArn",)),
}


def needs(action: str, kind: str, name: str, properties: dict) -> list[tuple[str, str, dict]]:
    """What a change needs: actions, resources, and the keys that conditions of policies can name."""
    here = {"ACCOUNT": get_account_id(), "REGION": get_region()}
    if kind == "AWS::IAM::Policy":
        verb = "iam:DeleteRolePolicy" if action == "delete" else "iam:PutRolePolicy"
        return [(verb, filled(ROLE, role, here), {}) for role in properties.get("Roles", [])]
    if kind not in CALLS:
        raise ValueError(f"patches/deployers.py does not know which permissions {kind} needs")

    calls = CALLS[kind]
    arn = filled(calls.arn, name, here)
    boundary = properties.get("PermissionsBoundary")
    keys = {"iam:permissionsboundary": boundary} if boundary else {}
    if kind == "AWS::Lambda::EventSourceMapping":
        function = str(properties.get("FunctionName", "")).rsplit(":", 1)[-1]
        keys = {"lambda:functionarn": filled(FUNCTION, function, here)}

    wanted = getattr(calls, action).split()
    if action != "delete":
        settings = SETTINGS.get(kind, {}).items()
        wanted += [
            call for setting, more in settings if properties.get(setting) for call in more.split()
        ]
    found = []
    for call in wanted:
        verb, _, resource = call.partition("@")
        found.append((verb, resource or arn, keys))
    if action == "delete":
        return found

    if kind in PASSED:
        service, fields = PASSED[kind]
        passed = {"iam:passedtoservice": f"{service}.amazonaws.com"}
        found += [("iam:PassRole", role, passed) for role in sorted(values(properties, fields))]
    return found


def filled(arn: str, name: str, here: dict) -> str:
    arn = arn.replace("REGION", here["REGION"]).replace("ACCOUNT", here["ACCOUNT"])
    return arn.replace("*", name)


def values(node: Any, fields: tuple[str, ...]) -> set[str]:
    """The texts of the properties of these names, at any depth."""
    if isinstance(node, list):
        return {value for each in node for value in values(each, fields)}
    if not isinstance(node, dict):
        return set()
    own = {value for key, value in node.items() if key in fields and isinstance(value, str)}
    return own | {value for each in node.values() for value in values(each, fields)}


def check(action: str, kind: str, name: str, properties: dict) -> None:
    """Raise the error of a change that the caller may not make."""
    caller = iam.caller_arn()
    if not app.AUTH or caller.endswith(":root") or kind.startswith("AWS::CloudFormation::"):
        return

    account = get_account_id()
    last = caller.rsplit("/", 1)[-1]
    if ":user/" in caller:
        policies, principal = iam._gather_user_policies(last, account), "User"
    else:
        policies, principal = (
            iam._gather_role_policies(caller.split("/")[1], account),
            "AssumedRole",
        )

    for verb, resource, keys in needs(action, kind, name, properties):
        context = iam.EvalContext(
            caller, principal, account, verb, resource, get_region(), service_context=keys
        )
        if iam.evaluate(context, policies).decision != "Allow":
            raise ValueError(
                f"User: {caller} is not authorized to perform: {verb} on resource: {resource} "
                f"because no identity-based policy allows the {verb} action"
            )


def name_of(kind: str, logical_id: str, properties: dict, stack: str) -> str:
    """The name that a resource gets, or has in its properties."""
    field = CALLS[kind].name if kind in CALLS else ""
    given = properties.get(field) if field else None
    if isinstance(given, str):
        return given.rsplit(":", 1)[-1] if given.startswith("arn:") else given
    name = provisioners._physical_name(stack, logical_id)
    if kind == "AWS::S3::Bucket":
        return name.lower()
    return name.replace("-", "_") if kind == "AWS::IoT::TopicRule" else name


_stock_provision = stock(stacks, "_provision_resource")
_stock_update = stock(stacks, "_update_resource")
_stock_delete = stock(stacks, "_delete_resource")


@patch(stacks, "_provision_resource")
def _provision_resource(kind: str, logical_id: str, properties: dict, stack: str) -> tuple:
    """A resource is created with the caller's permissions. ministack checks none."""
    check("create", kind, name_of(kind, logical_id, properties, stack), properties)
    return _stock_provision(kind, logical_id, properties, stack)


@patch(stacks, "_update_resource")
def _update_resource(
    kind: str,
    physical_id: str,
    old: dict,
    new: dict,
    stack: str,
    logical_id: str | None = None,
    *rest,
) -> tuple:
    """A resource is updated with the caller's permissions. ministack checks none."""
    if old != new:
        check("update", kind, name_of(kind, logical_id or physical_id, new, stack), new)
    return _stock_update(kind, physical_id, old, new, stack, logical_id, *rest)


@patch(stacks, "_delete_resource")
def _delete_resource(
    kind: str,
    physical_id: str,
    properties: dict,
    stack: str | None = None,
    logical_id: str | None = None,
) -> None:
    """A resource is deleted with the caller's permissions. ministack checks none."""
    name = name_of(kind, logical_id or physical_id, properties, stack or "")
    check("delete", kind, name, properties)
    _stock_delete(kind, physical_id, properties, stack, logical_id)
