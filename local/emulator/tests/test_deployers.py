"""CloudFormation: a stack's resources are made with the permissions of its deployer."""

from __future__ import annotations

import json

from tests.harness import Case, allow, as_role, aws, launcher, make_role, unique, until


def setUpModule() -> None:
    launcher.start()


CALLS = ("CreateStack", "UpdateStack", "DeleteStack", "DescribeStacks", "DescribeStackEvents")
STACKS = [allow(f"cloudformation:{call}", "*") for call in CALLS]


class Deployers(Case):
    def deploy(self, statements: list[dict], resources: dict) -> tuple[str, str]:
        """The stack's status and the reasons of the resources that failed."""
        deployer = as_role("cloudformation", make_role("cloudformation", STACKS + statements))
        stack = unique("stack")
        template = json.dumps({"Resources": resources})
        deployer.create_stack(
            StackName=stack, TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"]
        )

        def done() -> str | None:
            found = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
            status = found["StackStatus"]
            return None if status.endswith("IN_PROGRESS") else status

        status = until(done, "the stack")
        events = aws("cloudformation").describe_stack_events(StackName=stack)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
        return status, " ".join(event.get("ResourceStatusReason", "") for event in failed)

    def test_deployer_needs_the_permissions_of_the_resources(self) -> None:
        name = unique("queue")
        queue = {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": name}}}
        create = allow("sqs:CreateQueue", f"arn:aws:sqs:*:*:{name}")
        read = allow("sqs:GetQueueAttributes", f"arn:aws:sqs:*:*:{name}")
        for statements, missing in (
            ([read], "sqs:CreateQueue"),
            ([create], "sqs:GetQueueAttributes"),
            ([allow("sqs:CreateQueue", "arn:aws:sqs:*:*:another"), read], "sqs:CreateQueue"),
        ):
            status, reasons = self.deploy(statements, queue)
            self.assertNotEqual(status, "CREATE_COMPLETE")
            self.assertIn(f"is not authorized to perform: {missing} on resource", reasons)

        self.assertEqual(self.deploy([create, read], queue)[0], "CREATE_COMPLETE")

    def test_deployer_passes_roles_to_named_services_only(self) -> None:
        role = make_role("states", [])
        definition = {"StartAt": "Only", "States": {"Only": {"Type": "Pass", "End": True}}}
        properties = {"DefinitionString": json.dumps(definition), "RoleArn": role}
        machine = {
            "Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}
        }
        machines = [
            allow(f"states:{call}StateMachine", "*") for call in ("Create", "Describe", "Delete")
        ]
        machines.append(allow("states:TagResource", "*"))

        def passing(service: str) -> dict:
            condition = {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}
            return {**allow("iam:PassRole", role), "Condition": condition}

        status, reasons = self.deploy([*machines, passing("lambda")], machine)
        self.assertNotEqual(status, "CREATE_COMPLETE")
        self.assertIn("iam:PassRole", reasons)
        self.assertEqual(self.deploy([*machines, passing("states")], machine)[0], "CREATE_COMPLETE")
