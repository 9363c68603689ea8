"""What each role of a stack with everything may do. Every role is asked for all that any role needs, and for what none needs.

The permissions to trace, to write network interfaces and to use the stack's key are the same for all, and are left out.
"""

import sys

from emulator import REGION, Emulator
from stacks import STACK

# Functions write their own logs.
LOGS = "logs:PutLogEvents"
# A job, and the attempts with its idempotency key.
READ_AND_UPDATE_JOBS = {
    ("dynamodb:GetItem", "JobsTable"),
    ("dynamodb:BatchGetItem", "JobsTable"),
    ("dynamodb:UpdateItem", "JobsTable"),
}
SEND_DEAD_LETTER = {("sqs:SendMessage", "DeadLetterQueue")}
# Inputs and results of the claim check.
CLAIMED = {
    ("s3:GetObject", "ClaimCheckBucket/tenant1/job"),
    ("s3:GetObject", "ClaimCheckBucket/tenant1/inputs/job"),
}
JOB_MACHINES = (
    "OnPremJob",
    "Orchestrate",
    "Branch",
    "HandleErrors",
    "Approve",
    "Report",
    "SyncFiles",
)

NEEDS = {
    "DispatchRole": {("lambda:InvokeFunction", "DispatcherFunction")},
    "DojoRole": {("lambda:InvokeFunction", "StepCounterFunction")},
    "OrchestrateRole": {
        ("lambda:InvokeFunction", "StepCounterFunction"),
        ("lambda:InvokeFunction", "DispatcherFunction"),
    },
    "ApproveRole": {
        ("lambda:InvokeFunction", "ApprovalFunction"),
        ("lambda:InvokeFunction", "DispatcherFunction"),
    },
    "FanOutRole": {
        ("lambda:InvokeFunction", "DispatcherFunction"),
        ("s3:GetObject", "JobListBucket/list.json"),
        ("states:StartExecution", "FanOutStateMachine"),
    },
    "ReportRole": {
        ("lambda:InvokeFunction", "DispatcherFunction"),
        ("states:StartExecution", "ReportStateMachine"),
        ("s3:GetObject", "ClaimCheckBucket/tenant1/job"),
    },
    "SyncFilesRole": {
        ("lambda:InvokeFunction", "DispatcherFunction"),
        ("states:StartExecution", "SyncFilesStateMachine"),
        ("s3:GetObject", "ClaimCheckBucket/tenant1/job"),
        ("s3:ListBucket", "SyncedFilesBucket"),
        ("s3:PutObject", "SyncedFilesBucket/a.csv/digest"),
    },
    "CompactMachineRole": {
        ("lambda:InvokeFunction", "CompactFunction"),
        ("states:StartExecution", "CompactStateMachine"),
    },
    "JobScheduleRole": {("states:StartExecution", "OnPremJobStateMachine")} | SEND_DEAD_LETTER,
    "CompactScheduleRole": {("states:StartExecution", "CompactStateMachine")},
    "AnswerRuleRole": SEND_DEAD_LETTER,
    "StepCounterRole": {(LOGS, "StepCounterLogs")},
    "DispatcherRole": {
        (LOGS, "DispatcherLogs"),
        ("iot:Publish", "topic:tenant1/to/worker"),
        ("s3:PutObject", "ClaimCheckBucket/tenant1/inputs/job"),
    }
    | CLAIMED
    | READ_AND_UPDATE_JOBS,
    "TaskTokenDoneRole": {
        (LOGS, "TaskTokenDoneLogs"),
        *(("states:SendTaskSuccess", f"{name}StateMachine") for name in JOB_MACHINES),
        ("states:SendTaskSuccess", "FanOutStateMachine"),
        ("dynamodb:UpdateItem", "JobsTable"),
        ("iot:Publish", "topic:tenant1/to/worker/worker1"),
        ("iot:Publish", "topic:tenant1/to/worker/cancel"),
        ("s3:PutObject", "ClaimCheckBucket/tenant1/job"),
    }
    | CLAIMED
    | SEND_DEAD_LETTER,
    "JobProgressRole": {
        (LOGS, "JobProgressLogs"),
        ("secretsmanager:GetSecretValue", "secret:grip"),
        ("dynamodb:UpdateItem", "JobsTable"),
    }
    | SEND_DEAD_LETTER,
    "JobCancellerRole": {
        (LOGS, "JobCancellerLogs"),
        ("dynamodb:Query", "JobsTable/index/ByExecution"),
        ("dynamodb:UpdateItem", "JobsTable"),
        ("iot:Publish", "topic:tenant1/to/worker/cancel"),
    }
    | SEND_DEAD_LETTER,
    "ApprovalRole": {
        (LOGS, "ApprovalLogs"),
        ("secretsmanager:GetSecretValue", "ApprovalKey"),
        ("dynamodb:UpdateItem", "JobsTable"),
        ("states:SendTaskSuccess", "ApproveStateMachine"),
    },
    "JobsApiRole": {
        (LOGS, "JobsApiLogs"),
        ("dynamodb:Query", "JobsTable/index/ByExecution"),
        *(("states:StartExecution", f"{name}StateMachine") for name in JOB_MACHINES),
        ("states:SendTaskSuccess", "ApproveStateMachine"),
        ("secretsmanager:GetSecretValue", "ApprovalKey"),
        ("secretsmanager:GetSecretValue", "secret:grip"),
        ("iot:Publish", "topic:tenant1/to/worker/worker1"),
        ("iot:Publish", "topic:tenant1/to/worker/cancel"),
        ("iot:GetRetainedMessage", "topic:tenant1/workers/worker1"),
    }
    | READ_AND_UPDATE_JOBS,
    "MskToS3Role": {
        (LOGS, "MskToS3Logs"),
        ("s3:PutObject", "CsvBucket/orders/object.csv"),
        ("s3:PutObject", "CsvBucket/tables/object.parquet"),
        ("s3:PutObject", "MskDeadLetterBucket/letter"),
    },
    "CompactRole": {
        (LOGS, "CompactLogs"),
        ("s3:GetObject", "CsvBucket/orders/object.csv"),
        ("s3:PutObject", "CsvBucket/tables/object.parquet"),
        ("s3:ListBucket", "CsvBucket"),
    },
    "GripEchoRole": {(LOGS, "GripEchoLogs"), ("secretsmanager:GetSecretValue", "secret:grip")},
}

