"""What the tests share: an emulator, functions, and an inbox that receives their events.

Each test module runs a launch.py of its own, on free ports, with AUTH=true and a temporary folder.
The module's `setUpModule` calls `launcher.start`, and the end of the module stops it.

The functions are a small Python program that speaks the Lambda Runtime API. It reports each event
to an HTTP server in this process, so that a test can wait until a function has an event.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

FOLDER = Path(__file__).resolve().parent.parent  # with launch.py
ACCOUNT, REGION = "123456789012", "us-east-1"
TIMEOUT = 20.0  # seconds; a test fails when a condition is not met in time

FUNCTION = """#!/usr/bin/env python3
import http.client, json, os, time, urllib.request
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
here = "/2018-06-01/runtime/invocation/"
def call(method, path, body=None):
    api.request(method, path, body)
    answer = api.getresponse()
    return answer.headers, answer.read()
while True:
    headers, event = call("GET", here + "next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(event)
    do = event.get("do", "echo") if isinstance(event, dict) else "echo"
    if do != "silent":
        report = {"event": event, "request": request, "pid": os.getpid()}
        report["function"] = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        urllib.request.urlopen(os.environ["INBOX"], json.dumps(report).encode()).read()
    outcome, answer = "/response", event
    if do == "fail":
        outcome, answer = "/error", {"errorType": event["error"], "errorMessage": "as requested"}
    elif do == "size":
        answer = "x" * event["size"]
    elif do == "environment":
        answer = dict(os.environ)
    elif do == "hang":
        time.sleep(3600)
    call("POST", here + request + outcome, json.dumps(answer))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """Wait until the condition returns a true value, and return the value."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout:g} s for {what}")


class Launcher:
    """The emulator under test. Each test module starts a new one."""

    def start(self, **environment: str) -> None:
        unittest.addModuleCleanup(self.stop)
        self.folder = tempfile.mkdtemp(prefix="patches-")
        self.port, self.mqtt_port = free_port(), free_port()
        self.log = Path(self.folder) / "log"
        self.clients: dict[str, Any] = {}

        foreign = ("AWS_", "IOT_", "LAMBDA_", "POSTERN_", "SFN_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(FOLDER / "launch.py")],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **inherited,
                    "AUTH": "true",
                    "GATEWAY_PORT": str(self.port),
                    "IOT_MTLS_PORT": str(self.mqtt_port),
                    "MINISTACK_ACCOUNT_ID": ACCOUNT,
                    "TMPDIR": self.folder,
                    "SHELL_VARIABLE": "not for functions",
                    "AWS_ACCESS_KEY_ID": "somebody's",
                    "AWS_SECRET_ACCESS_KEY": "own",
                    "AWS_SESSION_TOKEN": "credentials",
                    "AWS_PROFILE": "none",
                    **environment,
                },
            )

        until(self.ready, "the launcher to be ready", 60)

        role = make_role("lambda", [])
        for name in ("worker", "other"):
            make_function(name, role)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError("the launcher ended:\n" + self.read_log())
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.port}/_ministack/ready"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["iot_mtls"] == "listening"
        return False

    def read_log(self) -> str:
        return self.log.read_text()[-4000:]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


class Inbox(http.server.ThreadingHTTPServer):
    """The HTTP server to which functions report their events."""

    daemon_threads = True

    def __init__(self) -> None:
        self.reports: list[dict] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                report["time"] = time.monotonic()
                self.server.reports.append(report)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def of(self, key: str) -> list[dict]:
        found = [r for r in list(self.reports) if isinstance(r["event"], dict)]
        return [r for r in found if r["event"].get("key") == key]

    def wait(self, key: str, count: int = 1) -> list[dict]:
        return until(
            lambda: len(self.of(key)) >= count and self.of(key), f"{count} reports of {key}"
        )


launcher = Launcher()
inbox = Inbox()


def aws(service: str) -> Any:
    """A client with the root user's credentials."""
    if service not in launcher.clients:
        launcher.clients[service] = client(service, "test", "test")
    return launcher.clients[service]


def client(service: str, key: str, secret: str, session: str | None = None) -> Any:
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{launcher.port}",
        region_name=REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=session,
        config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
    )


def unique(prefix: str = "t") -> str:
    return prefix + uuid.uuid4().hex[:12]


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


