"""The conversion in Python with the standard library: what a careful team would write."""

import base64
import csv
import io
import json

COLUMNS = ["id", "name", "email", "city", "balance", "since", "note"]


class Verbatim(str):
    """A number's token, as it was written."""


def to_json(event: bytes, loads=json.loads) -> dict:
    outputs = {}
    for partition, records in loads(event)["records"].items():
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for record in records:
            if record.get("value") is None:
                continue
            fields = json.loads(base64.b64decode(record["value"]), parse_float=Verbatim, parse_int=Verbatim)
            rows.writerow([fields.get(column) for column in COLUMNS])
        outputs[partition] = text.getvalue().encode()
    return outputs


def to_lines(event: bytes) -> dict:
    """As the AWS sample does: values decoded and joined, nothing looked at."""
    outputs = {}
    for partition, records in json.loads(event)["records"].items():
        text = ""
        for record in records:
            text += base64.b64decode(record["value"]).decode("utf-8")
            text += "\n"
        outputs[partition] = text.encode()
    return outputs


if __name__ == "__main__":
    from serve import serve

    serve({"json": to_json, "lines": to_lines})
