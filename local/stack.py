"""Puts template.yml into an emulator the way `sam build` and `sam deploy` put it into AWS.

    stack.py deploy --name NAME --template template.yml --binaries FOLDER [--parameter KEY=VALUE ...]
    stack.py logs --name NAME
    stack.py outputs --name NAME
    stack.py mappings --function NAME
    stack.py invoke --function NAME --file EVENT
    stack.py put --bucket BUCKET --key KEY --file FILE

`deploy` zips the binary that each function's Metadata names as its `bootstrap`, uploads it and the state
machines' definitions, creates or updates the stack, and prints its outputs as JSON. `logs` prints what the
stack's functions have written, `outputs` a stack's outputs (`make run TARGET=aws` asks it of a real one),
`mappings` the settings of a function's event sources; `invoke` prints what a function answers, or its error.
The endpoint and the credentials come from the environment, as for any AWS client. Nothing else here is for
the cloud: there, `sam` does it.
"""

import argparse
import hashlib
import io
import json
import pathlib
import sys
import time
import zipfile

import boto3
from botocore.exceptions import ClientError
from samtranslator.yaml_helper import yaml_parse

BUCKET = "postern-artifacts"
NO_CODE = {"Bucket": BUCKET, "Key": "none"}


def deploy(
    name: str, template: pathlib.Path, binaries: pathlib.Path, parameters: dict[str, str]
) -> dict[str, str]:
    document = yaml_parse(template.read_text())
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for resource in document["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            # What will not be there needs no code: a demo builds what it deploys.
            wanted = "Condition" not in resource or holds(
                {"Condition": resource["Condition"]}, document, parameters
            )
            binary = binaries / resource["Metadata"]["BuildProperties"]["Binary"]
            properties["CodeUri"] = upload(s3, zipped(binary)) if wanted else NO_CODE
        elif resource["Type"] == "AWS::Serverless::StateMachine":
            definition = template.parent / properties["DefinitionUri"]
            properties["DefinitionUri"] = upload(s3, definition.read_bytes())
    return apply(name, json.dumps(document), parameters)


def holds(condition: dict, document: dict, parameters: dict[str, str]) -> bool:
    """Whether a template's condition is met."""

    def value(term) -> str:
        if not isinstance(term, dict):
            return str(term)
        name = term["Ref"]
        return parameters.get(name, str(document["Parameters"][name].get("Default", "")))

    [(function, terms)] = condition.items()
    if function == "Condition":
        return holds(document["Conditions"][terms], document, parameters)
    if function == "Fn::Equals":
        return value(terms[0]) == value(terms[1])
    met = [holds(term, document, parameters) for term in terms]
    return {"Fn::Not": not met[0], "Fn::And": all(met), "Fn::Or": any(met)}[function]


def zipped(binary: pathlib.Path) -> bytes:
    """A function's deployment package. Stored, not compressed: it goes over loopback."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_STORED) as files:
        # A fixed date, so that the same binary is the same package.
        entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o755 << 16
        files.writestr(entry, binary.read_bytes())
    return package.getvalue()


def upload(s3, content: bytes) -> dict[str, str]:
    key = hashlib.sha256(content).hexdigest()
    s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    return {"Bucket": BUCKET, "Key": key}


def apply(name: str, body: str, parameters: dict[str, str]) -> dict[str, str]:
    cloudformation = boto3.client("cloudformation")
    request = {
        "StackName": name,
        "TemplateBody": body,
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    try:
        cloudformation.create_stack(**request)
    except cloudformation.exceptions.AlreadyExistsException:
        try:
            cloudformation.update_stack(**request)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
    while True:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(0.05)
    if stack["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [
            f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}"
            for event in events
            if event["ResourceStatus"].endswith("_FAILED") and event.get("ResourceStatusReason")
        ]
        sys.exit(f"stack {name} is {stack['StackStatus']}: " + "; ".join(reversed(reasons)))
    return outputs(stack)


def outputs(stack: dict) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def logs(name: str) -> None:
    """All lines of all functions of the stack, function by function."""
    cloudformation, client = boto3.client("cloudformation"), boto3.client("logs")
    resources = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    functions = [
        r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::Lambda::Function"
    ]
    groups = [
        r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::Logs::LogGroup"
    ]
    for group in groups + [f"/aws/lambda/{function}" for function in functions]:
        try:
            pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
            for event in (event for page in pages for event in page["events"]):
                print(event["message"].rstrip("\n"))
        except client.exceptions.ResourceNotFoundException:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("deploy")
    command.add_argument("--name", required=True)
    command.add_argument("--template", required=True, type=pathlib.Path)
    command.add_argument("--binaries", required=True, type=pathlib.Path)
    command.add_argument("--parameter", action="append", default=[])
    for name in ("logs", "outputs"):
        commands.add_parser(name).add_argument("--name", required=True)
    commands.add_parser("mappings").add_argument("--function", required=True)
    command = commands.add_parser("invoke")
    command.add_argument("--function", required=True)
    command.add_argument("--file", required=True, type=pathlib.Path)
    command = commands.add_parser("put")
    command.add_argument("--bucket", required=True)
    command.add_argument("--key", required=True)
    command.add_argument("--file", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.command == "logs":
        logs(arguments.name)
        return
    if arguments.command == "outputs":
        stacks = boto3.client("cloudformation").describe_stacks(StackName=arguments.name)["Stacks"]
        print(json.dumps(outputs(stacks[0])))
        return
    if arguments.command == "mappings":
        client = boto3.client("lambda")
        pages = client.get_paginator("list_event_source_mappings")
        pages = pages.paginate(FunctionName=arguments.function)
        mappings = [mapping for page in pages for mapping in page["EventSourceMappings"]]
        print(json.dumps(mappings, default=str))
        return
    if arguments.command == "invoke":
        event = arguments.file.read_bytes()
        answer = boto3.client("lambda").invoke(FunctionName=arguments.function, Payload=event)
        print(answer["Payload"].read().decode())
        return
    if arguments.command == "put":
        body = arguments.file.read_bytes()
        boto3.client("s3").put_object(Bucket=arguments.bucket, Key=arguments.key, Body=body)
        return
    parameters = dict(parameter.split("=", 1) for parameter in arguments.parameter)
    print(json.dumps(deploy(arguments.name, arguments.template, arguments.binaries, parameters)))


if __name__ == "__main__":
    main()
