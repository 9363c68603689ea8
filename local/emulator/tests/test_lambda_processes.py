"""The bound on a function's processes, and the queue of invocations before it."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.harness import (
    LambdaCase,
    StepFunctions,
    aws,
    inbox,
    invoke,
    launcher,
    one,
    unique,
    until,
)

PROCESSES = 2


def setUpModule() -> None:
    launcher.start(POSTERN_FUNCTION_PROCESSES=str(PROCESSES))


class Processes(LambdaCase):
    def test_processes_of_a_function_are_bounded_and_the_rest_wait(self) -> None:
        name, key = self.function(), unique()
        events = [{"key": key, "n": n} for n in range(40)]
        with ThreadPoolExecutor(len(events)) as pool:
            answers = list(pool.map(lambda event: self.invoke(name, event), events))
        self.assertEqual(answers, events)
        self.assertLessEqual(len({report["pid"] for report in inbox.of(key)}), PROCESSES)

    def test_time_in_the_queue_does_not_count_against_the_timeout(self) -> None:
        name, slow, quick = self.function(), unique(), unique()
        aws("lambda").update_function_configuration(FunctionName=name, Timeout=1)
        with ThreadPoolExecutor() as pool:
            hanging = [
                pool.submit(self.invoke, name, {"key": slow, "do": "hang"})
                for _ in range(2 * PROCESSES)
            ]
            inbox.wait(slow, PROCESSES)
            self.assertEqual(self.invoke(name, {"key": quick}), {"key": quick})
            for invocation in hanging:
                self.assertEqual(invocation.result()["errorType"], "Sandbox.Timedout")

    def test_functions_do_not_wait_for_each_other(self) -> None:
        busy, idle, key = self.function(), self.function(), unique()
        with ThreadPoolExecutor() as pool:
            hanging = [
                pool.submit(self.invoke, busy, {"key": key, "do": "hang"}) for _ in range(PROCESSES)
            ]
            reports = inbox.wait(key, PROCESSES)
            self.assertEqual(self.invoke(idle, {"a": 1}), {"a": 1})
            self.assertFalse(any(invocation.done() for invocation in hanging))
            for report in reports:
                os.kill(report["pid"], signal.SIGKILL)


class ManyExecutions(StepFunctions):
    def test_a_hundred_executions_at_once_succeed(self) -> None:
        machine = self.create(one(invoke({"do": "silent"})))

        def start(_: int) -> str:
            return self.sfn.start_execution(stateMachineArn=machine)["executionArn"]

        with ThreadPoolExecutor(20) as pool:
            executions = list(pool.map(start, range(100)))

        def statuses() -> list[str]:
            found = [self.describe(execution)["status"] for execution in executions]
            return [] if "RUNNING" in found else found

        self.assertEqual(set(until(statuses, "the executions to end", 120)), {"SUCCEEDED"})
