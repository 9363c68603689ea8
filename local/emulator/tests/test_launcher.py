"""The process: start, refusals, addresses, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.harness import (
    FOLDER,
    StepFunctions,
    aws,
    callback,
    inbox,
    invoke,
    launcher,
    one,
    unique,
)


def setUpModule() -> None:
    launcher.start()


def listening(pid: int) -> set[str]:
    """The addresses, `host:port`, on which a process listens for TCP."""
    if not Path("/proc/net/tcp").exists():
        options = ["-nP", "-a", "-p", str(pid), "-iTCP", "-sTCP:LISTEN", "-Fn"]
        listed = subprocess.run(["lsof", *options], capture_output=True, text=True, check=True)
        return {line[1:] for line in listed.stdout.splitlines() if line.startswith("n")}
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:  # 0A: LISTEN
                host, port = fields[1].split(":")
                found.add(f"{socket.inet_ntop(family, address(host))}:{int(port, 16)}")
    return found


def address(words: str) -> bytes:
    """Convert an address from /proc, where it is in words of the machine's byte order."""
    raw = bytes.fromhex(words)
    if sys.byteorder == "big":
        return raw
    return b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class LauncherItself(StepFunctions):
    def setUp(self) -> None:
        if launcher.process.poll() is not None:  # a test has stopped it
            launcher.stop()
            launcher.start()
            self.setUpClass()

    def test_listens_on_loopback_only(self) -> None:
        aws("lambda").invoke(FunctionName="worker", Payload="{}")  # opens a Runtime API port
        found = listening(launcher.process.pid)
        self.assertIn(f"127.0.0.1:{launcher.port}", found)
        self.assertIn(f"127.0.0.1:{launcher.mqtt_port}", found)
        self.assertGreaterEqual(len(found), 3)
        self.assertEqual({place.rsplit(":", 1)[0] for place in found}, {"127.0.0.1"})

    def test_stops_at_once_and_wholly(self) -> None:
        keys = [unique() for _ in range(3)]
        branches = [one(callback(keys[0])), one({"Type": "Wait", "Seconds": 60})]
        self.start(one({"Type": "Parallel", "Branches": branches}))
        for key in keys[1:]:
            self.start(one(invoke({"key": key, "do": "hang"}, TimeoutSeconds=60)))
        pids = {inbox.wait(key)[0]["pid"] for key in keys}

        self.assertGreaterEqual(len(pids), 2)  # the process of the callback may be reused

        began = time.monotonic()
        launcher.process.send_signal(signal.SIGTERM)
        self.assertEqual(launcher.process.wait(20), 0)
        self.assertLess(time.monotonic() - began, 8.0)
        self.assertEqual([pid for pid in pids if alive(pid)], [])
        self.assertEqual([p.name for p in Path(launcher.folder).iterdir()], ["log"])

    def launch(self, program: str = "", **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", f"import launch\n{program}\nlaunch.main()"],
            check=False,
            cwd=FOLDER,
            env={**os.environ, "GATEWAY_PORT": "0", "IOT_MTLS_PORT": "0", **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_refuses_another_version(self) -> None:
        found = self.launch(
            "import importlib.metadata\nimportlib.metadata.version = lambda name: '9.9.9'"
        )
        self.assertEqual(found.returncode, 2)
        self.assertIn("9.9.9 is installed", found.stderr)

    def test_names_a_missing_patch_point(self) -> None:
        found = self.launch(
            "launch.set_environment()\n"
            "import ministack.services.iot as iot\n"
            "del iot._dispatch_rule_action"
        )
        self.assertEqual(found.returncode, 2)
        self.assertIn("iot._dispatch_rule_action is not in this ministack", found.stderr)

    def test_names_the_port_in_use_and_the_variable_that_changes_it(self) -> None:
        for variable, port in (
            ("GATEWAY_PORT", launcher.port),
            ("IOT_MTLS_PORT", launcher.mqtt_port),
        ):
            with self.subTest(variable):
                found = self.launch(**{variable: str(port)})
                self.assertEqual(found.returncode, 2)
                self.assertIn(f"port {port} on 127.0.0.1", found.stderr)
                self.assertIn("Address already in use", found.stderr)
                self.assertIn(f"{variable}={port + 1}", found.stderr)

    def test_refuses_an_impossible_number_of_processes(self) -> None:
        for given in ("0", "-1", "many"):
            with self.subTest(given):
                found = self.launch(POSTERN_FUNCTION_PROCESSES=given)
                self.assertEqual(found.returncode, 2)
                self.assertIn(f"POSTERN_FUNCTION_PROCESSES is '{given}'", found.stderr)
