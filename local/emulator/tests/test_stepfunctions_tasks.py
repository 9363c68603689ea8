"""Step Functions: callback tasks, time limits, Retry and Catch."""

from __future__ import annotations

import contextlib
import json
import time

from botocore.exceptions import ClientError

from tests.harness import (
    StepFunctions,
    aws,
    callback,
    catch,
    inbox,
    invoke,
    launcher,
    make_function,
    make_role,
    one,
    unique,
    until,
)


def setUpModule() -> None:
    launcher.start()


class CallbackTasks(StepFunctions):
    def test_task_without_a_heartbeat_times_out(self) -> None:
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
            one(callback(key, HeartbeatSeconds=2, TimeoutSecondsPath="$.t")), {"t": 3}
        )
        token = self.token(key)
        with contextlib.suppress(ClientError):
            while True:
                self.sfn.send_task_heartbeat(taskToken=token)
                time.sleep(0.1)

        self.assertEqual(self.ended(execution)["error"], "States.Timeout")

    def test_each_attempt_has_a_new_token(self) -> None:
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
        cause = {"errorType": "My.Error", "errorMessage": "as requested"}
        self.assertEqual(json.loads(output["Cause"]), cause)
        with self.refused("TaskTimedOut"):
            self.sfn.send_task_success(taskToken=self.token(key), output="1")

    def test_each_bad_answer_to_a_token_has_its_own_error(self) -> None:
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

    def test_timeout_of_the_machine_ends_the_execution(self) -> None:
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


class Errors(StepFunctions):
    def test_retry_waits_no_longer_than_max_delay(self) -> None:
        key = unique()
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "BackoffRate": 10}
        retry.update(MaxAttempts=2, MaxDelaySeconds=1)
        state = invoke({"key": key, "do": "fail", "error": "E"}, Retry=[retry])
        self.assertEqual(self.failure(one(state)), "E")
        times = [report["time"] for report in inbox.of(key)]
        self.assertEqual(len(times), 3)
        self.assertLess(times[2] - times[1], 5.0)

    def test_retry_delay_follows_backoff_and_jitter(self) -> None:
        from patches.stepfunctions.retries import retry_delay as delay

        self.assertEqual(delay({}, 0), 1)
        self.assertEqual(delay({"IntervalSeconds": 100, "BackoffRate": 3}, 2), 900)
        self.assertEqual(delay({"IntervalSeconds": 5, "MaxDelaySeconds": 7}, 3), 7)
        drawn = {delay({"IntervalSeconds": 8, "JitterStrategy": "FULL"}, 0) for _ in range(50)}
        self.assertGreater(len(drawn), 40)
        self.assertTrue(all(0 <= seconds <= 8 for seconds in drawn))

    def test_names_match_the_errors_that_aws_documents(self) -> None:
        from patches.stepfunctions.retries import _error_matches as matches

        self.assertTrue(matches(["States.Timeout"], "States.HeartbeatTimeout"))
        self.assertFalse(matches(["States.HeartbeatTimeout"], "States.Timeout"))
        self.assertFalse(matches(["States.TaskFailed"], "States.HeartbeatTimeout"))
        self.assertTrue(matches(["States.ALL"], "States.HeartbeatTimeout"))
        self.assertFalse(matches(["States.ALL", "States.TaskFailed"], "States.DataLimitExceeded"))
        self.assertFalse(matches(["States.ALL"], "States.Runtime"))
        self.assertTrue(matches(["States.DataLimitExceeded"], "States.DataLimitExceeded"))

    def test_throttled_function_has_its_own_error(self) -> None:
        name = unique("f")
        make_function(name, make_role("lambda", []))
        aws("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        self.assertEqual(
            self.failure(one(invoke({"a": 1}, name))), "Lambda.TooManyRequestsException"
        )

    def test_failed_execution_has_no_output(self) -> None:
        found = self.run_machine(one({"Type": "Fail", "Error": "E", "Cause": "C"}))
        self.assertEqual((found["error"], found["cause"]), ("E", "C"))
        self.assertNotIn("output", found)

    def test_failed_child_fails_its_parent_with_a_description(self) -> None:
        child = self.create(one({"Type": "Fail", "Error": "E", "Cause": "C"}))
        resource = "arn:aws:states:::states:startExecution.sync:2"
        state = {"Type": "Task", "Resource": resource, "Parameters": {"StateMachineArn": child}}
        output = self.output(one({**state, **catch("States.TaskFailed")}))
        cause = json.loads(output["Cause"])
        self.assertEqual((cause["Status"], cause["Error"], cause["Cause"]), ("FAILED", "E", "C"))
