"""Generated events: the same customers as JSON objects and as CSV lines, from a seed."""

import base64
import json
import random

COLUMNS = ["id", "name", "email", "city", "balance", "since", "note"]
FIRST = ["Ana", "Zoë", "Jörg", "Noé", "Søren", "Łucja", "José", "Maria", "John", "Wei"]
LAST = ["Lima", "Krause", "Smith", "Nuñez", "Novak", "Silva", "Jones", "Rossi"]
CITIES = ["Lisboa", "Köln", "São Paulo", "Gent", "Kraków", "Leeds", "Porto", "Wien"]
PARTITIONS = 3


def customers(count: int):
    """Customers as text fields. One note in 25 has characters that must be escaped."""
    numbers = random.Random(42)
    for number in range(count):
        note = "regular customer since the beginning, prefers to be written to " * numbers.randint(
            1, 2
        )
        if numbers.random() < 0.04:
            note = numbers.choice(['says "call me"', "two lines\nof text", "a, b and c"])
        yield [
            f"C-{number:07}",
            f"{numbers.choice(FIRST)} {numbers.choice(LAST)}",
            f"customer{number}@example.com",
            numbers.choice(CITIES),
            f"{numbers.randint(0, 9999)}.{numbers.randint(0, 99):02}",
            f"20{numbers.randint(5, 25):02}-{numbers.randint(1, 12):02}-{numbers.randint(1, 28):02}",
            note,
        ]


def as_json(customer: list) -> str:
    """A JSON object in which the balance is a number with all its digits."""
    texts = [
        text if name == "balance" else json.dumps(text, ensure_ascii=False)
        for name, text in zip(COLUMNS, customer)
    ]
    return "{" + ",".join(f'"{name}":{text}' for name, text in zip(COLUMNS, texts)) + "}"


def as_line(customer: list) -> str:
    """A CSV line. Line breaks become spaces, because a record holds one line."""
    fields = [text.replace("\n", " ") for text in customer]
    return ",".join(
        '"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text for text in fields
    )


def event(shape: str, count: int) -> bytes:
    """The event that the event source mapping of an MSK cluster sends."""
    partitions = {f"customer-{partition}": [] for partition in range(PARTITIONS)}
    for number, customer in enumerate(customers(count)):
        value = {"json": as_json, "lines": as_line}[shape](customer)
        partition, offset = number % PARTITIONS, number // PARTITIONS
        partitions[f"customer-{partition}"].append(
            {
                "topic": "customer",
                "partition": partition,
                "offset": offset,
                "timestamp": 1767225600000 + number,
                "timestampType": "CREATE_TIME",
                "key": base64.b64encode(customer[0].encode()).decode(),
                "value": base64.b64encode(value.encode()).decode(),
                "headers": [],
            }
        )
    whole = {
        "eventSource": "aws:kafka",
        "eventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c/1",
        "bootstrapServers": "b-1:9098",
        "records": partitions,
    }
    return json.dumps(whole, separators=(",", ":")).encode()
