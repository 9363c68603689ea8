"""Encodes records of every Avro type with two independent encoders, fastavro and Apache's avro.

Prints a JSON list of {"name", "schema", "json", "encoded"}: the schema as text, the JSON that a reader must make of the
record, and the record's bytes by encoder, in hexadecimal.
"""

import datetime
import decimal
import io
import json
import sys

import avro.io
import avro.schema
import fastavro

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
UUID = "12345678-1234-5678-1234-567812345678"

ADDRESS = {
    "type": "record",
    "name": "Address",
    "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "int"]}],
}
CUSTOMER = {
    "type": "record",
    "name": "Customer",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "OLD"]}},
        {"name": "home", "type": ADDRESS},
        {"name": "work", "type": ["null", "Address"]},
        {"name": "scores", "type": {"type": "map", "values": "double"}},
    ],
}
TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [
        {"name": "leaf", "type": "int"},
        {"name": "children", "type": {"type": "array", "items": "Tree"}},
    ],
}
FIXED = {"type": "fixed", "name": "Four", "size": 4}


def logical(base: str, name: str, **more: int) -> dict:
    """A schema with a logical type."""
    return {"type": base, "logicalType": name, **more}


def customer(number: int) -> dict:
    """A record of CUSTOMER."""
    home = {"city": f"Stra\u00dfe {number}", "zip": number or None}
    return {
        "id": 2**40 + number,
        "name": None if number % 3 else f'na\u00efve, "{number}"\n',
        "kind": ["NEW", "OLD"][number % 2],
        "home": home,
        "work": None if number % 2 else home,
        "scores": {"a": number / 8},
    }


# Name, schema, record, and the record's JSON where it differs.
SAME = object()
CASES = [
    ("null", "null", None, SAME),
    ("true", "boolean", True, SAME),
    ("false", "boolean", False, SAME),
    *[(f"int {n}", "int", n, SAME) for n in (0, -1, 1, 63, -64, 64, 2**31 - 1, -(2**31))],
    *[(f"long {n}", "long", n, SAME) for n in (0, -1, 2**31, 2**63 - 1, -(2**63))],
    *[(f"float {n}", "float", n, SAME) for n in (0.0, 1.5, -0.25)],
    # The nearest float of 32 bits has the same shortest text.
    ("float 0.1", "float", 0.1, SAME),
    *[(f"double {n}", "double", n, SAME) for n in (0.0, 0.1, -1e300, 5e-324)],
    *[(f"double {n}", "double", float(n), n) for n in ("NaN", "Infinity", "-Infinity")],
    ("bytes", "bytes", bytes(range(256)), bytes(range(256)).decode("latin-1")),
    ("no bytes", "bytes", b"", ""),
    ("string", "string", '\u00e9\u4e2d\U0001f600 "\\\n\u0000', SAME),
    ("long string", "string", "x" * 10_000, SAME),
    ("fixed", FIXED, b"\x00\x7f\x80\xff", "\x00\x7f\x80\xff"),
    ("enum", {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, "C", SAME),
    ("array", {"type": "array", "items": "int"}, [1, -2, 3], SAME),
    ("no items", {"type": "array", "items": "int"}, [], SAME),
    (
        "nested array",
        {"type": "array", "items": {"type": "array", "items": "string"}},
        [["a"], []],
        SAME,
    ),
    ("map", {"type": "map", "values": "long"}, {"a": 1, "\u00e9": 2}, SAME),
    ("union null", ["null", "string"], None, SAME),
    ("union string", ["null", "string"], "x", SAME),
    ("union array", ["null", {"type": "array", "items": "int"}], [1], SAME),
    ("record", {"type": "record", "name": "Empty", "fields": []}, {}, SAME),
    ("tree", TREE, {"leaf": 1, "children": [{"leaf": 2, "children": []}]}, SAME),
    *[(f"customer {n}", CUSTOMER, customer(n), SAME) for n in range(6)],
    ("date", logical("int", "date"), MOMENT.date(), (MOMENT - EPOCH).days),
    ("time-millis", logical("int", "time-millis"), datetime.time(1, 2, 3, 4000), 3_723_004),
    ("time-micros", logical("long", "time-micros"), datetime.time(1, 2, 3, 4), 3_723_000_004),
    (
        "timestamp-millis",
        logical("long", "timestamp-millis"),
        MOMENT.replace(microsecond=678_000),
        (MOMENT - EPOCH) // MICROSECOND // 1000,
    ),
    (
        "timestamp-micros",
        logical("long", "timestamp-micros"),
        MOMENT,
        (MOMENT - EPOCH) // MICROSECOND,
    ),
    (
        "decimal",
        logical("bytes", "decimal", precision=6, scale=2),
        decimal.Decimal("-1.30"),
        "\u00ff~",
    ),
    (
        "fixed decimal",
        {**FIXED, "name": "D", "logicalType": "decimal", "precision": 6, "scale": 2},
        decimal.Decimal("-1.30"),
        "\u00ff\u00ff\u00ff~",
    ),
    ("uuid", logical("string", "uuid"), UUID, SAME),
    (
        "duration",
        {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"},
        bytes(range(250, 256)) * 2,
        bytes(range(250, 256)).decode("latin-1") * 2,
    ),
]


def by_fastavro(schema: object, record: object) -> bytes:
    """Encodes with fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def by_avro(schema: object, record: object) -> bytes:
    """Encodes with Apache's avro."""
    out = io.BytesIO()
    parsed = avro.schema.parse(json.dumps(schema))
    avro.io.DatumWriter(parsed).write(record, avro.io.BinaryEncoder(out))
    return out.getvalue()


def main() -> None:
    """Print every vector."""
    vectors = [
        {
            "name": name,
            "schema": json.dumps(schema),
            "json": record if expected is SAME else expected,
            "encoded": {
                "fastavro": by_fastavro(schema, record).hex(),
                "avro": by_avro(schema, record).hex(),
            },
        }
        for name, schema, record, expected in CASES
    ]
    json.dump(vectors, sys.stdout)


if __name__ == "__main__":
    main()
