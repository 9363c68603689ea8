"""A test for each mend of ministack: `python -m unittest -v` in this folder.

It starts launch.py on free ports, with AUTH=true and a temporary folder of its own, and stops it.
The functions are a small Python program that speaks the Lambda Runtime API; it reports each event
to an HTTP server in this process, so that a test can wait for what a function was given.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = Path(__file__).resolve().parent
ACCOUNT, REGION = "123456789012", "us-east-1"
PATIENCE = 20.0  # seconds until a condition that does not come true fails a test

FUNCTION = """#!/usr/bin/env python3
import http.client, json, os, urllib.request
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
        outcome, answer = "/error", {"errorType": event["error"], "errorMessage": "as told"}
    elif do == "size":
        answer = "x" * event["size"]
    elif do == "environment":
        answer = dict(os.environ)
    elif do == "hang":
        while True: pass
    call("POST", here + request + outcome, json.dumps(answer))
"""


# ---- The launcher under test --------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until the condition gives something true, and return that."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


class Launcher:
    """A launch.py of our own."""

    def __init__(self, **environment: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="mends-")
        self.port, self.mqtt_port = free_port(), free_port()
        self.log = open(Path(self.folder) / "log", "w+")  # noqa: SIM115
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAMBDA_"))}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "launch.py")],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={
                **inherited,
                "AUTH": "true",
                "GATEWAY_PORT": str(self.port),
                "IOT_MTLS_PORT": str(self.mqtt_port),
                "MINISTACK_ACCOUNT_ID": ACCOUNT,
                "TMPDIR": self.folder,
                "POSTERN_ASYNC_RETRY_SECONDS": "0.1,0.3",
                "SHELL_VARIABLE": "not for functions",
                "AWS_ACCESS_KEY_ID": "somebody's",
                "AWS_SECRET_ACCESS_KEY": "own",
                "AWS_SESSION_TOKEN": "credentials",
                "AWS_PROFILE": "none",
                **environment,
            },
        )
        self.clients: dict[str, Any] = {}
        until(self.ready, "the launcher to be ready", 60)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError("the launcher ended:\n" + self.read_log())
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{self.port}/_ministack/ready"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["iot_mtls"] == "listening"
        return False

    def read_log(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text()[-4000:]

    def client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = boto3.client(
                service,
                endpoint_url=f"http://127.0.0.1:{self.port}",
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}, inject_host_prefix=False),
            )
        return self.clients[service]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


class Inbox(http.server.ThreadingHTTPServer):
    """Where functions report the events that they are given."""

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

    def of(self, key: str, field: str = "key") -> list[dict]:
        found = [r for r in list(self.reports) if isinstance(r["event"], dict)]
        return [r for r in found if r["event"].get(field) == key]

    def wait(self, key: str, count: int = 1) -> list[dict]:
        return until(
            lambda: len(self.of(key)) >= count and self.of(key), f"{count} reports of {key}"
        )


launcher: Launcher
inbox: Inbox


def setUpModule() -> None:  # noqa: N802
    global launcher, inbox
    inbox = Inbox()
    launcher = Launcher()
    unittest.addModuleCleanup(launcher.stop)
    unittest.addModuleCleanup(inbox.shutdown)
    role = make_role("lambda", [])
    for name in ("worker", "other"):
        make_function(launcher, name, role)


def aws(service: str) -> Any:
    return launcher.client(service)


def unique(prefix: str = "t") -> str:
    return prefix + uuid.uuid4().hex[:12]


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


def allow(action: str, resource: str) -> dict:
    return {"Effect": "Allow", "Action": action, "Resource": resource}


def document(statements: list[dict]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def make_role(service: str, statements: list[dict], at: Launcher | None = None) -> str:
    iam = (at or launcher).client("iam")
    name = unique("role")
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    trust["Principal"] = {"Service": f"{service}.amazonaws.com"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=document([trust]))
    if statements:
        grant(name, statements, iam)
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def grant(role: str, statements: list[dict], iam: Any = None) -> None:
    (iam or aws("iam")).put_role_policy(
        RoleName=role.rsplit("/", 1)[-1], PolicyName="p", PolicyDocument=document(statements)
    )


def function_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, FUNCTION)
    return packed.getvalue()


def make_function(at: Launcher, name: str, role: str, **options: Any) -> str:
    return at.client("lambda").create_function(
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


def receive(url: str, at: Launcher | None = None) -> dict:
    def ask() -> dict | None:
        found = (
            (at or launcher)
            .client("sqs")
            .receive_message(QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"])
        )
        return found.get("Messages", [None])[0]

    return until(ask, "a message")


def log_says(words: str) -> None:
    until(lambda: words in launcher.read_log(), f"'{words}' in the log")


class Case(unittest.TestCase):
    maxDiff = None

    @contextlib.contextmanager
    def refused(self, code: str, words: str = "") -> Iterator[None]:
        with self.assertRaises(ClientError) as caught:
            yield
        self.assertEqual(caught.exception.response["Error"]["Code"], code)
        self.assertIn(words, str(caught.exception))


# ---- Step Functions -----------------------------------------------------------------------------

EVERYTHING = [allow("*", "*")]
END = {"Type": "Pass", "End": True}


def one(state: dict, **machine: Any) -> dict:
    """A machine of one state, which ends unless it says where to go; a state `Caught` is there."""
    if "Next" not in state and state["Type"] not in ("Choice", "Fail", "Succeed"):
        state = {**state, "End": True}
    return {"StartAt": "Only", "States": {"Only": state, "Caught": END}, **machine}


def invoke(payload: dict, function: str = "worker", **fields: Any) -> dict:
    parameters = {"FunctionName": arn("lambda", f"function:{function}"), "Payload": payload}
    resource = "arn:aws:states:::lambda:invoke"
    return {"Type": "Task", "Resource": resource, "Parameters": parameters, **fields}


def callback(key: str, payload: dict | None = None, **fields: Any) -> dict:
    """A task that is given to `worker`, with a token, and then waits."""
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


class CallbackTasks(StepFunctions):
    def test_heartbeat_timeout(self) -> None:
        key = unique()
        retry = {"ErrorEquals": ["States.HeartbeatTimeout"], "IntervalSeconds": 1}
        retry["MaxAttempts"] = 1
        state = callback(key, HeartbeatSeconds=1, TimeoutSeconds=60, Retry=[retry])
        began = time.monotonic()
        output = self.output(one({**state, **catch("States.Timeout")}))
        self.assertEqual(output, {"Error": "States.HeartbeatTimeout", "Cause": ""})
        self.assertGreaterEqual(time.monotonic() - began, 3.0)
        self.assertEqual(len(inbox.of(key)), 2)

    def test_heartbeats_keep_a_task_alive(self) -> None:
        key = unique()
        state = callback(key, HeartbeatSecondsPath="$.beat", TimeoutSecondsPath="$.whole")
        execution = self.start(one(state), {"beat": 1, "whole": 30})
        token = self.token(key)
        for _ in range(5):
            time.sleep(0.4)
            self.sfn.send_task_heartbeat(taskToken=token)
        self.assertEqual(self.describe(execution)["status"], "RUNNING")
        last = time.monotonic()
        found = self.ended(execution)
        self.assertEqual(found["error"], "States.HeartbeatTimeout")
        self.assertGreaterEqual(time.monotonic() - last, 0.8)

    def test_timeout_is_not_extended_by_heartbeats(self) -> None:
        key = unique()
        execution = self.start(
            one(callback(key, HeartbeatSeconds=1, TimeoutSecondsPath="$.t")), {"t": 1}
        )
        token = self.token(key)
        with contextlib.suppress(ClientError):
            while True:
                self.sfn.send_task_heartbeat(taskToken=token)
                time.sleep(0.1)
        self.assertEqual(self.ended(execution)["error"], "States.Timeout")

    def test_new_token_for_each_attempt(self) -> None:
        key = unique()
        retry = {"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 1}
        execution = self.start(one(callback(key, Retry=[retry])))
        first = self.token(key)
        self.assertGreater(len(first), 500)
        self.sfn.send_task_failure(taskToken=first, error="Busy", cause="try again")
        second = self.token(key, 2)
        self.assertNotEqual(first, second)
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_success(taskToken=first, output="1")
        self.sfn.send_task_success(taskToken=second, output='"done"')
        self.assertEqual(self.ended(execution)["output"], '"done"')

    def test_failing_function_fails_the_task(self) -> None:
        key = unique()
        state = callback(key, {"do": "fail", "error": "My.Error"}, TimeoutSeconds=60)
        output = self.output(one({**state, **catch("My.Error")}))
        self.assertEqual(output["Error"], "My.Error")
        cause = {"errorType": "My.Error", "errorMessage": "as told"}
        self.assertEqual(json.loads(output["Cause"]), cause)
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_success(taskToken=self.token(key), output="1")

    def test_token_errors(self) -> None:
        answers = (
            (self.sfn.send_task_success, {"output": "1"}),
            (self.sfn.send_task_failure, {}),
            (self.sfn.send_task_heartbeat, {}),
        )
        key = unique()
        execution = self.start(one(callback(key)))
        token = self.token(key)
        with self.refused("InvalidOutput"):
            self.sfn.send_task_success(taskToken=token, output="{")
        with self.refused("ValidationException"):
            self.sfn.send_task_success(taskToken=token, output=json.dumps("x" * 262_143))
        with self.refused("ValidationException"):
            self.sfn.send_task_failure(taskToken=token, error="x" * 257)
        with self.refused("ValidationException"):
            self.sfn.send_task_failure(taskToken=token, cause="x" * 32_769)
        self.assertEqual(self.describe(execution)["status"], "RUNNING")
        self.sfn.send_task_success(taskToken=token, output=json.dumps("x" * 262_142))
        self.assertEqual(len(self.ended(execution)["output"]), 262_144)
        for answer, more in answers:
            with self.subTest(answer.__name__):
                with self.refused("InvalidToken"):
                    answer(taskToken="garbage", **more)
                with self.refused("TaskTimedOut"):
                    answer(taskToken=token, **more)

    def test_stopped_execution_closes_its_tokens(self) -> None:
        key = unique()
        branches = [one(callback(key)), one({"Type": "Wait", "Seconds": 60})]
        execution = self.start(one({"Type": "Parallel", "Branches": branches}))
        token = self.token(key)
        until(lambda: "TaskSubmitted" in [e["type"] for e in self.history(execution)], "submission")
        self.sfn.stop_execution(executionArn=execution, error="Why", cause="because")
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_heartbeat(taskToken=token)
        found = self.describe(execution)
        self.assertEqual((found["status"], found["error"]), ("ABORTED", "Why"))
        self.assertEqual(self.history(execution)[-1]["type"], "ExecutionAborted")

    def test_machine_timeout(self) -> None:
        key = unique()
        found = self.run_machine(one(callback(key), TimeoutSeconds=1))
        self.assertEqual(found["status"], "TIMED_OUT")
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_success(taskToken=self.token(key), output="1")

    def test_task_timeout_does_not_wait_for_the_function(self) -> None:
        state = invoke({"do": "hang"}, "other", TimeoutSeconds=1)
        began = time.monotonic()
        self.assertEqual(self.failure(one(state)), "States.Timeout")
        self.assertLess(time.monotonic() - began, 10.0)


class Waiting(Case):
    def test_waits_end_when_the_execution_is_stopped(self) -> None:
        import mend_stepfunctions

        outer = mend_stepfunctions.Scope()
        inner = mend_stepfunctions.Scope(outer)
        ended: list[type] = []

        def wait() -> None:
            mend_stepfunctions._scope.set(inner)
            try:
                mend_stepfunctions.sfn._scaled_sleep(60)
            except mend_stepfunctions.Cancelled as cancelled:
                ended.append(type(cancelled))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        until(lambda: inner._on_cancel, "the wait to begin")
        outer.cancel()
        thread.join(PATIENCE)
        self.assertEqual(ended, [mend_stepfunctions.Cancelled])


class Errors(StepFunctions):
    def test_retry_with_max_delay(self) -> None:
        key = unique()
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "BackoffRate": 10}
        retry.update(MaxAttempts=2, MaxDelaySeconds=1)
        state = invoke({"key": key, "do": "fail", "error": "E"}, Retry=[retry])
        self.assertEqual(self.failure(one(state)), "E")
        times = [report["time"] for report in inbox.of(key)]
        self.assertEqual(len(times), 3)
        self.assertLess(times[2] - times[1], 5.0)

    def test_retry_delay(self) -> None:
        import mend_stepfunctions

        delay = mend_stepfunctions.retry_delay
        self.assertEqual(delay({}, 0), 1)
        self.assertEqual(delay({"IntervalSeconds": 100, "BackoffRate": 3}, 2), 900)
        self.assertEqual(delay({"IntervalSeconds": 5, "MaxDelaySeconds": 7}, 3), 7)
        drawn = {delay({"IntervalSeconds": 8, "JitterStrategy": "FULL"}, 0) for _ in range(50)}
        self.assertGreater(len(drawn), 40)
        self.assertTrue(all(0 <= seconds <= 8 for seconds in drawn))

    def test_names_that_match_an_error(self) -> None:
        import mend_stepfunctions

        matches = mend_stepfunctions._error_matches
        self.assertTrue(matches(["States.Timeout"], "States.HeartbeatTimeout"))
        self.assertFalse(matches(["States.HeartbeatTimeout"], "States.Timeout"))
        self.assertFalse(matches(["States.TaskFailed"], "States.HeartbeatTimeout"))
        self.assertTrue(matches(["States.ALL"], "States.HeartbeatTimeout"))
        self.assertFalse(matches(["States.ALL", "States.TaskFailed"], "States.DataLimitExceeded"))
        self.assertFalse(matches(["States.ALL"], "States.Runtime"))
        self.assertTrue(matches(["States.DataLimitExceeded"], "States.DataLimitExceeded"))

    def test_throttled_function(self) -> None:
        name = unique("f")
        make_function(launcher, name, make_role("lambda", []))
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.assertEqual(
            self.failure(one(invoke({"a": 1}, name))), "Lambda.TooManyRequestsException"
        )

    def test_failed_execution_has_no_output(self) -> None:
        found = self.run_machine(one({"Type": "Fail", "Error": "E", "Cause": "C"}))
        self.assertEqual((found["error"], found["cause"]), ("E", "C"))
        self.assertNotIn("output", found)

    def test_failed_child_execution(self) -> None:
        child = self.create(one({"Type": "Fail", "Error": "E", "Cause": "C"}))
        resource = "arn:aws:states:::states:startExecution.sync:2"
        state = {"Type": "Task", "Resource": resource, "Parameters": {"StateMachineArn": child}}
        output = self.output(one({**state, **catch("States.TaskFailed")}))
        cause = json.loads(output["Cause"])
        self.assertEqual((cause["Status"], cause["Error"], cause["Cause"]), ("FAILED", "E", "C"))


class Branches(StepFunctions):
    def test_each_branch_has_its_own_token(self) -> None:
        key = unique()
        branches = [one(callback(key, {"branch": index})) for index in range(8)]
        execution = self.start(one({"Type": "Parallel", "Branches": branches}))
        reports = inbox.wait(key, 8)
        self.assertEqual(len({report["event"]["token"] for report in reports}), 8)
        for report in reports:
            output = json.dumps(report["event"]["branch"])
            self.sfn.send_task_success(taskToken=report["event"]["token"], output=output)
        self.assertEqual(json.loads(self.ended(execution)["output"]), list(range(8)))

    def test_parallel_fails_at_once(self) -> None:
        key = unique()
        failing = one({"Type": "Wait", "Seconds": 1, "Next": "Bad"})
        failing["States"]["Bad"] = {"Type": "Fail", "Error": "E", "Cause": "C"}
        state = {"Type": "Parallel", "Branches": [one(callback(key)), failing]}
        output = self.output(one({**state, **catch("E")}))
        self.assertEqual(output, {"Error": "E", "Cause": "C"})
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_success(taskToken=self.token(key), output="1")

    def test_map_fails_at_once(self) -> None:
        key = unique()
        choice = {"Type": "Choice", "Default": "Bad"}
        choice["Choices"] = [{"Variable": "$", "NumericEquals": 1, "Next": "Ask"}]
        bad = {"Type": "Fail", "Error": "E", "Cause": "C"}
        states = {"Choose": choice, "Ask": {**callback(key), "End": True}, "Bad": bad}
        processor = {"StartAt": "Choose", "States": states}
        state = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor}
        output = self.output(one({**state, **catch("E")}), {"items": [1, 2]})
        self.assertEqual(output, {"Error": "E", "Cause": "C"})

    def test_map_keeps_order_and_concurrency(self) -> None:
        key = unique()
        state = {"Type": "Map", "ItemsPath": "$.items", "MaxConcurrency": 2}
        state["ItemProcessor"] = one(callback(key, {"item.$": "$"}))
        execution = self.start(one(state), {"items": [5, 6, 7]})
        for done in range(3):
            self.assertLessEqual(len(inbox.wait(key, min(done + 2, 3))), done + 2)
            event = inbox.of(key)[done]["event"]
            output = json.dumps(event["item"])
            self.sfn.send_task_success(taskToken=event["token"], output=output)
        self.assertEqual(json.loads(self.ended(execution)["output"]), [5, 6, 7])

    def test_jsonata_parallel(self) -> None:
        inner = {"QueryLanguage": "JSONata", "Type": "Pass", "Output": "{% $states.input.n + 1 %}"}
        state = {"QueryLanguage": "JSONata", "Type": "Parallel", "Branches": [one(inner)]}
        state["Arguments"] = {"n": "{% $states.input.given %}"}
        state["Output"] = {"sum": "{% $states.result[0] %}"}
        self.assertEqual(self.output(one(state), {"given": 4}), {"sum": 5})


class Executions(StepFunctions):
    def test_definitions_are_checked(self) -> None:
        faulty = {
            "no JSON": "{",
            "no states": '{"StartAt": "A"}',
            "bad StartAt": json.dumps({"StartAt": "A", "States": {"B": END}}),
            "bad Type": json.dumps(one({"Type": "Zork"})),
            "bad Next": json.dumps(one({"Type": "Pass", "Next": "Nowhere"})),
            "no Resource": json.dumps(one({"Type": "Task"})),
            "bad Default": json.dumps(one({"Type": "Choice", "Choices": [], "Default": "No"})),
            "bad Catch": json.dumps(
                one({**invoke({}), "Catch": [{"ErrorEquals": ["E"], "Next": "No"}]})
            ),
            "misspelt field": json.dumps(one(invoke({}, HeartBeatSeconds=1))),
            "slow heartbeat": json.dumps(one(invoke({}, HeartbeatSeconds=9, TimeoutSeconds=9))),
            "States.ALL not last": json.dumps(
                one(
                    invoke({}, Retry=[{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["E"]}]),
                )
            ),
            "States.ALL not alone": json.dumps(
                one({**invoke({}), **catch("States.ALL", "E")}),
            ),
            "bad branch": json.dumps(
                one({"Type": "Parallel", "Branches": [one({"Type": "Pass", "Next": "No"})]})
            ),
        }
        machine = self.create(one(END))
        for what, definition in faulty.items():
            with self.subTest(what):
                with self.refused("InvalidDefinition"):
                    self.sfn.create_state_machine(
                        name=unique(), definition=definition, roleArn=self.role
                    )
                with self.refused("InvalidDefinition"):
                    self.sfn.update_state_machine(stateMachineArn=machine, definition=definition)
                found = self.sfn.validate_state_machine_definition(definition=definition)
                self.assertEqual(found["result"], "FAIL")
        sound = self.sfn.validate_state_machine_definition(definition=json.dumps(one(END)))
        self.assertEqual(sound["result"], "OK")

    def test_size_limits(self) -> None:
        machine = self.create(one(END))
        with self.refused("ValidationException"):
            self.sfn.start_execution(stateMachineArn=machine, input=json.dumps("x" * 262_143))
        with self.refused("InvalidExecutionInput"):
            self.sfn.start_execution(stateMachineArn=machine, input="{oops")
        large = invoke({"do": "size", "size": 262_200})
        self.assertEqual(
            self.failure(one({**large, **catch("States.ALL")})), "States.DataLimitExceeded"
        )
        output = self.output(one({**large, **catch("States.DataLimitExceeded")}))
        self.assertEqual(output["Error"], "States.DataLimitExceeded")
        fits = invoke({"do": "size", "size": 262_000}, OutputPath="$.Payload")
        self.assertEqual(self.output(one(fits)), "x" * 262_000)

    def test_names_of_executions(self) -> None:
        machine = self.create(one({"Type": "Wait", "Seconds": 60}))

        def start(name: str, data: str) -> str:
            return self.sfn.start_execution(stateMachineArn=machine, name=name, input=data)[
                "executionArn"
            ]

        first = start("same", '{"a":1}')
        self.assertEqual(start("same", '{"a":1}'), first)
        with self.refused("ExecutionAlreadyExists"):
            start("same", '{"a":2}')
        self.sfn.stop_execution(executionArn=first)
        with self.refused("ExecutionAlreadyExists"):
            start("same", '{"a":1}')
        with self.refused("InvalidName"):
            start("with space", "{}")

    def test_context_object(self) -> None:
        key = unique()
        paths = {"role.$": "$$.Execution.RoleArn", "retries.$": "$$.State.RetryCount"}
        payload = {"key": key, "do": "fail", "error": "E", "entered.$": "$$.State.EnteredTime"}
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "MaxAttempts": 1}
        self.assertEqual(self.failure(one(invoke({**payload, **paths}, Retry=[retry]))), "E")
        first, second = (report["event"] for report in inbox.of(key))
        self.assertEqual(first["role"], self.role)
        self.assertEqual((first["retries"], second["retries"]), (0, 1))
        self.assertEqual(first["entered"], second["entered"])

    def test_missing_path(self) -> None:
        for parameters in ({"a.$": "$.nope"}, {"b": {"a.$": "$.list[1]"}}, {"a.$": "$$.Nope"}):
            with self.subTest(parameters):
                state = {"Type": "Pass", "Parameters": parameters}
                found = self.run_machine(one(state), {"list": [1]})
                self.assertEqual(found["error"], "States.Runtime")
                self.assertIn("specified for the field 'a.$' could not be found", found["cause"])
        there = {"a.$": "$.null", "b.$": "$.list[0]", "c.$": "$['odd name']", "d.$": "$"}
        data = {"null": None, "list": [1], "odd name": 2}
        output = self.output(one({"Type": "Pass", "Parameters": there}), data)
        self.assertEqual(output, {"a": None, "b": 1, "c": 2, "d": data})

    def test_jsonpath_variables(self) -> None:
        first = {"Type": "Pass", "Assign": {"x.$": "$.n", "y": {"z": 2}}, "Next": "Only"}
        selector = {"x.$": "$x", "z.$": "$y.z", "name.$": "$$.Execution.Name"}
        second = invoke({"x.$": "$x"}, ResultSelector=selector)
        definition = one(second)
        definition.update(StartAt="First", States={**definition["States"], "First": first})
        output = self.output(definition, {"n": 1})
        self.assertEqual((output["x"], output["z"], len(output["name"])), (1, 2, 36))
        self.assertEqual(self.failure(one(second)), "States.Runtime")

    def test_history(self) -> None:
        key = unique()
        state = callback(key, TimeoutSeconds=50, HeartbeatSeconds=20, ResultPath="$.r")
        execution = self.start(one({**state, "Next": "Caught"}))
        token = self.token(key)
        until(lambda: "TaskSubmitted" in [e["type"] for e in self.history(execution)], "submission")
        self.sfn.send_task_success(taskToken=token, output='{"a":1}')
        self.ended(execution)
        events = self.history(execution)
        expected = ["ExecutionStarted", "TaskStateEntered", "TaskScheduled", "TaskStarted"]
        expected += ["TaskSubmitted", "TaskSucceeded", "TaskStateExited"]
        expected += ["PassStateEntered", "PassStateExited", "ExecutionSucceeded"]
        self.assertEqual([event["type"] for event in events], expected)
        ids = [(event["id"], event["previousEventId"]) for event in events]
        self.assertEqual(ids, [(n, n - 1) for n in range(1, 11)])
        scheduled = events[2]["taskScheduledEventDetails"]
        self.assertEqual(scheduled["resourceType"], "lambda")
        self.assertEqual(scheduled["resource"], "invoke.waitForTaskToken")
        self.assertEqual(scheduled["timeoutInSeconds"], 50)
        self.assertEqual(scheduled["heartbeatInSeconds"], 20)
        self.assertEqual(json.loads(scheduled["parameters"])["Payload"]["token"], token)
        self.assertEqual(events[5]["taskSucceededEventDetails"]["output"], '{"a":1}')

    def test_history_of_branches_and_failures(self) -> None:
        key = unique()
        direct = {"Type": "Task", "Resource": arn("lambda", "function:worker")}
        timing_out = callback(key, TimeoutSeconds=1)
        definition = one({"Type": "Parallel", "Branches": [one(direct), one(timing_out)]})
        execution = self.start(definition, {"key": key})
        self.assertEqual(self.ended(execution)["error"], "States.Timeout")
        events = {event["id"]: event for event in self.history(execution)}
        by_type = {event["type"]: event for event in events.values()}
        entered = [e for e in events.values() if e["type"] == "TaskStateEntered"]
        for event in entered:
            self.assertEqual(events[event["previousEventId"]]["type"], "ParallelStateStarted")
        chain = []
        event = by_type["LambdaFunctionSucceeded"]
        while event["previousEventId"]:
            event = events[event["previousEventId"]]
            chain.append(event["type"])
        self.assertEqual(
            chain,
            ["LambdaFunctionStarted", "LambdaFunctionScheduled", "TaskStateEntered"]
            + ["ParallelStateStarted", "ParallelStateEntered", "ExecutionStarted"],
        )
        details = by_type["TaskTimedOut"]["taskTimedOutEventDetails"]
        self.assertEqual(details["error"], "States.Timeout")


class MachineRole(StepFunctions):
    """What a state machine may do is what its role allows."""

    def task(self, resource: str, parameters: dict) -> dict:
        return one({"Type": "Task", "Resource": resource, "Parameters": parameters})

    def test_role_is_asked(self) -> None:
        queue_url, queue_arn = make_queue()
        table, bucket = unique("table"), unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        aws("dynamodb").create_table(
            TableName=table,
            KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        topic = aws("sns").create_topic(Name=unique("topic"))["TopicArn"]
        child = self.create(one(END))
        function = arn("lambda", "function:worker")
        states = "arn:aws:states:::"
        entries = [{"Source": "s", "DetailType": "t", "Detail": "{}"}]
        item = {"TableName": table, "Item": {"k": {"S": "a"}}}
        thing = {"Bucket": bucket, "Key": "k", "Body": {"a": 1}}
        message = {"Topic": "a/b", "Payload": {"a": 1}}
        cases = [
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
        for resource, parameters, error, statement in cases:
            with self.subTest(resource):
                role = make_role("states", [])
                definition = self.task(resource, parameters)
                self.assertEqual(self.failure(definition, role=role), error)
                grant(role, [statement])
                found = self.run_machine(definition, role=role)
                self.assertEqual(found["status"], "SUCCEEDED", found)

    def test_cause_of_a_denied_invocation(self) -> None:
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

    def test_s3_and_iot_sdk_integrations(self) -> None:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        put = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:putObject"}
        put["Parameters"] = {"Bucket": bucket, "Key": "k", "Body.$": "$"}
        get = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:getObject"}
        get["Parameters"] = {"Bucket": bucket, "Key": "k"}
        states = {"Put": {**put, "Next": "Get"}, "Get": {**get, "End": True}}
        output = self.output({"StartAt": "Put", "States": states}, {"a": [1]})
        self.assertEqual(json.loads(output["Body"]), {"a": [1]})
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


# ---- IoT Core -----------------------------------------------------------------------------------

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, DISCONNECT = 1, 2, 3, 4, 8, 9, 14


class Mqtt:
    """Just enough of an MQTT client: version 4 (3.1.1) or 5, over TLS with a certificate."""

    def __init__(self, version: int, client_id: str, certificate: str) -> None:
        self.version = version
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate)
        plain = socket.create_connection(("127.0.0.1", launcher.mqtt_port), PATIENCE)
        self.socket = context.wrap_socket(plain)
        head = self.string("MQTT") + bytes([version, 2]) + struct.pack("!H", 60)
        self.send(CONNECT, 0, head + self.no_properties() + self.string(client_id))
        kind, self.connack = self.read()
        assert kind == CONNACK, kind

    def no_properties(self) -> bytes:
        return b"\0" if self.version == 5 else b""

    @staticmethod
    def string(text: str) -> bytes:
        return struct.pack("!H", len(text.encode())) + text.encode()

    def send(self, kind: int, flags: int, body: bytes) -> None:
        length, rest = b"", len(body)
        while rest or not length:
            rest, digit = rest >> 7, rest & 127
            length += bytes([digit | (128 if rest else 0)])
        self.socket.sendall(bytes([kind << 4 | flags]) + length + body)

    def receive(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def read(self) -> tuple[int, bytes]:
        """The next packet; (0, b"") when the server has closed the connection."""
        try:
            kind = self.receive(1)[0] >> 4
            length = shift = 0
            while True:
                digit = self.receive(1)[0]
                length |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    return kind, self.receive(length)
        except (EOFError, OSError):
            return 0, b""

    def publish(self, topic: str, payload: bytes) -> tuple[int, bytes]:
        head = self.string(topic) + struct.pack("!H", 7) + self.no_properties()
        with contextlib.suppress(OSError):
            self.send(PUBLISH, 2, head + payload)
        return self.read()

    def subscribe(self, topic_filter: str) -> tuple[int, bytes]:
        head = struct.pack("!H", 8) + self.no_properties()
        self.send(SUBSCRIBE, 2, head + self.string(topic_filter) + b"\1")
        return self.read()


class Iot(Case):
    @classmethod
    def setUpClass(cls) -> None:
        iot = aws("iot")
        made = iot.create_keys_and_certificate(setAsActive=True)
        cls.certificate = str(Path(launcher.folder) / "device.pem")
        pem = made["keyPair"]["PrivateKey"] + made["certificatePem"]
        Path(cls.certificate).write_text(pem)
        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document([allow("iot:*", "*")]))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])

    def connect(self, version: int) -> Mqtt:
        client = Mqtt(version, unique("c"), self.certificate)
        self.addCleanup(client.socket.close)
        return client


class IotLimits(Iot):
    def test_payload_over_http(self) -> None:
        data = aws("iot-data")
        data.publish(topic="a", qos=1, payload=b"x" * 131_072)
        with self.assertRaises(ClientError) as caught:
            data.publish(topic="a", qos=1, payload=b"x" * 131_073)
        answer = caught.exception.response
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 413)
        self.assertEqual(answer["Error"]["Code"], "RequestEntityTooLargeException")

    def test_payload_over_mqtt(self) -> None:
        for version in (4, 5):
            with self.subTest(version=version):
                client = self.connect(version)
                kind, body = client.publish("a", b"x" * 131_072)
                self.assertEqual((kind, body[:2]), (PUBACK, b"\0\7"))
                kind, body = client.publish("a", b"x" * 131_073)
                if version == 5:
                    self.assertEqual((kind, body[:1]), (DISCONNECT, b"\x95"))
                    kind, body = client.read()
                self.assertEqual(kind, 0)

    def test_topic(self) -> None:
        deep, deepest = "/".join("a" * 9), "/".join("a" * 8)
        data = aws("iot-data")
        data.publish(topic=deepest, payload=b"{}")
        data.publish(topic="$aws/rules/none/" + deepest, payload=b"{}")
        for topic in (deep, "$aws/rules/none/" + deep, "x" * 257):
            with self.subTest(topic), self.refused("InvalidRequestException"):
                data.publish(topic=topic, payload=b"{}")
        self.assertEqual(self.connect(5).publish(deepest, b"{}")[0], PUBACK)
        kind, body = self.connect(5).publish(deep, b"{}")
        self.assertEqual((kind, body[:1]), (DISCONNECT, b"\x90"))
        self.assertEqual(self.connect(4).publish(deep, b"{}")[0], 0)

    def test_topic_filter(self) -> None:
        client = self.connect(5)
        for topic_filter, fine in (
            ("+/" * 7 + "#", True),
            ("+/" * 8 + "#", False),
            ("x" * 257, False),
        ):
            with self.subTest(topic_filter):
                kind, body = client.subscribe(topic_filter)
                self.assertEqual(kind, SUBACK)
                self.assertEqual(body[-1] < 0x80, fine)

    def test_connack(self) -> None:
        connack = self.connect(5).connack
        self.assertIn(b"\x27" + struct.pack("!I", 149_504), connack)
        self.assertIn(b"\x21" + struct.pack("!H", 100), connack)


class IotPolicies(Iot):
    def test_attributes_of_the_thing(self) -> None:
        iot, thing, tenant = aws("iot"), unique("thing"), unique("tenant")
        made = iot.create_keys_and_certificate(setAsActive=True)
        certificate = Path(launcher.folder) / f"{thing}.pem"
        certificate.write_text(made["keyPair"]["PrivateKey"] + made["certificatePem"])
        iot.create_thing(thingName=thing, attributePayload={"attributes": {"tenant": tenant}})
        iot.attach_thing_principal(thingName=thing, principal=made["certificateArn"])
        topic = arn("iot", "topic/${iot:Connection.Thing.Attributes[tenant]}/done")
        statements = [allow("iot:Connect", "*"), allow("iot:Publish", topic)]
        policy = unique("policy")
        iot.create_policy(policyName=policy, policyDocument=document(statements))
        iot.attach_policy(policyName=policy, target=made["certificateArn"])
        client = Mqtt(5, thing, str(certificate))
        self.addCleanup(client.socket.close)
        for topic, reason in ((f"{tenant}/done", b"\0"), ("another/done", b"\x87")):
            kind, body = client.publish(topic, b"{}")
            self.assertEqual((kind, body[2:3]), (PUBACK, reason))


class IotRules(Iot):
    def rule(self, action: dict, error_action: dict | None = None) -> str:
        name = unique("rule")
        payload = {"sql": f"SELECT * FROM 'in/{name}'", "actions": [action]}
        if error_action:
            payload["errorAction"] = error_action
        aws("iot").create_topic_rule(ruleName=name, topicRulePayload=payload)
        return name

    def publish(self, rule: str, payload: dict) -> None:
        aws("iot-data").publish(topic=f"in/{rule}", qos=1, payload=json.dumps(payload))

    def queue_action(self, *statements: dict, service: str = "iot") -> tuple[dict, str, str]:
        """An action that sends to a new queue with a new role; the queue's URL; the role."""
        url, queue_arn = make_queue()
        role = make_role(service, [*statements] or [allow("sqs:SendMessage", queue_arn)])
        return {"sqs": {"queueUrl": url, "roleArn": role, "useBase64": False}}, url, role

    def permit(self, function: str, rule: str, account: str = ACCOUNT) -> None:
        aws("lambda").add_permission(
            FunctionName=function,
            StatementId=unique(),
            Action="lambda:InvokeFunction",
            Principal="iot.amazonaws.com",
            SourceArn=arn("iot", f"rule/{rule}"),
            SourceAccount=account,
        )

    def test_function_policy_is_asked_and_error_action_runs(self) -> None:
        function = arn("lambda", "function:worker")
        error_action, errors, _ = self.queue_action()
        rule = self.rule({"lambda": {"functionArn": function}}, error_action)
        self.permit("worker", "another_rule")
        self.permit("worker", rule, "999999999999")
        key = unique()
        client = self.connect(5)
        sent = json.dumps({"key": key}).encode()
        self.assertEqual(client.publish(f"in/{rule}", sent)[0], PUBACK)
        found = json.loads(receive(errors)["Body"])
        (failure,) = found.pop("failures")
        self.assertEqual(failure["failedAction"], "LambdaAction")
        self.assertEqual(failure["failedResource"], function)
        self.assertIn("lambda:InvokeFunction", failure["errorMessage"])
        self.assertEqual((found["ruleName"], found["topic"]), (rule, f"in/{rule}"))
        self.assertEqual(base64.b64decode(found["base64OriginalPayload"]), sent)
        self.assertEqual(
            set(found),
            {"ruleName", "topic", "cloudwatchTraceId", "clientId", "sourceIp"}
            | {"base64OriginalPayload"},
        )
        self.assertEqual(inbox.of(key), [])
        self.permit("worker", rule)
        self.publish(rule, {"key": key})
        self.assertEqual(len(inbox.wait(key)), 1)

    def test_missing_function_runs_the_error_action(self) -> None:
        error_action, errors, _ = self.queue_action()
        rule = self.rule({"lambda": {"functionArn": arn("lambda", "function:none")}}, error_action)
        self.publish(rule, {})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("Function not found", found["failures"][0]["errorMessage"])

    def test_role_of_an_action_is_asked(self) -> None:
        action, url, role = self.queue_action(allow("sqs:SendMessage", arn("sqs", "other")))
        error_action, errors, _ = self.queue_action()
        rule = self.rule(action, error_action)
        self.publish(rule, {"n": 1})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("sqs:SendMessage", found["failures"][0]["errorMessage"])
        grant(role, EVERYTHING)
        self.publish(rule, {"n": 2})
        self.assertEqual(json.loads(receive(url)["Body"]), {"n": 2})

    def test_role_must_trust_iot(self) -> None:
        action, _, _ = self.queue_action(service="lambda")
        error_action, errors, _ = self.queue_action()
        self.publish(self.rule(action, error_action), {})
        found = json.loads(receive(errors)["Body"])
        self.assertIn("sts:AssumeRole", found["failures"][0]["errorMessage"])

    def test_role_of_the_error_action_is_asked(self) -> None:
        error_action, errors, role = self.queue_action(
            allow("sqs:SendMessage", arn("sqs", "other"))
        )
        function = {"lambda": {"functionArn": arn("lambda", "function:none")}}
        rule = self.rule(function, error_action)
        self.publish(rule, {"n": 1})
        log_says(f"IoT rule {rule}: errorAction failed")
        grant(role, EVERYTHING)
        self.publish(rule, {"n": 2})
        found = json.loads(receive(errors)["Body"])
        self.assertEqual(json.loads(base64.b64decode(found["base64OriginalPayload"])), {"n": 2})

    def test_function_is_invoked_asynchronously(self) -> None:
        name, key = unique("f"), unique()
        url, queue_arn = make_queue()
        role = make_role("lambda", [allow("sqs:SendMessage", queue_arn)])
        function = make_function(launcher, name, role)
        aws("lambda").put_function_event_invoke_config(
            FunctionName=name,
            MaximumRetryAttempts=1,
            DestinationConfig={"OnFailure": {"Destination": queue_arn}},
        )
        rule = self.rule({"lambda": {"functionArn": function}})
        self.permit(name, rule)
        event = {"key": key, "do": "fail", "error": "My.Error"}
        self.publish(rule, event)
        record = json.loads(receive(url)["Body"])
        self.assertEqual(len(inbox.of(key)), 2)
        self.assertEqual(record["requestPayload"], event)
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 2)
        self.assertEqual(record["responsePayload"]["errorType"], "My.Error")


