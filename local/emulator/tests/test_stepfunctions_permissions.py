"""Step Functions: what roles allow, and the services that state machines call."""

from __future__ import annotations

import json

from tests.harness import (
    ACCOUNT,
    END,
    EVERYTHING,
    StepFunctions,
    allow,
    arn,
    as_role,
    aws,
    callback,
    grant,
    inbox,
    invoke,
    launcher,
    make_queue,
    make_role,
    one,
    receive,
    unique,
)


def setUpModule() -> None:
    launcher.start()


class MachineRole(StepFunctions):
    """A state machine may do what its role allows."""

    def task(self, resource: str, parameters: dict) -> dict:
        return one({"Type": "Task", "Resource": resource, "Parameters": parameters})

    def messaging_cases(self) -> list[tuple]:
        """Calls that start or send something: resource, parameters, error, statement needed."""
        queue_url, queue_arn = make_queue()
        topic = aws("sns").create_topic(Name=unique("topic"))["TopicArn"]
        child = self.create(one(END))
        function = arn("lambda", "function:worker")
        states = "arn:aws:states:::"
        entries = [{"Source": "s", "DetailType": "t", "Detail": "{}"}]
        return [
            (function, {}, "Lambda.AWSLambdaException", allow("lambda:InvokeFunction", function)),
            (
                states + "lambda:invoke",
                {"FunctionName": "worker", "Payload": {}},
                "Lambda.AWSLambdaException",
                allow("lambda:InvokeFunction", function),
            ),
            (
                states + "states:startExecution",
                {"StateMachineArn": child},
                "StepFunctions.AccessDeniedException",
                allow("states:StartExecution", child),
            ),
            (
                states + "sqs:sendMessage",
                {"QueueUrl": queue_url, "MessageBody": "m"},
                "SQS.AccessDeniedException",
                allow("sqs:SendMessage", queue_arn),
            ),
            (
                states + "sns:publish",
                {"TopicArn": topic, "Message": "m"},
                "SNS.AccessDeniedException",
                allow("sns:Publish", topic),
            ),
            (
                states + "events:putEvents",
                {"Entries": entries},
                "EventBridge.AccessDeniedException",
                allow("events:PutEvents", arn("events", "event-bus/default")),
            ),
        ]

    def storage_cases(self) -> list[tuple]:
        """Calls that write something: resource, parameters, error, statement needed."""
        table, bucket = unique("table"), unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        aws("dynamodb").create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        states = "arn:aws:states:::"
        item = {"TableName": table, "Item": {"k": {"S": "a"}}}
        thing = {"Bucket": bucket, "Key": "k", "Body": {"a": 1}}
        message = {"Topic": "a/b", "Payload": {"a": 1}}
        return [
            (
                states + "dynamodb:putItem",
                item,
                "DynamoDB.AccessDeniedException",
                allow("dynamodb:PutItem", arn("dynamodb", f"table/{table}")),
            ),
            (
                states + "aws-sdk:dynamodb:putItem",
                item,
                "DynamoDb.AccessDeniedException",
                allow("dynamodb:PutItem", arn("dynamodb", f"table/{table}")),
            ),
            (
                states + "aws-sdk:s3:putObject",
                thing,
                "S3.AccessDenied",
                allow("s3:PutObject", f"arn:aws:s3:::{bucket}/k"),
            ),
            (
                states + "aws-sdk:iotdataplane:publish",
                message,
                "IotDataPlane.ForbiddenException",
                allow("iot:Publish", arn("iot", "topic/a/b")),
            ),
        ]

    def test_role_is_checked(self) -> None:
        cases = self.messaging_cases() + self.storage_cases()
        for resource, parameters, error, statement in cases:
            with self.subTest(resource):
                role = make_role("states", [])
                definition = self.task(resource, parameters)
                self.assertEqual(self.failure(definition, role=role), error)

                grant(role, [statement])
                found = self.run_machine(definition, role=role)
                self.assertEqual(found["status"], "SUCCEEDED", found)

    def test_item_reader_needs_the_role(self) -> None:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        rows = b'id,customer\r\n1,"Baker, Sons"\r\n2,\r\n'
        aws("s3").put_object(Bucket=bucket, Key="tenant/report.csv", Body=rows)
        definition = one(
            {
                "Type": "Map",
                "ItemReader": {
                    "Resource": "arn:aws:states:::s3:getObject",
                    "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
                    "Parameters": {"Bucket": bucket, "Key": "tenant/report.csv"},
                },
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    **one(END),
                },
            }
        )
        role = make_role("states", [allow("s3:GetObject", f"arn:aws:s3:::{bucket}/other/*")])
        self.assertEqual(self.failure(definition, role=role), "States.ItemReaderFailed")

        grant(role, [allow("s3:GetObject", f"arn:aws:s3:::{bucket}/tenant/*")])
        expected = [{"id": "1", "customer": "Baker, Sons"}, {"id": "2", "customer": ""}]
        found = self.run_machine(definition, role=role)
        self.assertEqual(json.loads(found.get("output") or "null"), expected, found)

    def test_denied_invocation_names_role_and_function(self) -> None:
        role = make_role(
            "states", [allow("lambda:InvokeFunction", arn("lambda", "function:other"))]
        )
        key = unique()
        found = self.run_machine(one(callback(key)), role=role)

        self.assertEqual(found["error"], "Lambda.AWSLambdaException")

        function = arn("lambda", "function:worker")
        name = role.rsplit("/", 1)[-1]
        self.assertRegex(
            found["cause"],
            rf"^User: arn:aws:sts::{ACCOUNT}:assumed-role/{name}/\S+ is not authorized to perform: "
            rf"lambda:InvokeFunction on resource: {function} because no identity-based policy "
            r"allows the lambda:InvokeFunction action \(Service: Lambda, Status Code: 403, ",
        )
        self.assertEqual(inbox.of(key), [])

    def test_role_must_trust_step_functions(self) -> None:
        role = make_role("lambda", EVERYTHING)
        self.assertEqual(self.failure(one(invoke({})), role=role), "Lambda.AWSLambdaException")

    def test_task_can_call_s3_and_iot_data(self) -> None:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        put = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:putObject"}
        put["Parameters"] = {"Bucket": bucket, "Key": "k", "Body.$": "$"}
        get = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:getObject"}
        get["Parameters"] = {"Bucket": bucket, "Key": "k"}
        states = {"Put": {**put, "Next": "Get"}, "Get": {**get, "End": True}}
        output = self.output({"StartAt": "Put", "States": states}, {"a": [1]})

        self.assertEqual(json.loads(output["Body"]), {"a": [1]})

        copy = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:copyObject"}
        copy["Parameters"] = {"Bucket": bucket, "Key": "copies/k", "CopySource": f"{bucket}/k"}
        self.assertRegex(self.output(one(copy))["CopyObjectResult"]["LastModified"], r"^\d{4}-")

        find = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:listObjectsV2"}
        find["Parameters"] = {"Bucket": bucket, "Prefix": "copies/", "MaxKeys": 1}
        found = self.output(one(find))
        self.assertEqual((found["KeyCount"], found["Contents"][0]["Key"]), (1, "copies/k"))

        get["Parameters"]["Key"] = "missing"
        self.assertEqual(self.failure(one(get)), "S3.NoSuchKey")

        queue_url, rule = make_queue()[0], unique("rule")
        role = make_role("iot", EVERYTHING)
        action = {"sqs": {"queueUrl": queue_url, "roleArn": role, "useBase64": False}}
        payload = {"sql": f"SELECT * FROM 'sdk/{rule}'", "actions": [action]}
        aws("iot").create_topic_rule(ruleName=rule, topicRulePayload=payload)
        publish = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:iotdataplane:publish"}
        publish["Parameters"] = {"Topic": f"sdk/{rule}", "Payload.$": "$", "Qos": 1}
        self.output(one(publish), {"b": 2})

        self.assertEqual(json.loads(receive(queue_url)["Body"]), {"b": 2})

    def test_permission_to_answer_can_name_the_machine(self) -> None:
        keys = unique(), unique()
        ours, others = (self.create(one(callback(key))) for key in keys)
        executions = [
            self.sfn.start_execution(stateMachineArn=machine)["executionArn"]
            for machine in (ours, others)
        ]
        our_token, other_token = (self.token(key) for key in keys)
        client = as_role(
            "stepfunctions", make_role("lambda", [allow("states:SendTaskSuccess", ours)])
        )
        for token in (other_token, "garbage"):
            with self.refused("AccessDeniedException", "states:SendTaskSuccess"):
                client.send_task_success(taskToken=token, output="1")
        for answer in (client.send_task_heartbeat, client.send_task_failure):
            with self.refused("AccessDeniedException"):
                answer(taskToken=our_token)
        client.send_task_success(taskToken=our_token, output="1")

        self.assertEqual(self.ended(executions[0])["output"], "1")
        with self.refused("TaskTimedOut"):
            client.send_task_success(taskToken=our_token, output="1")
        self.assertEqual(self.describe(executions[1])["status"], "RUNNING")

        self.sfn.send_task_success(taskToken=other_token, output="2")
        self.assertEqual(self.ended(executions[1])["output"], "2")
