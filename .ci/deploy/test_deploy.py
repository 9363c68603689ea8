"""Deploys the stack with the real SAM CLI into the emulated AWS, as docs/deploy.md says, with the least permissions.

    test_deploy.py

The stack is built, deployed, used, changed and deleted by a user who has the policies of infra/deploy-policy.yml. Every
combination of the stack's parts must give a valid change set, and every statement of the policies must be needed. The
first failure ends the test with status 1. Logs are in .postern/deploy.
"""

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import roles
from emulator import ROOT, Emulator, Identity, until
from stacks import STACK, Template, deploy, deploy_policies, sam, statements, without

sys.path.insert(0, str(ROOT / "infra"))
import check_tools

PARTS = ("Jobs", "Examples", "Approvals", "ClaimCheck", "Kafka", "Grip", "Console")
CLUSTER = (
    "arn:aws:kafka:us-east-1:111111111111:cluster/customer/00000000-0000-4000-8000-000000000000-1"
)
CONNECTION = "arn:aws:kafka:us-east-1:123456789012:vpc-connection/111111111111/customer/0-2"
BOUNDARY = "arn:aws:iam::aws:policy/PowerUserAccess"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute()
# Without these the build takes as long as one for AWS. The test is about deploying, not about speed.
QUICK_BUILD = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    # A folder of its own, so that the release profile of `make bench` is not built again after each test.
    "CARGO_TARGET_DIR": str(TARGET / "sam"),
}


def main() -> None:
    folder = ROOT / ".postern" / "deploy"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    with Emulator(folder) as emulator:
        step("building with the SAM CLI")
        old_tools_are_refused()
        check_tools.main()
        built = emulator.root.run(*build(), **QUICK_BUILD)
        if built.returncode != 0:
            sys.exit(f"{built.stdout}\nsam build failed")

        policies = deploy_policies(emulator)
        deployer = emulator.user("deployer", policies)
        step("deploying with the least permissions")
        make_package_bucket(emulator, deployer)
        deployed = deploy(deployer)
        run_a_job(emulator, deployed)
        step("verifying it")
        verify(emulator)

        step("the bundle of a release, and every combination of its parts")
        values = given(emulator)
        template = Template(emulator, release(emulator))
        combinations(template, deployer, values)
        a_missing_secret_stops_the_deployment(deployer)

        step("turning everything on, with a network, a key, a boundary and names")
        vpc = network(emulator)
        turn_everything_on(emulator, deployer, values, vpc)
        step("what each role may do, and what it may not")
        roles.check(emulator)
        step("turning it off again")
        turn_off(emulator, deployer)
        step("Kafka again, beside the bucket that stayed")
        turn_kafka_on_again(deployer)

        step("deleting")
        sam(deployer, "delete", "--no-prompts")
        nothing_is_left(emulator)
        template.package()
        step("each statement of the policies is needed")
        statements_are_needed(emulator, template, policies, {**values, **vpc})
    print(
        "OK: the stack can be deployed, changed and deleted with the policies of infra/deploy-policy.yml"
    )


def step(text: str) -> None:
    print(f"{time.monotonic() - START:5.0f} s  {text}", flush=True)


START = time.monotonic()


def build() -> list[str]:
    return [
        str(pathlib.Path(sys.executable).parent / "sam"),
        "build",
        "--parameter-overrides",
        "Architecture=x86_64",
    ]


def old_tools_are_refused() -> None:
    for said, least in (("SAM CLI, version 1.150.1", (1, 151)), ("cargo-lambda 1.7.9 (x)", (1, 8))):
        if not check_tools.too_old("the tool", said, least):
            sys.exit(f"{said} passes as {least}")


def make_package_bucket(emulator: Emulator, deployer: Identity) -> None:
    """The first deployment makes the SAM CLI's bucket. Its policy refuses requests without TLS, which the emulator does
    not speak, so that the deployment gets no further until the policy is gone."""
    deploy(deployer, fails="PutObject.* with an explicit deny in a resource-based policy")
    s3 = emulator.root.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith("aws-sam-cli-managed-default-"):
            s3.delete_bucket_policy(Bucket=bucket["Name"])


# ---- Jobs ------------------------------------------------------------------------------------------------------------


