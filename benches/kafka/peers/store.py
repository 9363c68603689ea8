"""In the place of S3: takes an object's bytes; keeps them where DUMP names a folder, so that outputs can be compared."""

import os
from pathlib import Path

FOLDER = os.environ.get("DUMP")


def put(name: str, body: bytes) -> None:
    if FOLDER:
        Path(FOLDER, name).write_bytes(body)
