"""Compares cold starts with Python and Node. Each candidate is started behind a Runtime API and gets one event. Functions that
call AWS make one call, over TLS, to a stub on this machine. Then the function gets more events, for the time of a warm
invocation. In each round, all candidates take their turn; the figures are medians. docs/small-and-fast.md explains the result.

    python3 -m benches.coldstart.run --release target/release --node-modules FOLDER [--rounds 15]
"""

import argparse
import http.server
import json
import os
import ssl
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import trustme

from benches.kafka.function import Function

HERE = Path(__file__).resolve().parent
EVENTS = HERE.parent.parent / "events"
OURS, PYTHON, NODE = "Rust", "Python", "Node"
# The event of each function, and whether it makes a call to AWS.
FUNCTIONS = {
    "dispatcher": ("sample", True),
    "task-token-done": ("sample-success", True),
    "msk-to-s3": ("msk", True),
    "approval": ("ask", True),
    "grip-echo": ("rest-api-text", False),
    "step-counter": ("dojo", False),
}
WARM_INVOCATIONS = 20
# What a function that calls AWS must save at its cold start, in CPU time.
LEAST = {PYTHON: 60, NODE: 35}


class Aws(http.server.BaseHTTPRequestHandler):
    """A stub of the calls that the functions make: all of them succeed."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        secret = {"Name": "approval", "SecretString": "a-secret-of-the-bench-0123456789abcdef"}
        body = b"" if self.command == "PUT" else json.dumps(secret).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef"')
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


def serve_aws(folder: Path) -> dict:
    """Starts the stub of AWS, and returns the environment with which a function calls it.

    The certificate is trusted in addition to the system's: reading those is part of every cold start."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Aws)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    own, all_of_them = folder / "own.pem", folder / "all.pem"
    own.write_bytes(authority.cert_pem.bytes())
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    all_of_them.write_bytes(own.read_bytes() + (system.read_bytes() if system.exists() else b""))
    return {
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{server.server_port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_SESSION_TOKEN": "bench",
        "SSL_CERT_FILE": str(all_of_them),
        "AWS_CA_BUNDLE": str(all_of_them),
        "NODE_EXTRA_CA_CERTS": str(own),
        "S3_BUCKET_NAME": "bench",
        "RECORD_FORMAT": "lines",
        "APPROVAL_KEY_SECRET": "approval",
        "GRIP_URL": "http://127.0.0.1:5561",
    }


def candidates(name: str, options) -> dict:
    """The command of each candidate for a function, and what it adds to the environment."""
    module = name.replace("-", "_")
    return {
        OURS: ([options.release / name], {}),
        PYTHON: (
            [sys.executable, "-m", "awslambdaric", f"{module}.handler"],
            {"PYTHONPATH": str(HERE / "peers"), "PYTHONDONTWRITEBYTECODE": "1"},
        ),
        NODE: (
            ["node", HERE / "peers/bootstrap.js", module],
            {"NODE_PATH": str(options.node_modules), "NODE_NO_WARNINGS": "1"},
        ),
    }


def measure(command: list, environment: dict, event: bytes) -> dict:
    """One cold start and some warm invocations, in nanoseconds, and the peak memory in bytes."""
    started = time.perf_counter_ns()
    function = Function(command, environment)
    first = function.spent + function.measure(event, 1)
    wall = time.perf_counter_ns() - started
    warm = function.measure(event, WARM_INVOCATIONS)
    memory = function.peak()
    function.stop()
    return {"cpu": first, "wall": wall, "warm": warm, "memory": memory}


def compare(name: str, options, aws: dict) -> list:
    """Measures a function beside its peers. Prints its rows, and returns what falls short."""
    kind, calls = FUNCTIONS[name]
    event = (EVENTS / name / f"{kind}.json").read_bytes()
    contest = candidates(name, options)
    samples = {candidate: [] for candidate in contest}
    for number in range(1 + options.rounds):
        for candidate, (command, environment) in contest.items():
            sample = measure(command, {**aws, **environment}, event)
            # In the first round, files come from the disk.
            if number:
                samples[candidate].append(sample)

    medians = {
        candidate: {key: statistics.median(one[key] for one in taken) for key in taken[0]}
        for candidate, taken in samples.items()
    }
    for candidate, median in medians.items():
        ratio = median["cpu"] / medians[OURS]["cpu"]
        size = (
            f"{(options.release / name).stat().st_size / 1e6:.2f} MB" if candidate == OURS else ""
        )
        print(
            f"| {name} | {candidate} | {median['cpu'] / 1e6:.1f} ms | {ratio:.0f}× | {median['wall'] / 1e6:.1f} ms "
            f"| {median['warm'] / 1e6:.2f} ms | {median['memory'] / 2**20:.1f} MiB | {size} |",
            flush=True,
        )
    return [
        f"{name}: {candidate} needs {medians[candidate]['cpu'] / medians[OURS]['cpu']:.0f} times the CPU time, "
        f"and {least} are promised"
        for candidate, least in LEAST.items()
        if calls and medians[candidate]["cpu"] < least * medians[OURS]["cpu"]
    ]


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--release", type=Path, required=True, help="folder of the functions")
    options.add_argument("--node-modules", type=Path, required=True)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("functions", nargs="*", help="all, unless named")
    options = options.parse_args()

    print(
        "| function | candidate | CPU, first response | against Rust | wall, first response | CPU, warm | peak memory | size |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        aws = serve_aws(Path(folder))
        short = [
            line for name in options.functions or FUNCTIONS for line in compare(name, options, aws)
        ]
    if short:
        sys.exit("\n".join(short))


if __name__ == "__main__":
    main()
