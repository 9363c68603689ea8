"""Compares msk-to-s3 with Python and Node. Each candidate is a Lambda bootstrap behind the same Runtime API: it receives
the event over HTTP, parses it, converts it and responds; a stub takes the bytes in place of S3. The figures are
medians of the process's CPU time. In each round, all candidates take their turn. A run has new processes; with several
runs, the figures are the medians of the runs' medians. docs/kafka/bench.md explains the result.

    cargo build --release -p postern-kafka-bench
    python3 benches/kafka/bench.py [--runs 5] [--rounds 15] [--python PYTHON_WITH_ORJSON] [--binary FILE]
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from function import Function

from events import COLUMNS, event

HERE = Path(__file__).resolve().parent
OURS, FLOOR = "msk-to-s3", "floor: this runtime, base64, a copy"
# Invocations before the measurement: Node compiles code that runs often.
WARM_UP = 5
# What a run should reach: batch, candidate, and how many times our CPU time the candidate needs at least. For the floor it
# is how many times its time we need at most.
TARGETS = [
    ("json", 10_000, "Python, orjson", 15),
    ("json", 10_000, "Node", 12),
    ("json", 10_000, FLOOR, 3),
    ("lines", 10_000, "Python, the sample's handler", 9),
    ("lines", 10_000, FLOOR, 2),
]


def candidates(options) -> dict:
    """The command and environment of each candidate, by format. Ours is first: the others are compared with it."""
    python = [options.python, HERE / "peers/bootstrap.py"]
    node = ["node", HERE / "peers/bootstrap.mjs"]
    floor = ([options.binary], {"FLOOR": "true"})
    return {
        "json": {
            OURS: ([options.binary], {"RECORD_FORMAT": "json", "CSV_COLUMNS": ",".join(COLUMNS)}),
            FLOOR: floor,
            "Node": ([*node, "json"], {}),
            "Python, orjson": ([*python, "with_orjson.handler"], {}),
            "Python, standard library": ([*python, "stdlib.handler"], {}),
        },
        "lines": {
            OURS: ([options.binary], {"RECORD_FORMAT": "lines"}),
            FLOOR: floor,
            "Node": ([*node, "lines"], {}),
            "Python, bytes joined": ([*python, "lines.handler"], {}),
            "Python, the sample's handler": ([*python, "sample.handler"], {}),
        },
    }


def written(command: list, environment: dict, given: bytes) -> bytes:
    """The output of a candidate for an event, one partition after another."""
    with tempfile.TemporaryDirectory() as folder:
        function = Function(command, {**environment, "S3_BUCKET_NAME": "bench", "DUMP": folder})
        function.measure(given, 1)
        function.stop()
        return b"".join(file.read_bytes() for file in sorted(Path(folder).iterdir()))


def rows(text: bytes) -> list:
    """The rows of a CSV, with the balance as a number: some peers do not keep its digits."""
    parsed = csv.reader(io.StringIO(text.decode(), newline=""))
    return [
        [
            float(field) if name == "balance" else field
            for name, field in zip(COLUMNS, row, strict=True)
        ]
        for row in parsed
    ]


def check(shape: str, contest: dict, given: bytes):
    """Checks that all candidates write the same rows, and the same bytes where they keep numbers as written."""
    ours = written(*contest[OURS], given)
    for name, candidate in contest.items():
        if name in (OURS, FLOOR):
            continue
        theirs = written(*candidate, given)
        verbatim = shape == "lines" or name == "Python, standard library"
        if (ours != theirs) if verbatim else (rows(ours) != rows(theirs)):
            sys.exit(f"{shape}: {OURS} and {name} write different records")


def compare(shape: str, contest: dict, given: bytes, records: int, rounds: int) -> dict:
    """The median CPU time of each candidate in nanoseconds, and the peak memory of its process."""
    functions = {
        name: Function(command, {**environment, "S3_BUCKET_NAME": "bench"})
        for name, (command, environment) in contest.items()
    }
    repeats = max(1, 1_000 // records)
    times = {name: [] for name in functions}
    for number in range(WARM_UP + rounds):
        for name, function in functions.items():
            time = function.measure(given, repeats)
            if number >= WARM_UP:
                times[name].append(time)
    results = {
        name: (statistics.median(times[name]), function.peak())
        for name, function in functions.items()
    }
    for function in functions.values():
        function.stop()

    allowed = 3 * len(given) + 20e6
    peak = results[OURS][1]
    if peak > allowed:
        sys.exit(
            f"{shape}, {records:,}: {OURS} had {peak / 1e6:.1f} MB, more than three times its event and 20 MB"
        )
    return results


def ratios(runs: list, name: str) -> list:
    """How many times our CPU time a candidate needed in each run."""
    return [run[name][0] / run[OURS][0] for run in runs]


def table(batches: dict):
    """Prints the medians of the runs. `batches` has the results of each run by shape, number of records and event size."""
    print(
        "| batch | candidate | CPU, median | event MB/s | against ours | in each run | peak memory |\n"
        "|---|---|---|---|---|---|---|"
    )
    for (shape, records, size), runs in batches.items():
        medians = {name: statistics.median(run[name][0] for run in runs) for name in runs[0]}
        for name, median in sorted(medians.items(), key=lambda item: item[1]):
            each = ratios(runs, name)
            peak = max(run[name][1] for run in runs) / 1e6
            print(
                f"| {shape}, {records:,} | {name} | {median / 1e6:.3f} ms | {size / median * 1e3:,.0f} "
                f"| {statistics.median(each):.2f}× | {' '.join(f'{ratio:.2f}' for ratio in each)} "
                f"| {peak:.1f} MB |"
            )


def targets(batches: dict):
    """Prints the targets beside what the runs reached."""
    print(
        "\n| | target | median, least and most of the runs | runs that reach it |\n|---|---|---|---|"
    )
    for (shape, records, _), runs in batches.items():
        for name, target in [
            (target[2], target[3]) for target in TARGETS if target[:2] == (shape, records)
        ]:
            each = ratios(runs, name)
            if name == FLOOR:
                each = [1 / ratio for ratio in each]
                reached, text = [ratio <= target for ratio in each], f"at most {target} times it"
            else:
                reached, text = [ratio >= target for ratio in each], f"{target} times ours"
            print(
                f"| {shape}, {records:,}: {name} | {text} | {statistics.median(each):.1f}, "
                f"{min(each):.1f} to {max(each):.1f} | {sum(reached)} of {len(reached)} |"
            )


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--runs", type=int, default=1)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument(
        "--python", default=sys.executable, help="a Python that has benches/requirements.txt"
    )
    options.add_argument(
        "--binary",
        type=Path,
        default=Path(os.environ.get("CARGO_TARGET_DIR", HERE / "../../target"))
        / "release/postern-kafka-bench",
    )
    options = options.parse_args()
    orjson = [options.python, "-c", "import orjson"]
    if subprocess.run(orjson, capture_output=True, check=False).returncode:
        sys.exit(
            f"{options.python} has no orjson: install benches/requirements.txt, or say --python"
        )
    contests = candidates(options)
    for shape, contest in contests.items():
        check(shape, contest, event(shape, 1_000))
    batches = {}
    for run in range(options.runs):
        for records in (100, 10_000):
            for shape, contest in contests.items():
                given = event(shape, records)
                results = compare(shape, contest, given, records, options.rounds)
                batches.setdefault((shape, records, len(given)), []).append(results)
        print(f"run {run + 1} of {options.runs} is done", file=sys.stderr)
    table(batches)
    targets(batches)


if __name__ == "__main__":
    main()