def allow(action: str, resource: str) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def document(statements: list[dict]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def make_role(service: str, statements: list[dict]) -> str:
    """Create a role that the service and the account's root may assume; return its ARN."""
    name = unique("role")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    root = f"arn:aws:iam::{ACCOUNT}:root"
    trust["Principal"] = {"Service": f"{service}.amazonaws.com", "AWS": root}

    aws("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document([trust]))
    if statements:
        grant(name, statements)
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def grant(role: str, statements: list[dict]) -> None:
    aws("iam").put_role_policy(
        RoleName=role.rsplit("/", 1)[-1], PolicyName="p", PolicyDocument=document(statements)
    )


def as_role(service: str, role: str) -> Any:
    """A client with the credentials of a role."""
    session = aws("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    keys = session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    return client(service, *keys)


def function_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, FUNCTION)
    return packed.getvalue()


def make_function(name: str, role: str, **options: Any) -> str:
    return aws("lambda").create_function(
        FunctionName=name,
        Runtime="provided.al2023",
        Architectures=["arm64"],
        Handler="bootstrap",
        Role=role,
        Code={"ZipFile": function_zip()},
        Timeout=30,
        Environment={"Variables": {"INBOX": inbox.url}},
        **options,
    )["FunctionArn"]


def make_queue() -> tuple[str, str]:
    name = unique("queue")
    return aws("sqs").create_queue(QueueName=name)["QueueUrl"], arn("sqs", name)


def receive(url: str) -> dict:
    def poll() -> dict | None:
        found = aws("sqs").receive_message(
            QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"]
        )
        return found.get("Messages", [None])[0]

    return until(poll, "a message")


def wait_for_log(words: str) -> None:
    until(lambda: words in launcher.read_log(), f"'{words}' in the log")


class Case(unittest.TestCase):
    maxDiff = None

    @contextlib.contextmanager
    def refused(self, code: str, words: str = "") -> Iterator[None]:
        with self.assertRaises(ClientError) as caught:
            yield
        self.assertEqual(caught.exception.response["Error"]["Code"], code)
        self.assertIn(words, str(caught.exception))


# ---- State machines ------------------------------------------------------------------------------

EVERYTHING = [allow("*", "*")]
END = {"Type": "Pass", "End": True}


def one(state: dict, **machine: Any) -> dict:
    """A machine of one state, which ends unless it has a `Next`. `Caught` is a state to go to."""
    if "Next" not in state and state["Type"] not in ("Choice", "Fail", "Succeed"):
        state = {**state, "End": True}
    return {"StartAt": "Only", "States": {"Only": state, "Caught": END}, **machine}


def invoke(payload: dict, function: str = "worker", **fields: Any) -> dict:
    parameters = {"FunctionName": arn("lambda", f"function:{function}"), "Payload": payload}
    resource = "arn:aws:states:::lambda:invoke"
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, **fields}


def callback(key: str, payload: dict | None = None, **fields: Any) -> dict:
    """A task that sends a token to the function `worker` and waits for the answer."""
    state = invoke({"key": key, "token.$": "$$.Task.Token", **(payload or {})}, **fields)
    return {**state, "Resource": state["Resource"] + ".waitForTaskToken"}


def catch(*errors: str) -> dict:
    return {"Catch": [{"ErrorEquals": list(errors), "Next": "Caught"}], "Next": "Caught"}


class StepFunctions(Case):
    role: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.role = make_role("states", EVERYTHING)
        cls.sfn = aws("stepfunctions")

    def create(self, definition: dict, role: str | None = None) -> str:
        return self.sfn.create_state_machine(
            name=unique("m"), definition=json.dumps(definition), roleArn=role or self.role
        )["stateMachineArn"]

    def start(self, definition: dict, data: Any = None, role: str | None = None) -> str:
        machine = self.create(definition, role)
        started = self.sfn.start_execution(stateMachineArn=machine, input=json.dumps(data or {}))
        return started["executionArn"]

    def describe(self, execution: str) -> dict:
        return self.sfn.describe_execution(executionArn=execution)

    def ended(self, execution: str) -> dict:
        def look() -> dict | None:
            found = self.describe(execution)
            return None if found["status"] == "RUNNING" else found

        return until(look, "the execution to end")

    def run_machine(self, definition: dict, data: Any = None, role: str | None = None) -> dict:
        return self.ended(self.start(definition, data, role))

    def output(self, definition: dict, data: Any = None, role: str | None = None) -> Any:
        found = self.run_machine(definition, data, role)
        self.assertEqual(found["status"], "SUCCEEDED", found)
        return json.loads(found["output"])

    def failure(self, definition: dict, data: Any = None, role: str | None = None) -> str:
        found = self.run_machine(definition, data, role)
        self.assertEqual(found["status"], "FAILED", found)
        return found["error"]

    def token(self, key: str, count: int = 1) -> str:
        return inbox.wait(key, count)[count - 1]["event"]["token"]

    def history(self, execution: str) -> list[dict]:
        return self.sfn.get_execution_history(executionArn=execution)["events"]


# ---- Functions -----------------------------------------------------------------------------------


class LambdaCase(Case):
    def function(self, *statements: dict, **options: Any) -> str:
        name = unique("f")
        make_function(name, make_role("lambda", [*statements]), **options)
        return name

    def invoke(self, name: str, event: dict) -> Any:
        answer = aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        return json.load(answer["Payload"])

    def invoke_async(self, name: str, event: dict) -> None:
        payload = json.dumps(event)
        aws("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=payload)

    def configure(self, name: str, **settings: Any) -> None:
        aws("lambda").put_function_event_invoke_config(FunctionName=name, **settings)