def run_a_job(emulator: Emulator, deployed: dict[str, str]) -> None:
    """Enrols a worker as `make enroll` does, starts it, and runs one job."""
    files = emulator.folder / "worker"
    enroll = [ROOT / ".postern/venv/bin/python", ROOT / "infra/enroll_worker.py", "--stack", STACK]
    more = [
        "--endpoint",
        f"localhost:{emulator.mqtt}",
        "--ca",
        emulator.folder / "ca.pem",
        "--folder",
        files,
    ]
    done = emulator.root.run(*enroll, *more)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nthe worker cannot be enrolled")

    with (emulator.folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [TARGET / "debug/postern-worker", "--config", files / "worker.toml"],
            env={**os.environ, "POSTERN_STATE_DIR": str(files / "state")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            output = execute(emulator, deployed["StateMachineArn"], {"a": 15, "b": 42})
        finally:
            worker.terminate()
            worker.wait(60)
    if output != {"a": 15, "b": 42, "lambdaOutput": {"result": 57}}:
        sys.exit(f"the job ended with {output}")

    removed = emulator.root.run(*enroll, "--remove")
    if removed.returncode != 0:
        sys.exit(f"{removed.stdout}\nthe worker's identity cannot be removed")


def verify(emulator: Emulator) -> None:
    """`make verify` for the stack as it was deployed."""
    where = ["--endpoint", emulator.endpoint, "--broker", f"localhost:{emulator.mqtt}"]
    less = ["--jobs", "5", "--dead-letter-seconds", "60"]
    done = emulator.root.run(TARGET / "debug/postern-verify", "--stack", STACK, *where, *less)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nmake verify is not green")


def execute(emulator: Emulator, machine: str, job: dict) -> dict:
    states = emulator.root.client("stepfunctions")
    arn = states.start_execution(stateMachineArn=machine, input=json.dumps(job))["executionArn"]

    def ended() -> dict | None:
        found = states.describe_execution(executionArn=arn)
        return found if found["status"] != "RUNNING" else None

    found = until(ended, "the job")
    return json.loads(found.get("output") or json.dumps(found["status"]))


def release(emulator: Emulator) -> pathlib.Path:
    """Makes a release's bundle and fetches it, as docs/deploy.md says for users without a Rust toolchain."""
    files, bundle = emulator.folder / "release", emulator.folder / "bundle"
    package = [sys.executable, "-B", ROOT / "infra/package.py"]
    about = ["--version", "0.0.1", "--architecture", "x86_64"]
    fetch = [*package, "fetch", bundle, *about, "--from", files.as_uri()]
    run([*package, "make", TARGET / "sam/lambda", files, *about])
    run(fetch)

    archive = files / "postern-0.0.1-x86_64.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1])
    run(fetch, fails="is damaged")
    return bundle


def run(command: list, fails: str = "") -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if (done.returncode != 0) != bool(fails) or fails not in done.stderr:
        sys.exit(f"{done.stdout}{done.stderr}\n{command} ended with {done.returncode}")


# ---- The parts -------------------------------------------------------------------------------------------------------


def given(emulator: Emulator) -> dict[str, str]:
    """The parameters that the parts need."""
    secret = {"GRIP_URL": "http://127.0.0.1:5561/", "GRIP_VERIFY_KEY": "changeme"}
    client = emulator.root.client("secretsmanager")
    arn = client.create_secret(Name="grip", SecretString=json.dumps(secret))["ARN"]
    return {
        "Architecture": "x86_64",
        "GripSecretArn": arn,
        "LiveUrl": "wss://live.example/live",
        "OidcIssuer": "https://issuer.example",
        "MskClusterArn": CLUSTER,
        "MskSourceArn": CONNECTION,
        "Schedule": "rate(1 day)",
        "TableSchedule": "rate(1 day)",
        "CsvColumns": "id,name,city,orders",
    }


def combinations(template: Template, deployer: Identity, values: dict[str, str]) -> None:
    """Each part, each pair of parts, none and all are valid changes of the deployed stack. `make lint` goes through all
    combinations without a change set, which takes a second each."""
    client = deployer.client("cloudformation")
    pairs = [set(pair) for pair in itertools.combinations(PARTS, 2)]
    for chosen in [set(), *({part} for part in PARTS), *pairs, set(PARTS)]:
        name = "combination-" + "-".join(sorted(chosen)) if chosen else "nothing"
        switches = {part: str(part in chosen).lower() for part in PARTS}
        status, reason = template.change_set(deployer, name, {**values, **switches}, "UPDATE")
        if status != "CREATE_COMPLETE":
            sys.exit(f"{sorted(chosen)}: the change set is {status}: {reason}")
        client.delete_change_set(StackName=STACK, ChangeSetName=name)


def network(emulator: Emulator) -> dict[str, str]:
    """The parameters that put the functions into a VPC. The emulator forgets it, so that the statement Networks, which only
    a function in a VPC needs, shows that it reached the functions."""
    client = emulator.root.client("ec2")
    vpc = client.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    subnet = client.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
    group = client.create_security_group(VpcId=vpc, GroupName="functions", Description="functions")
    return {"VpcSubnetIds": subnet, "VpcSecurityGroupIds": group["GroupId"]}


def a_missing_secret_stops_the_deployment(deployer: Identity) -> None:
    deploy(deployer, "Grip=true", fails="needs GripSecretArn")


def turn_everything_on(
    emulator: Emulator, deployer: Identity, values: dict[str, str], vpc: dict[str, str]
) -> None:
    key = emulator.root.client("kms").create_key()["KeyMetadata"]["Arn"]
    enterprise = {
        "KmsKeyArn": key,
        "LogLevel": "DEBUG",
        "NamePrefix": "postern-acme-",
        "PermissionsBoundaryArn": BOUNDARY,
        "ReservedConcurrency": "5",
        **vpc,
    }
    every = {**values, **enterprise, **dict.fromkeys(PARTS, "true")}
    del every["Architecture"]
    made = deploy(deployer, *(f'{name}="{value}"' for name, value in every.items()))

    function = emulator.root.client("lambda").get_function(FunctionName="postern-acme-dispatcher")
    settings = function["Configuration"]
    if settings["Environment"]["Variables"]["LOG_LEVEL"] != "DEBUG":
        sys.exit(f"LogLevel did not reach the function: {settings}")
    if function["Concurrency"]["ReservedConcurrentExecutions"] != 5:
        sys.exit(f"ReservedConcurrency did not reach the function: {function}")
    role = emulator.root.client("iam").get_role(RoleName=settings["Role"].rsplit("/", 1)[-1])[
        "Role"
    ]
    if role["PermissionsBoundary"]["PermissionsBoundaryArn"] != BOUNDARY:
        sys.exit(f"the role has no boundary: {role}")
    schedule = emulator.root.client("scheduler").get_schedule(Name=made["ScheduleName"])
    if schedule["Target"]["Arn"] != made["StateMachineArn"]:
        sys.exit(f"the schedule starts something else: {schedule}")

    for url in (made["GripEchoUrl"], made["ApprovalPage"]):
        if (status := status_of(url)) != 403:
            sys.exit(f"{url} answers {status} to a request without a signature, instead of 403")
    event = (ROOT / "events/msk-to-s3/two-partitions.json").read_bytes()
    client = emulator.root.client("lambda")
    answer = client.invoke(FunctionName=made["MskToS3FunctionName"], Payload=event)[
        "Payload"
    ].read()
    if json.loads(answer) != {"batchItemFailures": []}:
        sys.exit(f"msk-to-s3 answers {answer}")


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def turn_off(emulator: Emulator, deployer: Identity) -> None:
    """A deployment without the parameters removes the parts that they had added. The CSV bucket stays."""
    parts = ("Examples", "Approvals", "ClaimCheck", "Kafka", "Grip", "Console")
    off = [f"{part}=false" for part in parts]
    empty = [
        "MskClusterArn",
        "MskSourceArn",
        "GripSecretArn",
        "LiveUrl",
        "Schedule",
        "KmsKeyArn",
        "NamePrefix",
    ]
    empty += [
        "PermissionsBoundaryArn",
        "ReservedConcurrency",
        "VpcSubnetIds",
        "VpcSecurityGroupIds",
    ]
    made = deploy(deployer, *off, *(f'{name}=""' for name in empty))
    if names := {"GripEchoUrl", "ApprovalPage", "MskToS3RoleArn", "DojoStateMachineArn"} & set(
        made
    ):
        sys.exit(f"these are still there: {names}")
    functions = emulator.root.client("lambda").list_functions()["Functions"]
    if len(functions) != 4:
        sys.exit(
            f"a stack for jobs has four functions, not {[one['FunctionName'] for one in functions]}"
        )


def turn_kafka_on_again(deployer: Identity) -> None:
    """The bucket with the default name has stayed, so that Kafka needs another name, as docs/deploy.md says."""
    kafka = ["Kafka=true", f"MskClusterArn={CLUSTER}", f"MskSourceArn={CONNECTION}"]
    deploy(deployer, *kafka, fails="already exists")
    made = deploy(deployer, *kafka, "CsvBucketName=postern-csv-2")
    if made["CsvBucketName"] != "postern-csv-2":
        sys.exit(f"the bucket is {made['CsvBucketName']}")


def nothing_is_left(emulator: Emulator) -> None:
    """`sam delete` leaves the buckets with data, and nothing else."""
    root = emulator.root
    left = {
        "functions": [
            one["FunctionName"] for one in root.client("lambda").list_functions()["Functions"]
        ],
        "machines": [
            one["name"]
            for one in root.client("stepfunctions").list_state_machines()["stateMachines"]
        ],
        "roles": [one["RoleName"] for one in root.client("iam").list_roles()["Roles"]],
        "queues": root.client("sqs").list_queues().get("QueueUrls", []),
        "logs": [
            one["logGroupName"] for one in root.client("logs").describe_log_groups()["logGroups"]
        ],
        "secrets": [
            one["Name"] for one in root.client("secretsmanager").list_secrets()["SecretList"]
        ],
        "things": [one["thingName"] for one in root.client("iot").list_things()["things"]],
        "iot policies": [
            one["policyName"] for one in root.client("iot").list_policies()["policies"]
        ],
        "rules": [one["ruleName"] for one in root.client("iot").list_topic_rules()["rules"]],
        "schedules": [
            one["Name"] for one in root.client("scheduler").list_schedules()["Schedules"]
        ],
    }
    # The secret with the keys of GRIP is the user's own. Lambda makes a log group for a function that logs elsewhere too.
    left["secrets"] = [name for name in left["secrets"] if name != "grip"]
    left["logs"] = [name for name in left["logs"] if not name.startswith("/aws/lambda/")]
    if left := {kind: names for kind, names in left.items() if names}:
        sys.exit(f"sam delete has left {left}")

    buckets = {one["Name"] for one in root.client("s3").list_buckets()["Buckets"]}
    prefixes = ("aws-sam-cli-managed-default-", "templates", "cross-account-lambda-consumer-data-")
    kept = (
        "postern-claimcheckbucket-",
        "postern-csv-2",
        "postern-joblistbucket-",
        "postern-mskdeadletterbucket-",
        "postern-syncedfilesbucket-",
    )
    if others := {name for name in buckets if not name.startswith(prefixes + kept)}:
        sys.exit(f"sam delete has left buckets that docs/deploy.md does not name: {others}")
    if missing := [
        prefix for prefix in kept if not any(name.startswith(prefix) for name in buckets)
    ]:
        sys.exit(f"sam delete has deleted buckets that may hold data: {missing}")


# ---- Permissions -----------------------------------------------------------------------------------------------------

DENIED = "not authorized to perform"


def statements_are_needed(
    emulator: Emulator, template: Template, policies: list[dict], values: dict[str, str]
) -> None:
    """Without any one statement, a stack with everything cannot be deployed."""
    every = {**values, **dict.fromkeys(PARTS, "true"), "CsvBucketName": "postern-test"}
    every["ReservedConcurrency"] = "5"
    # The emulator has no alarms on metric math, so that the dashboard alone stands for the statement about both.
    every["Dashboard"] = "true"
    # The emulator applies the transform without asking for the permission.
    for sid in sorted(set(statements(policies)) - {"Transform"}):
        deployer = emulator.user(f"without-{sid}", without(policies, sid))
        if sid in ("Stacks", "Packages"):
            deploy(deployer, fails=f"{DENIED}|AccessDenied|Access Denied|Forbidden")
            continue
        reasons = template.create(deployer, emulator.root, every)
        if DENIED not in reasons:
            sys.exit(
                f"without the statement {sid}, the deployment ends with {reasons or 'success'!r}"
            )
        template.delete(emulator.root)
        forget_buckets(emulator)

    deployer = emulator.user("with-all", policies)
    if reasons := template.create(deployer, emulator.root, every):
        sys.exit(f"with all statements, the deployment fails: {reasons}")


def forget_buckets(emulator: Emulator) -> None:
    """Deletes the buckets of a stack that failed: the names would be taken for the next one."""
    s3 = emulator.root.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith("postern-"):
            for found in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
                s3.delete_object(Bucket=bucket["Name"], Key=found["Key"])
            s3.delete_bucket(Bucket=bucket["Name"])


if __name__ == "__main__":
    main()
