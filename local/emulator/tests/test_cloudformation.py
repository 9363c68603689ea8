"""CloudFormation: the properties that the patches apply."""

from __future__ import annotations

import json
import urllib.request

from tests.harness import (
    Case,
    aws,
    function_zip,
    inbox,
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
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )

        def done() -> dict | None:
            found = aws("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
            return None if found["StackStatus"].endswith("IN_PROGRESS") else found

        return until(done, "the stack")

    def test_template_sets_reserved_concurrency(self) -> None:
        name = unique("f")
        properties = {"FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap"}
        properties["ReservedConcurrentExecutions"] = 5
        function = {"Type": "AWS::Serverless::Function", "Properties": properties}
        self.assertEqual(self.deploy({"Function": function})["StackStatus"], "CREATE_COMPLETE")
        found = aws("lambda").get_function_concurrency(FunctionName=name)
        self.assertEqual(found["ReservedConcurrentExecutions"], 5)

    def test_template_sets_the_boundary_of_a_role(self) -> None:
        name = unique("role")
        boundary = "arn:aws:iam::aws:policy/PowerUserAccess"
        trust = {"Version": "2012-10-17", "Statement": []}
        properties = {"RoleName": name, "AssumeRolePolicyDocument": trust}
        role = {"Type": "AWS::IAM::Role", "Properties": properties}
        properties["PermissionsBoundary"] = boundary
        self.assertEqual(self.deploy({"Role": role})["StackStatus"], "CREATE_COMPLETE")
        found = aws("iam").get_role(RoleName=name)["Role"]["PermissionsBoundary"]
        self.assertEqual(found["PermissionsBoundaryArn"], boundary)

    def test_template_keeps_the_settings_of_a_kafka_source(self) -> None:
        name = unique("f")
        function = {"FunctionName": name, "Runtime": "provided.al2023", "Handler": "bootstrap"}
        settings = {
            "Topics": ["customer"],
            "AmazonManagedKafkaEventSourceConfig": {"ConsumerGroupId": "group"},
            "ProvisionedPollerConfig": {"MinimumPollers": 1, "MaximumPollers": 3},
        }
        source = {
            "FunctionName": {"Ref": "Function"},
            "EventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/c/1",
            "StartingPosition": "TRIM_HORIZON",
            **settings,
        }
        resources = {
            "Function": {"Type": "AWS::Serverless::Function", "Properties": function},
            "Source": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": source},
        }

        self.assertEqual(self.deploy(resources)["StackStatus"], "CREATE_COMPLETE")

        found = aws("lambda").list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
        self.assertEqual({key: found[0][key] for key in settings}, settings)

    def test_address_of_a_function_url_answers(self) -> None:
        properties = {"Runtime": "provided.al2023", "Handler": "bootstrap"}
        url = {"Type": "AWS::Lambda::Url"}
        url["Properties"] = {
            "AuthType": "NONE",
            "TargetFunctionArn": {"Fn::GetAtt": ["Function", "Arn"]},
        }
        permission = {"Type": "AWS::Lambda::Permission"}
        permission["Properties"] = {
            "Action": "lambda:InvokeFunctionUrl",
            "FunctionName": {"Ref": "Function"},
            "Principal": "*",
            "FunctionUrlAuthType": "NONE",
        }
        parameter = {"Type": "AWS::SSM::Parameter"}
        address = {"Fn::GetAtt": ["Url", "FunctionUrl"]}
        name = "/" + unique("address")
        parameter["Properties"] = {"Name": name, "Type": "String", "Value": address}
        function = {"Type": "AWS::Serverless::Function", "Properties": properties}
        function["Properties"]["Environment"] = {"Variables": {"INBOX": inbox.url}}
        resources = {"Function": function, "Url": url, "Permission": permission}

        self.assertEqual(
            self.deploy({**resources, "Address": parameter})["StackStatus"], "CREATE_COMPLETE"
        )

        found = aws("ssm").get_parameter(Name=name)["Parameter"]["Value"]
        with urllib.request.urlopen(found + "some/path?a=b") as answer:
            self.assertEqual(json.load(answer)["rawQueryString"], "a=b")

    def test_template_with_an_invalid_definition_fails(self) -> None:
        definition = one({"Type": "Pass", "Next": "Nowhere"})
        machine = {"Type": "AWS::Serverless::StateMachine"}
        machine["Properties"] = {"Definition": definition}
        self.assertIn(
            self.deploy({"Machine": machine})["StackStatus"],
            ("ROLLBACK_COMPLETE", "CREATE_FAILED"),
        )
