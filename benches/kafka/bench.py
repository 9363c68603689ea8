"""Kafka to CSV: msk-to-s3 in its Lambda runtime (event bytes in, object bytes out) against Python and Node.

CPU time, all candidates in turn in every round, medians. Ours counts the runtime's work too: the event over HTTP, the
answer, logs and metrics; the others are called in their own process with the event in memory, which is in their favour.

    cargo build --release -p postern-bench-kafka
    python3 benches/kafka/bench.py [--rounds 15] [--python /path/to/python-with-orjson]
"""

import argparse
import base64
import http.server
import json
import os
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
COLUMNS = "id,name,email,city,balance,since,note"
FIRST = ["Ana", "Zoë", "Jörg", "Noé", "Søren", "Łucja", "José", "Maria", "John", "Wei"]
LAST = ["Lima", "Krause", "Smith", "Nuñez", "Novak", "Silva", "Jones", "Rossi"]
CITIES = ["Lisboa", "Köln", "São Paulo", "Gent", "Kraków", "Leeds", "Porto", "Wien"]


def events(records: int) -> dict:
    """The same customers as JSON and as lines; one value in 25 has something to escape."""
    numbers = random.Random(42)
    shapes = {"json": {}, "lines": {}}
    for number in range(records):
        note = "regular customer since the beginning, prefers to be written to " * numbers.randint(1, 2)
        if numbers.random() < 0.04:
            note = numbers.choice(['says "call me"', "two lines\nof text", "a, b and c"])
        customer = [
            f"C-{number:07}",
            f"{numbers.choice(FIRST)} {numbers.choice(LAST)}",
            f"customer{number}@example.com",
            numbers.choice(CITIES),
            f"{numbers.randint(0, 9999)}.{numbers.randint(0, 99):02}",
            f"20{numbers.randint(5, 25):02}-{numbers.randint(1, 12):02}-{numbers.randint(1, 28):02}",
            note,
        ]
        members = zip(COLUMNS.split(","), customer)
        value = "{" + ",".join(
            f'"{name}":' + (text if name == "balance" else json.dumps(text, ensure_ascii=False)) for name, text in members
        ) + "}"
        fields = [text.replace("\n", " ") for text in customer]
        line = ",".join('"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text for text in fields)
        for shape, text in (("json", value), ("lines", line)):
            shapes[shape].setdefault(f"customer-{number % 3}", []).append({
                "topic": "customer", "partition": number % 3, "offset": number // 3,
                "timestamp": 1767225600000 + number, "timestampType": "CREATE_TIME",
                "key": base64.b64encode(customer[0].encode()).decode(),
                "value": base64.b64encode(text.encode()).decode(), "headers": [],
            })
    return {
        shape: json.dumps({"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:eu-west-1:1:cluster/c/1",
                           "bootstrapServers": "b-1:9098", "records": partitions}, separators=(",", ":")).encode()
        for shape, partitions in shapes.items()
    }


class Function:
    """The binary, behind a Runtime API of our own; its CPU time is read when it asks for the next event."""

    def __init__(self, binary: Path, environment: dict):
        self.todo, self.done = queue.Queue(), queue.Queue()
        function = self

        class Api(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                function.done.put(None)
                event = function.todo.get()
                self.send_response(200)
                for name, value in {"Lambda-Runtime-Aws-Request-Id": "1", "Lambda-Runtime-Deadline-Ms": "9999999999999",
                                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:x:1:function:f",
                                    "Content-Length": str(len(event))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0)) if "Content-Length" in self.headers else b""
                if self.path.endswith("/error"):
                    sys.exit(f"the function failed: {body[:200]!r}")
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{self.server.server_port}"
        self.process = subprocess.Popen(
            [binary], stdout=subprocess.DEVNULL,
            env={"AWS_LAMBDA_RUNTIME_API": address, "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1",
                 "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_LOG_GROUP_NAME": "g",
                 "AWS_LAMBDA_LOG_STREAM_NAME": "s", "S3_BUCKET_NAME": "bench", **environment})
        self.done.get(timeout=60)

    def cpu(self) -> int:
        tasks = Path(f"/proc/{self.process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir())

    def measure(self, event: bytes, repeats: int) -> int:
        start = self.cpu()
        for _ in range(repeats):
            self.todo.put(event)
            self.done.get(timeout=60)
        return (self.cpu() - start) // repeats

    def peak(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.server.shutdown()


class Baseline:
    def __init__(self, command: list):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, shape: str, path: Path, repeats: int, dump="-") -> int:
        self.process.stdin.write(f"{shape} {path} {repeats} {dump}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        return int(answer) if answer else sys.exit("a baseline ended")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def same_output(binary: Path, baseline: Baseline, shape: str, settings: dict, event: bytes, path: Path, folder: Path):
    """Ours writes what Python with the standard library writes, byte for byte."""
    ours, theirs = folder / f"ours-{path.name}", folder / f"theirs-{path.name}"
    ours.mkdir()
    theirs.mkdir()
    function = Function(binary, {**settings, "DUMP": str(ours)})
    function.measure(event, 1)
    function.stop()
    baseline.measure(shape, path, 1, theirs)
    for partition in range(3):
        written = next(ours.glob(f"customer_{partition}_*")).read_bytes()
        if written != (theirs / f"customer-{partition}").read_bytes():
            sys.exit(f"{path.name}: the outputs differ")


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--python", default=sys.executable, help="a Python; the orjson row needs one that has it")
    options.add_argument("--binary", type=Path, default=Path(os.environ.get("CARGO_TARGET_DIR", HERE / "../../target"))
                         / "release/postern-bench-kafka")
    options = options.parse_args()
    baselines = {
        "Python, standard library": Baseline([options.python, HERE / "baselines/stdlib.py"]),
        "Node": Baseline(["node", HERE / "baselines/node.mjs"]),
    }
    if subprocess.run([options.python, "-c", "import orjson"], capture_output=True).returncode == 0:
        baselines["Python, orjson"] = Baseline([options.python, HERE / "baselines/with_orjson.py"])
    else:
        print("no orjson here: its row is left out", file=sys.stderr)
    settings = {"json": {"RECORD_FORMAT": "json", "CSV_COLUMNS": COLUMNS}, "lines": {"RECORD_FORMAT": "lines"}}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print("| batch | candidate | CPU, median | event MB/s | against ours |\n|---|---|---|---|---|")
        for records in (100, 10_000):
            for shape, event in events(records).items():
                path = folder / f"{shape}-{records}.json"
                path.write_bytes(event)
                same_output(options.binary, baselines["Python, standard library"], shape, settings[shape], event, path, folder)
                ours = Function(options.binary, settings[shape])
                floor = Function(options.binary, {"FLOOR": "true"})
                repeats = max(1, 1_000 // records)
                times = {name: [] for name in ["msk-to-s3, in the runtime", "floor: runtime, base64, copy", *baselines]}
                for each in range(options.rounds + 2):
                    measured = [ours.measure(event, repeats), floor.measure(event, repeats),
                                *(baseline.measure(shape, path, repeats) for baseline in baselines.values())]
                    if each >= 2:  # the first two warm up
                        for name, time in zip(times, measured):
                            times[name].append(time)
                reference = statistics.median(times["msk-to-s3, in the runtime"])
                for name, list_of in sorted(times.items(), key=lambda item: statistics.median(item[1])):
                    median = statistics.median(list_of)
                    print(f"| {shape}, {records:,} | {name} | {median / 1e6:.3f} ms | {len(event) / median * 1e3:,.0f} "
                          f"| {median / reference:.2f}× |")
                if records == 10_000:
                    peaks.append(f"peak memory, {shape}: {ours.peak() / 1e6:.1f} MB for an event of {len(event) / 1e6:.2f} MB "
                                 f"(allowed: {3 * len(event) / 1e6 + 20:.1f} MB)")
                ours.stop()
                floor.stop()
    print("", *peaks, sep="\n")
    for baseline in baselines.values():
        baseline.stop()


peaks = []
if __name__ == "__main__":
    main()
