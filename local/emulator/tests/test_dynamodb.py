"""DynamoDB: a query of a long partition."""

from __future__ import annotations

import time
import unittest
from typing import Any

from tests.harness import Case, aws, launcher, unique

ROWS = 600


def setUpModule() -> None:
    launcher.start()


class Queries(Case):
    table: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.table = unique("table")
        names = (("pk", "HASH"), ("sk", "RANGE"))
        aws("dynamodb").create_table(
            TableName=cls.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name, _ in names
            ],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in names],
        )
        # Not in the order of their keys.
        rows = [*range(ROWS // 2, ROWS), *range(ROWS // 2)]
        for start in range(0, ROWS, 25):
            puts = [
                {"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"S": f"{row:04}"}}}}
                for row in rows[start : start + 25]
            ]
            aws("dynamodb").batch_write_item(RequestItems={cls.table: puts})

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


if __name__ == "__main__":
    unittest.main()