# ---- Lambda -------------------------------------------------------------------------------------


class Lambda(Case):
    def function(self, *statements: dict, **options: Any) -> str:
        name = unique("f")
        make_function(launcher, name, make_role("lambda", [*statements]), **options)
        return name

    def invoke(self, name: str, event: dict) -> Any:
        answer = aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        return json.load(answer["Payload"])

    def invoke_async(self, name: str, event: dict) -> None:
        payload = json.dumps(event)
        aws("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=payload)

    def configure(self, name: str, **settings: Any) -> None:
        aws("lambda").put_function_event_invoke_config(FunctionName=name, **settings)

    def test_async_retries_and_destination(self) -> None:
        url, queue_arn = make_queue()
        name, key = self.function(allow("sqs:SendMessage", queue_arn)), unique()
        self.configure(name, DestinationConfig={"OnFailure": {"Destination": queue_arn}})
        event = {"key": key, "do": "fail", "error": "My.Error"}
        self.invoke_async(name, event)
        record = json.loads(receive(url)["Body"])
        reports = inbox.of(key)
        self.assertEqual(len(reports), 3)
        (request,) = {report["request"] for report in reports}
        self.assertRegex(record.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertEqual(
            record,
            {
                "version": "1.0",
                "requestContext": {
                    "requestId": request,
                    "functionArn": arn("lambda", f"function:{name}:$LATEST"),
                    "condition": "RetriesExhausted",
                    "approximateInvokeCount": 3,
                },
                "requestPayload": event,
                "responseContext": {
                    "statusCode": 200,
                    "executedVersion": "$LATEST",
                    "functionError": "Unhandled",
                },
                "responsePayload": {"errorType": "My.Error", "errorMessage": "as told"},
            },
        )
        self.assertGreaterEqual(reports[1]["time"] - reports[0]["time"], 0.1)
        self.assertGreaterEqual(reports[2]["time"] - reports[1]["time"], 0.3)

    def test_default_retry_delays(self) -> None:
        import mend_lambda

        with unittest.mock.patch.dict(os.environ):
            os.environ.pop("POSTERN_ASYNC_RETRY_SECONDS", None)
            self.assertEqual(mend_lambda.retry_delays(), [60.0, 120.0])

    def test_destination_needs_the_functions_role(self) -> None:
        url, queue_arn = make_queue()
        name = self.function()
        settings = {"MaximumRetryAttempts": 0}
        settings["DestinationConfig"] = {"OnFailure": {"Destination": queue_arn}}
        self.configure(name, **settings)
        self.invoke_async(name, {"do": "fail", "error": "E"})
        log_says(f"Lambda {name}: nothing sent to its destination")
        counted = aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        self.assertEqual(counted["Attributes"]["ApproximateNumberOfMessages"], "0")

    def test_success_destination(self) -> None:
        url, queue_arn = make_queue()
        name = self.function(allow("sqs:SendMessage", queue_arn))
        self.configure(name, DestinationConfig={"OnSuccess": {"Destination": queue_arn}})
        self.invoke_async(name, {"a": 1})
        record = json.loads(receive(url)["Body"])
        self.assertEqual(record["requestContext"]["condition"], "Success")
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 1)
        self.assertEqual(record["responsePayload"], {"a": 1})
        self.assertNotIn("functionError", record["responseContext"])

    def test_dead_letter_queue_gets_the_event(self) -> None:
        url, queue_arn = make_queue()
        statement = allow("sqs:SendMessage", queue_arn)
        name, key = self.function(statement, DeadLetterConfig={"TargetArn": queue_arn}), unique()
        self.configure(name, MaximumRetryAttempts=0)
        event = {"key": key, "do": "fail", "error": "E"}
        self.invoke_async(name, event)
        message = receive(url)
        self.assertEqual(json.loads(message["Body"]), event)
        attributes = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
        request = inbox.of(key)[0]["request"]
        expected = {"RequestID": request, "ErrorCode": "200", "ErrorMessage": "as told"}
        self.assertEqual(attributes, expected)

    def test_function_without_concurrency(self) -> None:
        url, queue_arn = make_queue()
        name = self.function(allow("sqs:SendMessage", queue_arn))
        self.configure(name, DestinationConfig={"OnFailure": {"Destination": queue_arn}})
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.invoke_async(name, {"a": 1})
        record = json.loads(receive(url)["Body"])
        self.assertEqual(record["requestContext"]["condition"], "ZeroReservedConcurrency")
        self.assertNotIn("responsePayload", record)

    def test_event_age(self) -> None:
        second = Launcher(AUTH="false", POSTERN_ASYNC_RETRY_SECONDS="61")
        self.addCleanup(second.stop)
        make_function(second, "worker", f"arn:aws:iam::{ACCOUNT}:role/any")
        queue_url = second.client("sqs").create_queue(QueueName="failed")["QueueUrl"]
        second.client("lambda").put_function_event_invoke_config(
            FunctionName="worker",
            MaximumEventAgeInSeconds=60,
            DestinationConfig={"OnFailure": {"Destination": arn("sqs", "failed")}},
        )
        key = unique()
        payload = json.dumps({"key": key, "do": "fail", "error": "E"})
        second.client("lambda").invoke(
            FunctionName="worker", InvocationType="Event", Payload=payload
        )
        record = json.loads(receive(queue_url, second)["Body"])
        self.assertEqual(record["requestContext"]["condition"], "EventAgeExceeded")
        self.assertEqual(record["requestContext"]["approximateInvokeCount"], 1)
        self.assertEqual(record["responsePayload"]["errorType"], "E")
        self.assertEqual(len(inbox.of(key)), 1)

    def test_throttling_is_no_attempt(self) -> None:
        url, queue_arn = make_queue()
        name, first, second = self.function(allow("sqs:SendMessage", queue_arn)), unique(), unique()
        self.configure(
            name,
            MaximumRetryAttempts=0,
            DestinationConfig={"OnSuccess": {"Destination": queue_arn}},
        )
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
        hanging = threading.Thread(target=self.invoke, args=(name, {"key": first, "do": "hang"}))
        hanging.start()
        report = inbox.wait(first)[0]
        self.invoke_async(name, {"key": second})
        time.sleep(0.3)
        os.kill(report["pid"], signal.SIGKILL)
        hanging.join()
        record = json.loads(receive(url)["Body"])
        self.assertEqual(record["requestPayload"], {"key": second})
        self.assertGreaterEqual(record["requestContext"]["approximateInvokeCount"], 2)
        self.assertEqual(len(inbox.of(second)), 1)

    def test_payload_limits(self) -> None:
        name = self.function()
        with self.refused("RequestTooLargeException"):
            self.invoke(name, {"x": "a" * (6 * 1024 * 1024)})
        with self.refused("RequestTooLargeException"):
            self.invoke_async(name, {"x": "a" * (1024 * 1024)})
        self.assertEqual(len(self.invoke(name, {"do": "size", "size": 5_000_000})), 5_000_000)
        found = self.invoke(name, {"do": "size", "size": 7_000_000})
        self.assertEqual(found["errorType"], "Function.ResponseSizeTooLarge")

    def test_environment(self) -> None:
        name = self.function(LoggingConfig={"LogFormat": "JSON"})
        found = self.invoke(name, {"do": "environment"})
        self.assertNotIn("SHELL_VARIABLE", found)
        self.assertNotIn("HOME", found)
        self.assertNotIn("GATEWAY_PORT", found)
        self.assertEqual(found["INBOX"], inbox.url)
        self.assertEqual(found["AWS_ENDPOINT_URL"], f"http://127.0.0.1:{launcher.port}")
        self.assertEqual(found["AWS_REGION"], REGION)
        self.assertEqual(found["AWS_LAMBDA_LOG_FORMAT"], "JSON")
        self.assertEqual(found["AWS_LAMBDA_LOG_GROUP_NAME"], f"/aws/lambda/{name}")
        caller = boto3.client(
            "sts",
            endpoint_url=found["AWS_ENDPOINT_URL"],
            region_name=REGION,
            aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=found["AWS_SESSION_TOKEN"],
        ).get_caller_identity()
        self.assertIn(":assumed-role/", caller["Arn"])

    def test_invocations_are_fast(self) -> None:
        name = self.function()

        def timed() -> float:
            began = time.monotonic()
            self.assertEqual(self.invoke(name, {"do": "silent"}), {"do": "silent"})
            return time.monotonic() - began

        self.assertLess(min(timed() for _ in range(15)), 0.05)

    def test_eventbridge_needs_permission_and_retries(self) -> None:
        name, rule, key = self.function(), unique("rule"), unique()
        self.configure(name, MaximumRetryAttempts=1)
        source = unique("source")
        rule_arn = aws("events").put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
        target = {"Id": "1", "Arn": arn("lambda", f"function:{name}")}
        target["Input"] = json.dumps({"key": key, "do": "fail", "error": "E"})
        aws("events").put_targets(Rule=rule, Targets=[target])
        entries = [{"Source": source, "DetailType": "t", "Detail": "{}"}]
        aws("events").put_events(Entries=entries)
        log_says(f"{rule_arn['RuleArn']} may not invoke function {name}")
        self.assertEqual(inbox.of(key), [])
        aws("lambda").add_permission(
            FunctionName=name,
            StatementId="s",
            Action="lambda:InvokeFunction",
            Principal="events.amazonaws.com",
            SourceArn=rule_arn["RuleArn"],
        )
        aws("events").put_events(Entries=entries)
        self.assertEqual(len(inbox.wait(key, 2)), 2)

    def test_s3_needs_permission(self) -> None:
        name, bucket = self.function(), unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        target = {"LambdaFunctionArn": arn("lambda", f"function:{name}")}
        target["Events"] = ["s3:ObjectCreated:*"]
        aws("s3").put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={"LambdaFunctionConfigurations": [target]},
            SkipDestinationValidation=True,
        )
        aws("s3").put_object(Bucket=bucket, Key="refused", Body=b"")
        log_says(f"S3: arn:aws:s3:::{bucket} may not invoke function")
        aws("lambda").add_permission(
            FunctionName=name,
            StatementId="s",
            Action="lambda:InvokeFunction",
            Principal="s3.amazonaws.com",
            SourceArn=f"arn:aws:s3:::{bucket}",
        )
        aws("s3").put_object(Bucket=bucket, Key="allowed", Body=b"")

        def keys() -> list[str]:
            found = [r["event"] for r in list(inbox.reports) if r["function"] == name]
            return [event["Records"][0]["s3"]["object"]["key"] for event in found]

        self.assertEqual(until(keys, "an event of S3"), ["allowed"])


