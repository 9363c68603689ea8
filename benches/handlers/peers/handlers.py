"""The work of the worker's handlers `sql` and `http` with psycopg and httpx.

    python handlers.py CASE.json

Reads the case that `postern-handlers-bench` reads, and prints the same numbers.
"""

import asyncio
import csv
import hashlib
import io
import itertools
import json
import os
import re
import sys
import tempfile
import time

import httpx
import psycopg
from psycopg.rows import dict_row

ROWS = 5_000  # how many rows a cursor fetches at a time


def fill(template, number):
    """The input of one job: 1 to 1,000 in the place of NUMBER."""
    number = number % 1_000 + 1
    return {
        name: number if value == "NUMBER" else value.replace("NUMBER", str(number))
        for name, value in template.items()
    }


class Sql:
    """A connection that is kept, and a transaction that cannot write for each job."""

    def __init__(self, section):
        self.url = section["url"]
        self.statement = re.sub(r":(\w+)", r"%(\1)s", section["statement"])
        self.is_csv = section.get("format") == "csv"

    async def open(self):
        self.connection = await psycopg.AsyncConnection.connect(self.url)
        await self.connection.set_read_only(True)

    async def run(self, given):
        async with self.connection.transaction():
            return await (self.to_file(given) if self.is_csv else self.to_json(given))

    async def to_json(self, given):
        async with self.connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self.statement, given)
            # Numbers with a scale and timestamps are texts, as they are in the worker's result.
            return json.dumps(await cursor.fetchall(), default=str)

    async def to_file(self, given):
        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as file:
            async with self.connection.cursor("rows") as cursor:
                await cursor.execute(self.statement, given)
                header = [column.name for column in cursor.description]
                rows = [header]
                while rows:
                    text = io.StringIO()
                    csv.writer(text).writerows(rows)
                    block = text.getvalue().encode()
                    digest.update(block)
                    file.write(block)
                    rows = await cursor.fetchmany(ROWS)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()


class Http:
    """A client that keeps its connection."""

    def __init__(self, section):
        self.base_url = section["base_url"]

    async def open(self):
        self.client = httpx.AsyncClient(base_url=self.base_url)

    async def run(self, given):
        response = await self.client.get(given["path"])
        response.raise_for_status()
        result = {"status": response.status_code, "headers": dict(response.headers)}
        return json.dumps({**result, "body": response.json()})


async def work(worker, case, numbers):
    for number in numbers:
        await worker.run(fill(case["input"], number))


async def run(workers, case, jobs):
    # All workers take the next number from one iterator.
    numbers = itertools.islice(itertools.count(), jobs)
    await asyncio.gather(*(work(worker, case, numbers) for worker in workers))


async def main():
    with open(sys.argv[1]) as file:
        case = json.load(file)
    kind = Sql if case["section"]["type"] == "sql" else Http
    workers = [kind(case["section"]) for _ in range(case["connections"])]
    for worker in workers:
        await worker.open()
    await run(workers, case, case["warm_up"])

    start, before = time.perf_counter(), time.process_time()
    await run(workers, case, case["jobs"])
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    print(json.dumps({"seconds": seconds, "cpu": cpu}))


asyncio.run(main())
