"""Stacks: deployed by the SAM CLI as a user does it, or from its packaged template without it."""

import json
import pathlib
import re
import sys

from emulator import ROOT, Emulator, Identity, until

STACK = "postern"
PACKAGED = "packaged.yml"
SAM = pathlib.Path(sys.executable).parent / "sam"


def sam(identity: Identity, *arguments: str, fails: str = "") -> str:
    """Runs the SAM CLI. `fails` is a text that the output must contain, if the command must fail."""
    done = identity.run(SAM, *arguments)
    if fails and done.returncode != 0 and re.search(fails, done.stdout, re.DOTALL):
        return done.stdout
    if fails or done.returncode != 0:
        expected = f"must fail with {fails!r}" if fails else "must succeed"
        end = "\n".join(done.stdout.splitlines()[-20:])
        sys.exit(
            f"{end}\nsam {' '.join(arguments)}: it {expected}; it ended with {done.returncode}"
        )
    return done.stdout


def deploy(identity: Identity, *parameters: str, fails: str = "") -> dict[str, str]:
    """`sam deploy` with these parameters. Returns the stack's outputs."""
    overrides = ["--parameter-overrides", "Architecture=x86_64", *parameters]
    sam(identity, "deploy", "--no-confirm-changeset", *overrides, fails=fails)
    return {} if fails else outputs(identity)


def outputs(identity: Identity) -> dict[str, str]:
    stack = identity.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


class Template:
    """The packaged template of a release's bundle, in a bucket, for operations that need no SAM CLI."""

    def __init__(self, emulator: Emulator, bundle: pathlib.Path) -> None:
        self.emulator, self.bundle = emulator, bundle
        self.url = f"{emulator.endpoint}/templates/{PACKAGED}"
        emulator.root.client("s3").create_bucket(Bucket="templates")
        self.package()

    def package(self) -> None:
        """Uploads the template and what it refers to. `sam delete` takes the latter away again."""
        packaged = self.emulator.folder / PACKAGED
        source = ["--template-file", str(self.bundle / "template.yml")]
        output = ["--resolve-s3", "--output-template-file", str(packaged)]
        sam(self.emulator.root, "package", *source, *output)
        s3 = self.emulator.root.client("s3")
        s3.put_object(Bucket="templates", Key=PACKAGED, Body=packaged.read_bytes())

    def change_set(
        self, identity: Identity, name: str, parameters: dict[str, str], kind: str, **more: object
    ) -> tuple[str, str]:
        """Creates a change set. Returns its status and the status's reason."""
        client = identity.client("cloudformation")
        client.create_change_set(
            StackName=STACK,
            ChangeSetName=name,
            ChangeSetType=kind,
            TemplateURL=self.url,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            **more,
        )

        def done() -> tuple[str, str] | None:
            found = client.describe_change_set(StackName=STACK, ChangeSetName=name)
            status = found["Status"]
            waiting = status.endswith("_PENDING") or status.endswith("_IN_PROGRESS")
            return None if waiting else (status, found.get("StatusReason", ""))

        return until(done, f"the change set {name}")

    def create(self, identity: Identity, root: Identity, parameters: dict[str, str]) -> str:
        """Creates the stack through a change set. Returns "" or the reasons for which it was not created."""
        status, reason = self.change_set(identity, "create", parameters, "CREATE")
        if status != "CREATE_COMPLETE":
            return reason
        identity.client("cloudformation").execute_change_set(
            StackName=STACK, ChangeSetName="create"
        )
        return finished(root)

    def delete(self, root: Identity) -> None:
        client = root.client("cloudformation")
        client.delete_stack(StackName=STACK)

        def gone() -> bool:
            try:
                found = client.describe_stacks(StackName=STACK)["Stacks"]
            except client.exceptions.ClientError:
                return True
            return found[0]["StackStatus"] == "DELETE_COMPLETE"

        until(gone, "the stack's deletion")


def finished(root: Identity) -> str:
    """Waits for the end of an operation. Returns "" or the reasons of its failure."""
    client = root.client("cloudformation")

    def status() -> str | None:
        found = client.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
        return None if found.endswith("_IN_PROGRESS") else found

    if until(status, "the stack") in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        return ""
    pages = client.get_paginator("describe_stack_events").paginate(StackName=STACK)
    events = [event for page in pages for event in page["StackEvents"]]
    failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    return "; ".join(event.get("ResourceStatusReason", "") for event in failed) or "it failed"


def deploy_policies(emulator: Emulator) -> list[dict]:
    """The documents of infra/deploy-policy.yml, as CloudFormation makes them."""
    root = emulator.root
    client = root.client("cloudformation")
    template = (ROOT / "infra/deploy-policy.yml").read_text()
    client.create_stack(
        StackName="deployer", TemplateBody=template, Capabilities=["CAPABILITY_IAM"]
    )
    described = until(
        lambda: [
            stack
            for stack in client.describe_stacks(StackName="deployer")["Stacks"]
            if stack["StackStatus"] == "CREATE_COMPLETE"
        ],
        "the policies of infra/deploy-policy.yml",
    )

    iam, documents = root.client("iam"), []
    for output in described[0]["Outputs"]:
        version = iam.get_policy_version(PolicyArn=output["OutputValue"], VersionId="v1")
        document = version["PolicyVersion"]["Document"]
        document = json.loads(document) if isinstance(document, str) else document
        size = len(re.sub(r"\s", "", json.dumps(document)))
        if size > 6_144:
            sys.exit(f"{output['OutputKey']} has {size} characters; IAM allows 6144")
        documents.append(document)
    return documents


def statements(documents: list[dict]) -> list[str]:
    return [statement["Sid"] for document in documents for statement in document["Statement"]]


def without(documents: list[dict], sid: str) -> list[dict]:
    """The policies without one statement."""
    kept = [
        {**document, "Statement": [one for one in document["Statement"] if one["Sid"] != sid]}
        for document in documents
    ]
    return [document for document in kept if document["Statement"]]
