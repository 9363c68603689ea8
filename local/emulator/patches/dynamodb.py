"""DynamoDB: requests take the time of what they read and write, as on AWS.

ministack 1.5.33 reads the text of each expression several times for each request, copies an item four
times for each update, and sorts all rows of a partition and evaluates the key condition for each of them:
a query of a partition with a thousand rows takes 100 ms, whatever it finds.

These patches remember what depends on the text of an expression only, copy items fast, and offer the
stock query only the rows that the key condition and the limit can select. The last is for the forms that
read a part of a long partition:

- of a table: `pk = :pk`, with a limit, and `pk = :pk AND sk >= :sk` (or `>`)
- of an index: `#pk = :pk AND #sk BETWEEN :from AND :to`, with a limit

All of them need keys that are strings. All other queries are left as they are.
"""

from __future__ import annotations

import bisect
import copy
import functools
import heapq
import marshal
import re
from types import SimpleNamespace
from typing import Any

import ministack.services.dynamodb as dynamodb

from patches.patching import patch, require, stock

TEXTS = 1_000  # how many expressions are remembered
KEY_CONDITION = re.compile(r"\s*(\w+) = (:\w+)(?: AND (\w+) >=? (:\w+))?\s*")
INDEX_CONDITION = re.compile(r"(#\w+) = (:\w+) AND (#\w+) BETWEEN (:\w+) AND (:\w+)")
stock_query = stock(dynamodb, "_query")
stock_charge = stock(dynamodb, "_update_request_charge")
require(dynamodb, "_lock", "_tables", "_normalize_table_name", "_get_attr_type")
require(dynamodb, "_INDEX_MEMBERS", "_index_def", "_index_key_lists", "_index_members", "copy")
require(dynamodb, "_DDB_ITEM_MAX_BYTES")

_remembered_tokens = functools.lru_cache(TEXTS)(stock(dynamodb, "_tokenize"))
dynamodb._condition_syntax_error = functools.lru_cache(TEXTS)(
    stock(dynamodb, "_condition_syntax_error")
)


@patch(dynamodb, "_tokenize")
def _tokenize(expression: str) -> list[tuple[str, str]]:
    return list(_remembered_tokens(expression))


def deepcopy(value: Any) -> Any:
    """What copy.deepcopy does, six times as fast for the values that JSON can have."""
    try:
        return marshal.loads(marshal.dumps(value))
    except ValueError:  # a class of ministack's own
        return copy.deepcopy(value)


dynamodb.copy = SimpleNamespace(deepcopy=deepcopy)


@patch(dynamodb, "_update_request_charge")
def _update_request_charge(expression: str, values: Any, names: Any, item: dict[str, Any]) -> int:
    """What the stock function returns, or a higher number that is still far below the limit of its only caller.

    No token of the expression costs more than 64 bytes and all values and names together, and marshal's
    version 2 writes a text with all of its bytes.
    """
    most = len(_remembered_tokens(expression)) * (64 + len(marshal.dumps((values, names), 2)))
    return (
        most
        if most < dynamodb._DDB_ITEM_MAX_BYTES
        else stock_charge(expression, values, names, item)
    )


@patch(dynamodb, "_query")
def _query(data: dict[str, Any]) -> Any:
    table = dynamodb._tables.get(dynamodb._normalize_table_name(data.get("TableName")))
    part = selectable(table, data) if table else None
    if part is None:
        return stock_query(data)

    # The stock query reads these members of the table. Only the thread that expires rows changes them meanwhile.
    with dynamodb._lock:
        whole = {name: table[name] for name in part}
        table.update(part)
        try:
            return stock_query(data)
        finally:
            table.update(whole)


def selectable(table: dict[str, Any], data: dict[str, Any]) -> dict[str, Any] | None:
    """What the table has to contain for the query to find its rows, or None if it may need all of the table."""
    condition = data.get("KeyConditionExpression") or ""
    if data.get("FilterExpression"):
        return None
    if data.get("IndexName"):
        of_index = INDEX_CONDITION.fullmatch(condition)
        return rows_of_index(table, data, of_index) if of_index else None
    of_table = KEY_CONDITION.fullmatch(condition)
    return rows_of_table(table, data, of_table) if of_table else None


def rows_of_table(
    table: dict[str, Any], data: dict[str, Any], condition: re.Match[str]
) -> dict[str, Any] | None:
    if data.get("ExclusiveStartKey") or data.get("ExpressionAttributeNames"):
        return None
    partition_key, partition, sort_key, first = condition.groups()
    keys = (table["pk_name"], table.get("sk_name"))
    if (partition_key, sort_key or keys[1]) != keys or not are_strings(table, keys[1]):
        return None
    names = texts(data, *(name for name in (partition, first) if name))
    if names is None:
        return None

    bucket = table["items"].get(names[0], {})
    # Rows are mostly written in the order of their keys, which makes this sort fast. UTF-8 has the order of
    # the characters, so texts compare as their bytes do.
    order = sorted(bucket)
    order = order[bisect.bisect_left(order, names[1]) if first else 0 :]
    if limit := data.get("Limit"):
        # One more than the limit: it shows the stock query that it has not reached the end.
        count = int(limit) + 1
        # `>` may leave out the first of them.
        order = order[: count + 1] if data.get("ScanIndexForward", True) else order[-count:]
    return {"items": {names[0]: {key: bucket[key] for key in order}}}


def rows_of_index(
    table: dict[str, Any], data: dict[str, Any], condition: re.Match[str]
) -> dict[str, Any] | None:
    index = dynamodb._index_def(table, data["IndexName"])
    aliases = data.get("ExpressionAttributeNames") or {}
    partition_key, partition, sort_key, first, last = condition.groups()
    keys = ([aliases.get(partition_key)], [aliases.get(sort_key)])
    names = texts(data, partition, first, last)
    table_keys = (table["pk_name"], table.get("sk_name"))
    if (
        index is None
        or dynamodb._index_key_lists(index) != keys
        or not are_strings(table, *keys[0], *keys[1], *table_keys)
        or names is None
        or not data.get("Limit")
    ):
        return None

    # An index sorts by its own sort key, and then by the keys of the table.
    rows, sort_name = table["items"], keys[1][0]
    members = dynamodb._index_members(table)[data["IndexName"]].get(names[0], {})
    order = [(rows[pk][sk][sort_name]["S"], pk, sk) for pk, sk in members]
    order = [key for key in order if names[1] <= key[0] <= names[2]]
    forward = data.get("ScanIndexForward", True)
    if start := data.get("ExclusiveStartKey"):
        cursor = tuple((start.get(name) or {}).get("S") for name in (sort_name, *table_keys))
        if None in cursor:
            return None
        order = [key for key in order if (key > cursor if forward else key < cursor)]
    select = heapq.nsmallest if forward else heapq.nlargest
    order = select(int(data["Limit"]) + 1, order)
    part = {(pk, sk): None for _, pk, sk in order}
    return {dynamodb._INDEX_MEMBERS: {data["IndexName"]: {names[0]: part}}}


def are_strings(table: dict[str, Any], *keys: str | None) -> bool:
    return all(key and dynamodb._get_attr_type(table, key) == "S" for key in keys)


def texts(data: dict[str, Any], *names: str) -> list[str] | None:
    """The values of these names, or None if one of them is not a string."""
    values = data.get("ExpressionAttributeValues") or {}
    found = [values.get(name, {}).get("S") for name in names]
    return found if all(isinstance(text, str) for text in found) else None
