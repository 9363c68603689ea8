"""DynamoDB: a query takes the time of the rows that it reads, as on AWS.

ministack 1.5.33 sorts all rows of the partition and evaluates the key condition for each of them: a
query of a partition with a thousand rows takes 100 ms, whatever it finds. This patch offers the stock
query only the rows that the key condition and the limit can select. It does so for the two forms that
read a part of a long partition: `pk = :pk`, with a limit, and `pk = :pk AND sk >= :sk` (or `>`), both
on a table whose sort key is a string. All other queries are left as they are.
"""

from __future__ import annotations

import bisect
import re
from typing import Any

import ministack.services.dynamodb as dynamodb

from patches.patching import patch, require, stock

KEY_CONDITION = re.compile(r"\s*(\w+) = (:\w+)(?: AND (\w+) >=? (:\w+))?\s*")
stock_query = stock(dynamodb, "_query")
require(dynamodb, "_lock", "_tables", "_normalize_table_name", "_get_attr_type")


@patch(dynamodb, "_query")
def _query(data: dict[str, Any]) -> Any:
    table = dynamodb._tables.get(dynamodb._normalize_table_name(data.get("TableName")))
    rows = selectable(table, data) if table else None
    if rows is None:
        return stock_query(data)

    # The stock query reads `items` of the table. Only the thread that expires rows changes them meanwhile.
    with dynamodb._lock:
        whole = table["items"]
        table["items"] = rows
        try:
            return stock_query(data)
        finally:
            table["items"] = whole


def selectable(table: dict[str, Any], data: dict[str, Any]) -> dict[str, Any] | None:
    """The rows of the partition among which the query finds its own, or None if it may need them all."""
    condition = KEY_CONDITION.fullmatch(data.get("KeyConditionExpression") or "")
    values = data.get("ExpressionAttributeValues") or {}
    others = ("IndexName", "ExclusiveStartKey", "ExpressionAttributeNames", "FilterExpression")
    if condition is None or any(data.get(name) for name in others):
        return None

    partition_key, partition, sort_key, first = condition.groups()
    keys = (table["pk_name"], table.get("sk_name"))
    if (partition_key, sort_key or keys[1]) != keys or dynamodb._get_attr_type(
        table, keys[1]
    ) != "S":
        return None
    names = [values.get(name, {}).get("S") for name in (partition, first) if name]
    if any(not isinstance(name, str) for name in names):
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
    return {names[0]: {key: bucket[key] for key in order}}
