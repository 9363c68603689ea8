"""CloudFormation."""

from __future__ import annotations

import json

from harness import (
    Case,
    aws,
    function_zip,
    launcher,
    one,
    unique,
    until,
)


def setUpModule() -> None:
    launcher.start()


class CloudFormation(Case):
    def deploy(self, resources: dict) -> dict:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        aws("s3").put_object(Bucket=bucket, Key="fn.zip", Body=function_zip())
        function = resources.get("Function")
        if function:
            function["Properties"]["CodeUri"] = {"Bucket": bucket, "Key": "fn.zip"}
        template = {"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}
        stack = unique("stack")
        aws("cloudformation").create_stack(
            StackName=stack,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )

        def done() -> dict | None:
            found = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
            return None if found["StackStatus"].endswith("IN_PROGRESS") else found

        return until(done, "the stack")

    def test_reserved_concurrency(self) -> None:
        name = unique("f")
        properties = {"FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap"}
        properties["ReservedConcurrentExecutions"] = 5
        function = {"Type": "AWS::Serverless::Function", "Properties": properties}
        self.assertEqual(self.deploy({"Function": function})["StackStatus"], "CREATE_COMPLETE")
        found = aws("lambda").get_function_concurrency(FunctionName=name)
        self.assertEqual(found["ReservedConcurrentExecutions"], 5)

    def test_definition_is_checked(self) -> None:
        definition = one({"Type": "Pass", "Next": "Nowhere"})
        machine = {"Type": "AWS::Serverless::StateMachine"}
        machine["Properties"] = {"Definition": definition}
        self.assertIn(
            self.deploy({"Machine": machine})["StackStatus"],
            ("ROLLBACK_COMPLETE", "CREATE_FAILED"),
        )
