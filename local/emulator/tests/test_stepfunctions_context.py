"""Step Functions: the context object and `States.Array` in nested Maps and across retries.

A job's idempotency key is made of them: execution, state, the time it was entered, and the indexes
of the enclosing Maps.
"""

from __future__ import annotations

import json
from typing import Any

from tests.harness import StepFunctions, inbox, invoke, launcher, one, unique


def setUpModule() -> None:
    launcher.start()


def map_over(path: str, selector: dict, state: dict, **fields: Any) -> dict:
    return {
        "Type": "Map",
        "ItemsPath": path,
        "ItemSelector": selector,
        "ItemProcessor": one(state),
        **fields,
    }


class Context(StepFunctions):
    def test_nested_maps_have_their_own_indexes(self) -> None:
        inner = map_over(
            "$.columns",
            {
                "item.$": "States.Array($.row, $$.Map.Item.Index)",
                "value.$": "$$.Map.Item.Value",
            },
            {
                "Type": "Pass",
                "Parameters": {
                    "item.$": "$.item",
                    "own.$": "States.Array($$.Map.Item.Index, $$.Map.Item.Value)",
                    "value.$": "$.value",
                },
            },
        )
        outer = map_over(
            "$.rows",
            {"row.$": "$$.Map.Item.Index", "columns.$": "$$.Map.Item.Value"},
            inner,
        )
        output = self.output(one(outer), {"rows": [["a", "a"], ["b"]]})

        self.assertEqual(
            output,
            [
                [
                    {"item": [0, 0], "own": [0, "a"], "value": "a"},
                    {"item": [0, 1], "own": [1, "a"], "value": "a"},
                ],
                [{"item": [1, 0], "own": [0, "b"], "value": "b"}],
            ],
        )

    def test_three_nested_maps_have_their_own_indexes(self) -> None:
        innermost = map_over(
            "$.items",
            {"item.$": "States.Array($.outer, $.middle, $$.Map.Item.Index)"},
            {"Type": "Pass"},
        )
        middle = map_over(
            "$.items",
            {
                "outer.$": "$.outer",
                "middle.$": "$$.Map.Item.Index",
                "items.$": "$$.Map.Item.Value",
            },
            innermost,
        )
        outer = map_over(
            "$", {"outer.$": "$$.Map.Item.Index", "items.$": "$$.Map.Item.Value"}, middle
        )
        output = self.output(one(outer), [[[0], [0, 0]], [[0]]])
        found = [item["item"] for rows in output for row in rows for item in row]

        self.assertEqual(found, [[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]])

    def test_array_takes_paths_literals_and_nothing(self) -> None:
        parameters = {
            "empty.$": "States.Array()",
            "mixed.$": "States.Array($.n, 'text', 2, true, null, $.list)",
            "nested.$": "States.Array(States.Array($.n), $$.State.Name)",
            "context.$": "States.Array($$.Execution.Id, $$.State.RetryCount)",
        }
        execution = self.start(
            one({"Type": "Pass", "Parameters": parameters}), {"n": 1, "list": []}
        )
        output = self.ended(execution)["output"]

        self.assertEqual(
            json.loads(output),
            {
                "empty": [],
                "mixed": [1, "text", 2, True, None, []],
                "nested": [[1], "Only"],
                "context": [execution, 0],
            },
        )

    def test_task_in_a_map_keeps_its_entered_time_across_retries(self) -> None:
        key = unique()
        payload = {
            "key": key,
            "do": "fail",
            "error": "E",
            "item.$": "States.Array($$.Map.Item.Index)",
            "entered.$": "$$.State.EnteredTime",
            "retries.$": "$$.State.RetryCount",
            "map_entered.$": "$.map_entered",
        }
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "MaxAttempts": 2}
        task = invoke(payload, Retry=[retry], Catch=[{"ErrorEquals": ["E"], "Next": "Caught"}])
        selector = {"map_entered.$": "$$.State.EnteredTime"}
        self.output(one(map_over("$", selector, task)), [7, 7])

        reports = [report["event"] for report in inbox.of(key)]
        for index in (0, 1):
            attempts = [event for event in reports if event["item"] == [index]]
            self.assertEqual([event["retries"] for event in attempts], [0, 1, 2])
            self.assertEqual(len({event["entered"] for event in attempts}), 1)

        self.assertEqual(len({event["map_entered"] for event in reports}), 1)

    def test_retried_map_keeps_its_entered_time_and_counts(self) -> None:
        key = unique()
        selector = {
            "entered.$": "$$.State.EnteredTime",
            "retries.$": "$$.State.RetryCount",
        }
        payload = {
            "key": key,
            "do": "fail",
            "error": "E",
            "entered.$": "$.entered",
            "retries.$": "$.retries",
            "own.$": "$$.State.EnteredTime",
        }
        retry = {"ErrorEquals": ["E"], "IntervalSeconds": 1, "MaxAttempts": 1}
        state = map_over("$", selector, invoke(payload), Retry=[retry])

        self.assertEqual(self.failure(one(state), [0]), "E")

        first, second = (report["event"] for report in inbox.of(key))
        self.assertEqual((first["retries"], second["retries"]), (0, 1))
        self.assertEqual(first["entered"], second["entered"])
        self.assertNotEqual(first["own"], second["own"])

    def test_each_entry_of_a_state_in_a_loop_has_its_own_time(self) -> None:
        key = unique()
        task = invoke(
            {"key": key, "entered.$": "$$.State.EnteredTime"}, ResultPath=None, Next="Count"
        )
        count = {"Type": "Pass", "Parameters": {"n.$": "States.MathAdd($.n, 1)"}, "Next": "Again"}
        again = {"Type": "Choice", "Default": "Caught"}
        again["Choices"] = [{"Variable": "$.n", "NumericLessThan": 3, "Next": "Only"}]
        machine = one(task)
        machine["States"].update(Count=count, Again=again)
        self.output(machine, {"n": 0})

        self.assertEqual(len({report["event"]["entered"] for report in inbox.of(key)}), 3)
