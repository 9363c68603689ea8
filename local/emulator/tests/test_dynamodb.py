"""DynamoDB: queries of long partitions, and what is remembered of expressions."""

from __future__ import annotations

import time
import unittest
from typing import Any

from botocore.exceptions import ClientError

from tests.harness import Case, aws, launcher, unique

ROWS = 600


def setUpModule() -> None:
    launcher.start()


def key_schema(hash_name: str, range_name: str) -> list[dict[str, str]]:
    names = ((hash_name, "HASH"), (range_name, "RANGE"))
    return [{"AttributeName": name, "KeyType": kind} for name, kind in names]


def make_table(name: str) -> None:
    """A table with the keys `pk` and `sk`, and an index by `pk` and `at`."""
    index = {"IndexName": "ByTime", "KeySchema": key_schema("pk", "at")}
    aws("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "at")
        ],
        KeySchema=key_schema("pk", "sk"),
        GlobalSecondaryIndexes=[{**index, "Projection": {"ProjectionType": "ALL"}}],
    )


def item(row: int) -> dict[str, Any]:
    """Ten rows in each minute."""
    return {"pk": {"S": "a"}, "sk": {"S": f"{row:04}"}, "at": {"S": f"minute {row // 10:02}"}}


class Rows(Case):
    table: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.table = unique("table")
        make_table(cls.table)
        # Not in the order of their keys.
        rows = [*range(ROWS // 2, ROWS), *range(ROWS // 2)]
        for start in range(0, ROWS, 25):
            puts = [{"PutRequest": {"Item": item(row)}} for row in rows[start : start + 25]]
            aws("dynamodb").batch_write_item(RequestItems={cls.table: puts})


class Queries(Rows):
    def query(
        self, condition: str = "", first: str | None = None, **options: Any
    ) -> tuple[list[int], Any]:
        values = {":pk": {"S": "a"}} | ({":sk": {"S": first}} if first is not None else {})
        found = aws("dynamodb").query(
            TableName=self.table,
            KeyConditionExpression=f"pk = :pk{condition}",
            ExpressionAttributeValues=values,
            **options,
        )
        return [int(row["sk"]["S"]) for row in found["Items"]], found.get("LastEvaluatedKey")

    def test_a_query_from_a_sort_key_finds_the_rows_after_it_in_order(self) -> None:
        for condition, first, start in (
            (" AND sk >= :sk", "0590", 590),
            (" AND sk > :sk", "0590", 591),
            (" AND sk >= :sk", "0589x", 590),
            (" AND sk >= :sk", "9", ROWS),
        ):
            self.assertEqual(
                self.query(condition, first), (list(range(start, ROWS)), None), condition
            )
        backwards, _ = self.query(" AND sk >= :sk", "0590", ScanIndexForward=False)
        self.assertEqual(backwards, list(range(ROWS - 1, 589, -1)))

    def test_a_limit_ends_the_query_and_names_the_key_that_continues_it(self) -> None:
        for options, expected in (
            ({"condition": " AND sk >= :sk", "first": "0100", "Limit": 3}, [100, 101, 102]),
            ({"condition": " AND sk > :sk", "first": "0100", "Limit": 3}, [101, 102, 103]),
            ({"Limit": 2}, [0, 1]),
            ({"Limit": 2, "ScanIndexForward": False}, [599, 598]),
        ):
            found, last = self.query(**options)
            self.assertEqual((found, last["sk"]["S"]), (expected, f"{expected[-1]:04}"))

        _, last = self.query(Limit=2)
        self.assertEqual(self.query(Limit=2, ExclusiveStartKey=last)[0], [2, 3])
        self.assertEqual(len(self.query()[0]), ROWS)

    def test_a_query_of_the_newest_rows_does_not_read_the_others(self) -> None:
        def seconds(**options: Any) -> float:
            start = time.monotonic()
            self.query(**options)
            return time.monotonic() - start

        newest = min(seconds(Limit=2, ScanIndexForward=False) for _ in range(5))
        everything = min(seconds() for _ in range(5))
        self.assertLess(newest * 3, everything)


class IndexQueries(Rows):
    """The same rows by an index, whose keys many rows share."""

    def by_time(self, first: int, last: int, **options: Any) -> tuple[list[int], Any]:
        values = (":pk", "a"), (":from", f"minute {first:02}"), (":to", f"minute {last:02}")
        found = aws("dynamodb").query(
            TableName=self.table,
            IndexName="ByTime",
            KeyConditionExpression="#pk = :pk AND #at BETWEEN :from AND :to",
            ExpressionAttributeNames={"#pk": "pk", "#at": "at"},
            ExpressionAttributeValues={name: {"S": value} for name, value in values},
            **options,
        )
        return [int(row["sk"]["S"]) for row in found["Items"]], found.get("LastEvaluatedKey")

    def test_pages_of_an_index_have_each_row_once_and_in_order(self) -> None:
        for options in ({}, {"ScanIndexForward": False}):
            expected, _ = self.by_time(20, 29, **options)
            self.assertEqual(sorted(expected), list(range(200, 300)))
            self.assertEqual(expected, sorted(expected, reverse=bool(options)))

            pages, last = [], {}
            while last is not None:
                start = {"ExclusiveStartKey": last} if last else {}
                page, last = self.by_time(20, 29, Limit=7, **options, **start)
                pages += page
            self.assertEqual(pages, expected)

    def test_a_row_that_changes_moves_in_the_index(self) -> None:
        change = {
            "TableName": self.table,
            "UpdateExpression": "SET #at = :at",
            "ExpressionAttributeNames": {"#at": "at"},
        }
        key = {name: item(5)[name] for name in ("pk", "sk")}
        for at, first in (("minute 99", [5]), ("minute 00", [])):
            values = {":at": {"S": at}}
            aws("dynamodb").update_item(Key=key, ExpressionAttributeValues=values, **change)
            self.assertEqual(self.by_time(60, 99, Limit=3)[0], first)

    def test_a_query_of_the_newest_rows_of_an_index_does_not_read_the_others(self) -> None:
        def seconds(**options: Any) -> float:
            start = time.monotonic()
            self.by_time(0, 99, **options)
            return time.monotonic() - start

        newest = min(seconds(Limit=2, ScanIndexForward=False) for _ in range(5))
        everything = min(seconds() for _ in range(5))
        self.assertLess(newest * 3, everything)


class Updates(Case):
    """What the patches remember of an expression's text must not depend on its values."""

    def setUp(self) -> None:
        self.table = unique("table")
        make_table(self.table)
        aws("dynamodb").put_item(TableName=self.table, Item={**item(1), "texts": {"L": []}})

    def append(self, text: str, condition: str = "attribute_exists(texts)", **options: Any) -> Any:
        return aws("dynamodb").update_item(
            TableName=self.table,
            Key={name: item(1)[name] for name in ("pk", "sk")},
            UpdateExpression="SET texts = list_append(texts, :lines), latest = :line",
            ConditionExpression=condition,
            ExpressionAttributeValues={":lines": {"L": [{"S": text}]}, ":line": {"S": text}},
            **options,
        )

    def lines(self) -> list[str]:
        key = {name: item(1)[name] for name in ("pk", "sk")}
        found = aws("dynamodb").get_item(TableName=self.table, Key=key)["Item"]
        return [line["S"] for line in found["texts"]["L"]]

    def assert_refused(self, code: str, message: str, text: str, condition: str) -> None:
        with self.assertRaises(ClientError) as refused:
            self.append(text, condition)
        error = refused.exception.response["Error"]
        self.assertEqual(error["Code"], code)
        self.assertIn(message, error["Message"])

    def test_one_expression_with_other_values_has_another_result(self) -> None:
        for text in ("one", "two"):
            self.append(text)
        old = self.append("three", ReturnValues="ALL_OLD")["Attributes"]
        self.assertEqual([line["S"] for line in old["texts"]["L"]], ["one", "two"])
        self.assertEqual(self.lines(), ["one", "two", "three"])

    def test_an_expression_is_refused_each_time_and_changes_nothing(self) -> None:
        for _ in range(2):
            self.assert_refused(
                "ValidationException", "Syntax error", "x", "attribute_exists(texts"
            )
            self.assert_refused("ConditionalCheckFailedException", "failed", "x", "latest = :line")
        self.append("x")
        self.append("x", "latest = :line")
        self.assertEqual(self.lines(), ["x", "x"])

    def test_an_update_of_more_than_400_kb_is_refused(self) -> None:
        for _ in range(2):
            text = "é" * 110_000  # in the expression twice: 440 kB
            self.assert_refused("ValidationException", "size", text, "attribute_exists(texts)")
        self.assertEqual(self.lines(), [])


if __name__ == "__main__":
    unittest.main()
