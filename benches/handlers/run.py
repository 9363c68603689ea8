"""Measures every case with the worker's handlers and with Python, interleaved, and prints the medians as a table.

    python3 benches/handlers/run.py RUST_BINARY [ROUNDS]

The Python that runs this file has the packages of requirements.txt. PostgreSQL is that of the tests, with its data in a
temporary folder.
"""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg

HERE = pathlib.Path(__file__).parent
NOBODY = 65_534  # PostgreSQL refuses to run as root
CONNECTIONS = 4
TABLE = """
create table orders (id integer primary key, day date, total numeric(12, 2), customer text,
    changed timestamptz, note text);
insert into orders select n, date '2026-01-01' + n % 365, n * 1.25, 'customer ' || n % 100,
    timestamptz '2026-11-01 12:00:00Z' + n * interval '1 second', 'rush order, "fragile"'
    from generate_series(1, 200000) n;
analyze orders;
"""
ONE = "select id, day, total, customer, changed, note from orders where id = :id"
MANY = "select id, day, total, customer, changed, note from orders where id > :id order by id limit 500"
ALL = "select id, day, total, customer, changed, note from orders where id > :id limit 100000"


def cases(database, service):
    """Name, section, input, and how many jobs are measured."""
    sql = {"type": "sql", "url": database}
    http = {"type": "http", "base_url": service}
    number = {"id": "NUMBER"}
    return [
        ("sql, 1 row", {**sql, "statement": ONE}, number, 8_000),
        ("sql, 500 rows", {**sql, "statement": MANY}, number, 1_000),
        ("sql, 100,000 rows to CSV", {**sql, "statement": ALL, "format": "csv"}, number, 8),
        ("http, 200 bytes", http, {"path": "orders/NUMBER"}, 8_000),
        ("http, 100 KB", http, {"path": "large"}, 1_000),
    ]


def program(name):
    folders = [
        *pathlib.Path("/usr/lib/postgresql").glob("*/bin"),
        *map(pathlib.Path, os.get_exec_path()),
    ]
    found = next((folder / name for folder in folders if (folder / name).exists()), None)
    return str(found or sys.exit(f"{name} is not installed: run `make postgresql`"))


@contextlib.contextmanager
def postgres(folder):
    """A server of its own; gives the URL of its database."""
    user = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
    if user:
        os.chown(folder, NOBODY, NOBODY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = f"{folder}/data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **user}
    init = [program("initdb"), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run([*init, "-D", data], check=True, **quiet)
    listen = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
    server = subprocess.Popen([program("postgres"), "-D", data, *listen], **quiet)
    try:
        url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        fill(url)
        yield url
    finally:
        server.kill()
        server.wait()


def fill(url):
    end = time.monotonic() + 60
    while True:
        try:
            with psycopg.connect(url) as connection:
                connection.execute(TABLE)
            return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def service(rust):
    """The service that both sides call; gives its URL."""
    process = subprocess.Popen([rust, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
    finally:
        process.kill()
        process.wait()


def measure(command, folder, section, given, jobs):
    warm_up = max(CONNECTIONS, jobs // 10)
    case = {"section": section, "input": given, "jobs": jobs, "warm_up": warm_up}
    file = folder / "case.json"
    file.write_text(json.dumps({**case, "connections": CONNECTIONS}))
    results = folder / "results"
    results.mkdir()
    env = {**os.environ, "TMPDIR": str(results)}
    done = subprocess.run(
        [*command, str(file)], check=True, capture_output=True, text=True, env=env
    )
    shutil.rmtree(results)
    measured = json.loads(done.stdout)
    return jobs / measured["seconds"], measured["cpu"] / jobs * 1e6


def main():
    rust = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    peers = {"worker": [rust], "python": [sys.executable, str(HERE / "peers/handlers.py")]}
    measured = {}
    with (
        tempfile.TemporaryDirectory() as data,
        tempfile.TemporaryDirectory() as folder,
        postgres(data) as database,
        service(rust) as url,
    ):
        for _ in range(rounds):
            for name, section, given, jobs in cases(database, url):
                for peer, command in peers.items():
                    result = measure(command, pathlib.Path(folder), section, given, jobs)
                    measured.setdefault((peer, name), []).append(result)
    report(measured, rounds)


def short(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def report(measured, rounds):
    print(f"Median of {rounds} rounds, {CONNECTIONS} connections")
    print(
        "| | worker, jobs a second | Python, jobs a second | ratio | worker, CPU a job | Python, CPU a job | ratio |"
    )
    print("| --- |" + " ---: |" * 6)
    for name in dict.fromkeys(name for _, name in measured):
        (ours, our_cpu), (others, other_cpu) = (
            [statistics.median(values) for values in zip(*measured[peer, name], strict=True)]
            for peer in ("worker", "python")
        )
        throughput = f"{short(ours)} | {short(others)} | {ours / others:.1f}x"
        print(
            f"| {name} | {throughput} | {our_cpu:,.0f} µs | {other_cpu:,.0f} µs | {other_cpu / our_cpu:.1f}x |"
        )


main()
