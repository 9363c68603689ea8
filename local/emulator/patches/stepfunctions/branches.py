"""Parallel and Map."""

from __future__ import annotations

import contextvars
import copy
import queue
import threading
from collections.abc import Callable
from typing import Any

import ministack.services.stepfunctions as sfn

from patches import roles
from patches.patching import patch, require, stock
from patches.stepfunctions.faults import TaskError
from patches.stepfunctions.history import chain_of_its_own, record
from patches.stepfunctions.paths import effective_input, finish_state, is_jsonata
from patches.stepfunctions.scope import (
    EXECUTION,
    SCOPE,
    Cancelled,
    Scope,
    current_scope,
    start_thread,
)

INLINE_MAP_CONCURRENCY = 40  # "Inline mode": at most 40 iterations at once

require(sfn, "_apply_jsonata_template", "_resolve_path_or_ctx", "_run_sub_machine")


def run_branches(count: int, run_one: Callable[[int], Any], at_once: int) -> list:
    """Run branches or iterations in parallel. The first failure ends the others at once.

    AWS: "If any branch fails ... the entire Parallel state is considered to have failed and all
    the branches are stopped" ("Parallel state", "Map state").
    ministack: waits for the other branches, however long they take.
    """
    results: list = [None] * count
    scope = Scope(current_scope())
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    wake = threading.Event()

    def run(index: int) -> None:
        chain_of_its_own()
        results[index] = run_one(index)

    def work() -> None:
        SCOPE.set(scope)
        error = None
        try:
            while not scope.cancelled:
                contextvars.copy_context().run(run, todo.get_nowait())
        except (Cancelled, queue.Empty):
            pass
        except TaskError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - any error of ministack fails the branch
            error = TaskError("States.Runtime", repr(failure))
        ended.put(error)
        wake.set()

    for index in range(count):
        todo.put(index)

    workers = min(count, at_once)
    for _ in range(workers):
        start_thread(work)
    try:
        for _ in range(workers):
            while ended.empty():
                wake.clear()
                if ended.empty():
                    current_scope().wait(wake)
            error = ended.get()
            if error is not None:
                raise error
        return results
    finally:
        scope.cancel()


def run_state(
    state: dict,
    raw_input: Any,
    execution: dict,
    ctx: dict,
    run: Callable[[], list],
    started: dict | None = None,
) -> tuple:
    """Run a Parallel or Map state whose results come from `run`, and record its events."""
    kind = state["Type"]
    record(execution, f"{kind}StateStarted", started)
    try:
        results = run()
    except TaskError:
        record(execution, f"{kind}StateFailed")
        raise
    record(execution, f"{kind}StateSucceeded")
    return finish_state(state, raw_input, results, ctx)


def run_branch(machine: dict, data: Any, execution: dict, ctx: dict) -> Any:
    return sfn._run_sub_machine(machine["States"], machine["StartAt"], data, execution, ctx)


@patch(sfn, "_run_parallel_branches")
def _run_parallel_branches(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    """Each branch has its own context object ("Accessing execution data from the Context object").

    In ministack the branches share one, and a task can get the token of a task in another branch.
    """
    effective = effective_input(state, raw_input, ctx)
    branches = state["Branches"]

    def run_one(index: int) -> Any:
        return run_branch(branches[index], effective, execution, copy.deepcopy(ctx))

    def run() -> list:
        return run_branches(len(branches), run_one, len(branches))

    return run_state(state, raw_input, execution, ctx, run)


def map_items(state: dict, raw_input: Any, effective: Any, ctx: dict) -> tuple[list, int]:
    """The items of a Map state and its MaxConcurrency; 0 stands for no limit."""
    at_once = state.get("MaxConcurrency", 0)
    if is_jsonata(state, ctx):
        fields = {"items": state.get("Items", raw_input), "at_once": at_once}
        fields = sfn._apply_jsonata_template(fields, raw_input, ctx)
        items, at_once = fields["items"], fields["at_once"]
    else:
        items = sfn._resolve_path_or_ctx(state.get("ItemsPath", "$"), effective, ctx)
        if "MaxConcurrencyPath" in state:
            at_once = sfn._resolve_path_or_ctx(state["MaxConcurrencyPath"], effective, ctx)

    if not isinstance(items, list):
        raise TaskError("States.Runtime", "The items of a Map state must be an array")
    return items, int(at_once)


_stock_s3_object_text = stock(sfn, "_s3_object_text")


@patch(sfn, "_s3_object_text")
def _s3_object_text(bucket: str, key: str) -> str:
    """The object that the ItemReader of a distributed Map reads.

    AWS: reads it with the machine's role ("IAM policies for using Distributed Map states").
    ministack: reads it without a check.
    """
    role, session = roles.machine_role(EXECUTION.get())
    sentence = roles.denial(role, "states", session, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")
    if sentence is not None:
        raise TaskError("States.ItemReaderFailed", sentence)
    return _stock_s3_object_text(bucket, key)


_stock_run_map_items = stock(sfn, "_run_map_items")


@patch(sfn, "_run_map_items")
def _run_map_items(state: dict, raw_input: Any, execution: dict, ctx: dict) -> tuple:
    processor = state.get("ItemProcessor") or state.get("Iterator") or {}
    if (processor.get("ProcessorConfig") or {}).get("Mode") == "DISTRIBUTED":
        return _stock_run_map_items(state, raw_input, execution, ctx)

    jsonata = is_jsonata(state, ctx)
    effective = sfn._apply_input_path(state, raw_input, ctx)
    items, at_once = map_items(state, raw_input, effective, ctx)
    selector = state.get("ItemSelector") or state.get("Parameters")
    name = ctx["State"]["Name"]

    def run_one(index: int) -> Any:
        item_ctx = copy.deepcopy(ctx)
        item_ctx["Map"] = {"Item": {"Index": index, "Value": items[index]}}
        if not selector:
            item_input = items[index]
        elif jsonata:
            item_input = sfn._apply_jsonata_template(selector, raw_input, item_ctx)
        else:
            item_input = sfn._resolve_params_obj(selector, effective, item_ctx)

        where = {"name": name, "index": index}
        record(execution, "MapIterationStarted", where)
        try:
            result = run_branch(processor, item_input, execution, item_ctx)
        except TaskError:
            record(execution, "MapIterationFailed", where)
            raise
        record(execution, "MapIterationSucceeded", where)
        return result

    def run() -> list:
        return run_branches(len(items), run_one, at_once or INLINE_MAP_CONCURRENCY)

    return run_state(state, raw_input, execution, ctx, run, {"length": len(items)})