# ---- CloudFormation -----------------------------------------------------------------------------


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


# ---- The launcher -------------------------------------------------------------------------------


def listening(pid: int) -> set[str]:
    """The addresses, `host:port`, on which a process listens for TCP."""
    if not Path("/proc/net/tcp").exists():
        options = ["-nP", "-a", "-p", str(pid), "-iTCP", "-sTCP:LISTEN", "-Fn"]
        listed = subprocess.run(["lsof", *options], capture_output=True, text=True, check=True)
        return {line[1:] for line in listed.stdout.splitlines() if line.startswith("n")}
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:  # 0A: LISTEN
                host, port = fields[1].split(":")
                found.add(f"{socket.inet_ntop(family, address(host))}:{int(port, 16)}")
    return found


def address(words: str) -> bytes:
    """The kernel writes addresses as words in the machine's own byte order."""
    raw = bytes.fromhex(words)
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class LauncherItself(Case):
    def test_listens_on_loopback_only(self) -> None:
        aws("lambda").invoke(FunctionName="worker", Payload="{}")  # opens a Runtime API port
        found = listening(launcher.process.pid)
        self.assertIn(f"127.0.0.1:{launcher.port}", found)
        self.assertIn(f"127.0.0.1:{launcher.mqtt_port}", found)
        self.assertGreaterEqual(len(found), 3)
        self.assertEqual({place.rsplit(":", 1)[0] for place in found}, {"127.0.0.1"})

    def test_stops_at_once_and_wholly(self) -> None:
        second = Launcher(AUTH="false")
        self.addCleanup(second.stop)
        role = f"arn:aws:iam::{ACCOUNT}:role/any"
        make_function(second, "worker", role)
        keys = [unique() for _ in range(3)]
        sfn = second.client("stepfunctions")
        branches = [one(callback(keys[0])), one({"Type": "Wait", "Seconds": 60})]
        definitions = [one({"Type": "Parallel", "Branches": branches})]
        for key in keys[1:]:
            definitions.append(one(invoke({"key": key, "do": "hang"}, TimeoutSeconds=60)))
        for definition in definitions:
            machine = sfn.create_state_machine(
                name=unique(), definition=json.dumps(definition), roleArn=role
            )
            sfn.start_execution(stateMachineArn=machine["stateMachineArn"])
        pids = {inbox.wait(key)[0]["pid"] for key in keys}
        self.assertEqual(len(pids), 3)
        folder = Path(second.folder)
        began = time.monotonic()
        second.process.send_signal(signal.SIGTERM)
        self.assertEqual(second.process.wait(20), 0)
        self.assertLess(time.monotonic() - began, 8.0)
        self.assertEqual([pid for pid in pids if alive(pid)], [])
        self.assertEqual([p.name for p in folder.iterdir() if p.name != "log"], [])

    def launch(self, program: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=HERE,
            env={**os.environ, "GATEWAY_PORT": "0", "IOT_MTLS_PORT": "0"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_refuses_another_version(self) -> None:
        found = self.launch(
            "import importlib.metadata, launch\n"
            "importlib.metadata.version = lambda name: '9.9.9'\n"
            "launch.main()"
        )
        self.assertEqual(found.returncode, 2)
        self.assertIn("9.9.9 is installed", found.stderr)

    def test_names_a_missing_patch_point(self) -> None:
        found = self.launch(
            "import launch\n"
            "launch.set_environment()\n"
            "import ministack.services.iot as iot\n"
            "del iot._dispatch_rule_action\n"
            "launch.main()"
        )
        self.assertEqual(found.returncode, 2)
        self.assertIn("iot._dispatch_rule_action is not in this ministack", found.stderr)

    def test_refuses_a_port_in_use(self) -> None:
        with unittest.mock.patch.dict(os.environ, GATEWAY_PORT=str(launcher.port)):
            found = subprocess.run(
                [sys.executable, str(HERE / "launch.py")],
                capture_output=True,
                text=True,
                timeout=60,
            )
        self.assertEqual(found.returncode, 2)
        self.assertIn(f"port {launcher.port} is in use", found.stderr)


if __name__ == "__main__":
    unittest.main()
