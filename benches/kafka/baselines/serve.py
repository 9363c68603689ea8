"""One measured call for each line on standard input: `format path repeats`; answers CPU nanoseconds a call and writes
the outputs beside the event when asked to `dump`."""

import gc
import sys
import time
from pathlib import Path


def serve(conversions: dict) -> None:
    for line in sys.stdin:
        shape, path, repeats, dump = line.split()
        event = Path(path).read_bytes()
        convert = conversions[shape]
        gc.collect()
        start = time.process_time_ns()
        for _ in range(int(repeats)):
            outputs = convert(event)
        spent = time.process_time_ns() - start
        if dump != "-":
            for name, output in outputs.items():
                Path(dump, name).write_bytes(output)
        print(spent // int(repeats), flush=True)
