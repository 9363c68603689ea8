"""Converts JSON to CSV with Python's standard library. Numbers stay as they were written."""

import base64
import csv
import io
import json

from store import put

COLUMNS = ["id", "name", "email", "city", "balance", "since", "note"]


class Verbatim(str):
    """The text of a number as it was written."""


def handler(event):
    for partition, records in event["records"].items():
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for record in records:
            value = record.get("value")
            if value is None:
                continue
            fields = json.loads(base64.b64decode(value), parse_float=Verbatim, parse_int=Verbatim)
            rows.writerow([fields.get(column) for column in COLUMNS])
        put(partition, text.getvalue().encode())
    return {"batchItemFailures": []}
