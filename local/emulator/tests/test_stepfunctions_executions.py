"""Step Functions: branches, definitions, input and output, history, stopping."""

from __future__ import annotations

import contextvars
import json
import threading

from tests.harness import (
    END,
    TIMEOUT,
    Case,
    StepFunctions,
    arn,
    callback,
    catch,
    inbox,
    invoke,
    launcher,
    one,
    unique,
    until,
)


def setUpModule() -> None:
    launcher.start()


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

    def test_parallel_has_arguments_and_output_in_jsonata(self) -> None:
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

    def test_data_over_256_kib_is_refused(self) -> None:
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

    def test_name_of_an_execution_is_checked(self) -> None:
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

    def test_context_object_has_role_time_and_retries(self) -> None:
        key = unique()
        paths = {"role.$": "$$.Execution.RoleArn", "retries.$": "$$.State.RetryCount"}
        payload = {"key": key, "do": "fail", "error": "E", "entered.$": "$$.State.EnteredTime"}
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "MaxAttempts": 1}
        self.assertEqual(self.failure(one(invoke({**payload, **paths}, Retry=[retry]))), "E")

        first, second = (report["event"] for report in inbox.of(key))
        self.assertEqual(first["role"], self.role)
        self.assertEqual((first["retries"], second["retries"]), (0, 1))
        self.assertEqual(first["entered"], second["entered"])

    def test_path_that_leads_nowhere_fails_the_state(self) -> None:
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

    def test_variables_work_in_jsonpath(self) -> None:
        first = {"Type": "Pass", "Assign": {"x.$": "$.n", "y": {"z": 2}}, "Next": "Only"}
        selector = {"x.$": "$x", "z.$": "$y.z", "name.$": "$$.Execution.Name"}
        second = invoke({"x.$": "$x"}, ResultSelector=selector)
        definition = one(second)
        definition.update(StartAt="First", States={**definition["States"], "First": first})
        output = self.output(definition, {"n": 1})
        self.assertEqual((output["x"], output["z"], len(output["name"])), (1, 2, 36))
        self.assertEqual(self.failure(one(second)), "States.Runtime")

    def test_history_records_a_callback_task(self) -> None:
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

    def test_history_records_branches_and_failures(self) -> None:
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


class Waiting(Case):
    def test_waits_end_when_the_execution_is_stopped(self) -> None:
        from patches.stepfunctions.scope import SCOPE, Cancelled, Scope, _scaled_sleep

        outer = Scope()
        inner = Scope(outer)
        ended: list[type] = []

        def wait() -> None:
            SCOPE.set(inner)
            try:
                _scaled_sleep(60)
            except Cancelled as cancelled:
                ended.append(type(cancelled))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        until(lambda: inner._on_cancel, "the wait to begin")
        outer.cancel()
        thread.join(TIMEOUT)

        self.assertEqual(ended, [Cancelled])

    def test_token_of_a_cancelled_branch_is_dead_at_once(self) -> None:
        from patches.stepfunctions.scope import SCOPE, Scope
        from patches.stepfunctions.tokens import answer_task, open_token

        scope = Scope()

        def open_and_answer() -> tuple:
            SCOPE.set(scope)
            open_token("token", {"stateMachineArn": "machine"})
            scope.cancel()
            return answer_task({"taskToken": "token"}, {}, lambda task: self.fail("answered"))

        status, _, body = contextvars.copy_context().run(open_and_answer)

        self.assertEqual((status, json.loads(body)["__type"]), (400, "TaskTimedOut"))
