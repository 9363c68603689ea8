"""JSONPath, variables, and the input and output of states."""

from __future__ import annotations

import contextvars
import re
from typing import Any

import ministack.services.stepfunctions as sfn

from patches.patching import patch, require, stock
from patches.stepfunctions.faults import TaskError, text

require(
    sfn,
    "_apply_input_path",
    "_apply_jsonata_arguments",
    "_apply_jsonata_output",
    "_apply_output_path",
    "_apply_parameters",
    "_apply_result_path",
    "_apply_state_assign",
    "_next_or_end",
    "_parse_jsonpath_tokens",
    "_state_query_language",
)

CONTEXT: contextvars.ContextVar[dict] = contextvars.ContextVar("context")  # the context object
VARIABLE = re.compile(r"\$([A-Za-z_]\w*)(.*)", re.DOTALL)

_stock_resolve_path = stock(sfn, "_resolve_path")
_stock_resolve_params = stock(sfn, "_resolve_params_obj")


def is_jsonata(state: dict, ctx: dict) -> bool:
    return sfn._state_query_language(state, ctx) == "JSONata"


def split_path(path: str, data: Any) -> tuple[str, Any]:
    """The path and the value to apply it to.

    `$variable.rest` is the path `$.rest` into the variable. Any other path leads into `data`.
    """
    found = VARIABLE.match(path)
    if found is None:
        return path, data
    variables = CONTEXT.get({}).get("variables", {})
    if found[1] not in variables:
        raise TaskError("States.Runtime", f"The variable '${found[1]}' has no value")
    return "$" + found[2], variables[found[1]]


@patch(sfn, "_resolve_path")
def _resolve_path(path: str, data: Any) -> Any:
    """`$name` is a variable in JSONPath too ("Passing data between states with variables").

    ministack evaluates it to null.
    """
    return _stock_resolve_path(*split_path(path, data))


def assign_variables(state: dict, data: Any, ctx: dict) -> None:
    """Set the variables of `Assign` in a JSONPath state or its Catch (the same page).

    ministack knows `Assign` in JSONata only.
    """
    if "Assign" in state:
        ctx["variables"].update(_resolve_params_obj(state["Assign"], data, ctx))


@patch(sfn, "_resolve_params_obj")
def _resolve_params_obj(template: Any, data: Any, ctx: dict | None = None) -> Any:
    """Resolve the paths of Parameters, ResultSelector or ItemSelector.

    AWS: a path that leads nowhere fails the state with States.Runtime ("Using JSONPath paths").
    ministack: evaluates it to null.
    """
    for key, path in template.items() if isinstance(template, dict) else ():
        if key.endswith(".$") and isinstance(path, str) and path.startswith("$"):
            where = (path[1:], ctx or {}) if path.startswith("$$") else split_path(path, data)
            if not path_exists(*where):
                raise TaskError(
                    "States.Runtime",
                    f"The JSONPath '{path}' specified for the field '{key}' could not be found "
                    f"in the input '{text(where[1])}'",
                )
    return _stock_resolve_params(template, data, ctx)


def path_exists(path: str, data: Any) -> bool:
    if path == "$":
        return True
    for kind, name in sfn._parse_jsonpath_tokens(path) or [("field", path)]:
        if kind == "wildcard":
            return True
        if kind == "field" and (not isinstance(data, dict) or name not in data):
            return False
        if kind == "index" and (not isinstance(data, list) or name >= len(data)):
            return False
        data = data[name]
    return True


def effective_input(state: dict, raw_input: Any, ctx: dict) -> Any:
    """The input of a Task's call, or of the branches of a Parallel state.

    AWS: in JSONata, `Arguments` is the input of the branches too ("Parallel state").
    ministack: ignores it there.
    """
    if is_jsonata(state, ctx):
        return sfn._apply_jsonata_arguments(state, raw_input, ctx)
    return sfn._apply_parameters(state, sfn._apply_input_path(state, raw_input, ctx), ctx)


def finish_state(state: dict, raw_input: Any, result: Any, ctx: dict) -> tuple:
    """The output of a Task, Parallel or Map state that has a result, and the name of the next state.

    AWS: ResultSelector may read the context object ("Manipulate results with ResultSelector"). In
    JSONata, `Output` applies to a Parallel state too ("Parallel state").
    ministack: ResultSelector reads null from the context object; `Output` is ignored.
    """
    if is_jsonata(state, ctx):
        output = sfn._apply_jsonata_output(state, raw_input, ctx, result=result, default=result)
        sfn._apply_state_assign(state, raw_input, ctx, result=result)
    else:
        selected = result
        if "ResultSelector" in state:
            selected = _resolve_params_obj(state["ResultSelector"], result, ctx)
        output = sfn._apply_result_path(state, raw_input, selected)
        output = sfn._apply_output_path(state, output, ctx)
        assign_variables(state, result, ctx)
    return output, sfn._next_or_end(state)
