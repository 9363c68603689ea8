"""Stands in for S3: takes an object's bytes, and writes them to the folder DUMP if it is set, to compare outputs."""

import os
from pathlib import Path

FOLDER = os.environ.get("DUMP")


def put(name: str, body: bytes) -> None:
    if FOLDER:
        Path(FOLDER, name).write_bytes(body)