# What belongs to others, or would let a role do more than its work.
NOBODY = {
    ("iot:Publish", "topic:tenant1/done"),
    ("iot:Publish", "topic:$aws/rules/answers"),
    ("dynamodb:UpdateItem", "table:somebody-elses"),
    ("dynamodb:DeleteItem", "JobsTable"),
    ("dynamodb:Scan", "JobsTable"),
    ("s3:GetObject", "bucket:somebody-elses/object"),
    ("s3:DeleteObject", "CsvBucket/orders/object.csv"),
    ("s3:PutObject", "JobListBucket/list.json"),
    ("secretsmanager:GetSecretValue", "secret:somebody-elses"),
    ("secretsmanager:PutSecretValue", "ApprovalKey"),
    ("states:SendTaskSuccess", "machine:somebody-elses"),
    ("states:StartExecution", "machine:somebody-elses"),
    ("lambda:InvokeFunction", "TaskTokenDoneFunction"),
    ("lambda:UpdateFunctionCode", "DispatcherFunction"),
    ("sqs:ReceiveMessage", "DeadLetterQueue"),
    ("iam:PassRole", "DispatcherRole"),
    ("sts:AssumeRole", "DispatcherRole"),
}


def check(emulator: Emulator) -> None:
    """Ends the program if a role lacks what it needs, or may do what it does not need."""
    arns = Arns(emulator)
    roles = {name for name, kind in arns.kinds.items() if kind == "AWS::IAM::Role"}
    if roles != NEEDS.keys():
        sys.exit(
            f"these roles are not the same in the stack and in roles.py: {roles ^ NEEDS.keys()}"
        )

    iam = emulator.root.client("iam")
    asked = set().union(NOBODY, *NEEDS.values())
    wrong = []
    for role, needs in sorted(NEEDS.items()):
        for action, resource in sorted(asked):
            found = iam.simulate_principal_policy(
                PolicySourceArn=arns.of(role),
                ActionNames=[action],
                ResourceArns=[arns.of(resource)],
            )
            allowed = found["EvaluationResults"][0]["EvalDecision"] == "allowed"
            if allowed != ((action, resource) in needs):
                wrong.append(f"{role} {'may' if allowed else 'must not'} {action} on {resource}")
    if wrong:
        sys.exit("\n".join(wrong))


class Arns:
    """The ARNs of what roles.py names: a logical ID and a path in it, or a kind and a name."""

    FORMS = {
        "topic": "arn:aws:iot:{here}:topic/{}",
        "table": "arn:aws:dynamodb:{here}:table/{}",
        "bucket": "arn:aws:s3:::{}",
        "secret": "arn:aws:secretsmanager:{here}:secret:{}",
        "machine": "arn:aws:states:{here}:stateMachine:{}",
    }
    TYPES = {
        "AWS::IAM::Role": "arn:aws:iam::{account}:role/{}",
        "AWS::Lambda::Function": "arn:aws:lambda:{here}:function:{}",
        "AWS::DynamoDB::Table": FORMS["table"],
        "AWS::S3::Bucket": FORMS["bucket"],
        "AWS::Logs::LogGroup": "arn:aws:logs:{here}:log-group:{}:log-stream:one",
        "AWS::SQS::Queue": "arn:aws:sqs:{here}:{}",
    }

    def __init__(self, emulator: Emulator) -> None:
        client = emulator.root.client("cloudformation")
        pages = client.get_paginator("list_stack_resources").paginate(StackName=STACK)
        found = [one for page in pages for one in page["StackResourceSummaries"]]
        self.kinds = {one["LogicalResourceId"]: one["ResourceType"] for one in found}
        self.ids = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}
        secrets = emulator.root.client("secretsmanager").list_secrets()["SecretList"]
        self.secrets = {secret["Name"]: secret["ARN"] for secret in secrets}
        account = emulator.root.client("sts").get_caller_identity()["Account"]
        self.place = {"account": account, "here": f"{REGION}:{account}"}

    def of(self, name: str) -> str:
        kind, colon, rest = name.partition(":")
        if colon:
            known = self.secrets.get(rest) if kind == "secret" else None
            return known or self.FORMS[kind].format(rest, **self.place)
        logical, slash, path = name.partition("/")
        identity = self.ids[logical]
        # The emulator names a secret where AWS has its ARN.
        identity = self.secrets.get(identity, identity)
        if identity.startswith("arn:"):
            return identity + slash + path
        kind = self.kinds[logical]
        # A queue is known by its URL.
        name = identity.rsplit("/", 1)[-1] if kind == "AWS::SQS::Queue" else identity
        return self.TYPES[kind].format(name, **self.place) + slash + path
