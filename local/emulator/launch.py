"""Start ministack, a local stand-in for AWS, with patches where it differs from AWS too much.

    GATEWAY_PORT=4566 IOT_MTLS_PORT=8883 AUTH=true python launch.py

The modules of `patches/` change ministack 1.5.33 in memory only; README.md lists the patches.
They replace private functions of ministack, and therefore need exactly this version.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import shutil
import signal
import socket
import sys
import threading
from typing import NoReturn

MINISTACK_VERSION = "1.5.33"
LOOPBACK = "127.0.0.1"
STOP_SECONDS = 5.0  # after a signal: how long a tidy end may take


def fail(message: str) -> NoReturn:
    print(f"launch.py: {message}", file=sys.stderr)
    raise SystemExit(2)


def check_version() -> None:
    try:
        installed = importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError:
        fail("ministack is not installed: pip install --require-hashes -r requirements.txt")
    if installed != MINISTACK_VERSION:
        fail(
            f"the patches are for ministack {MINISTACK_VERSION}, but {installed} is installed: "
            "pip install --require-hashes -r requirements.txt"
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def set_environment() -> None:
    """Before ministack is imported: much of it reads the environment while it is imported."""
    for name, default in (("GATEWAY_PORT", "4566"), ("IOT_MTLS_PORT", "8883")):
        port = os.environ.setdefault(name, default)
        if port == "0":
            os.environ[name] = str(free_port())
    os.environ["BIND_HOST"] = LOOPBACK
    # Functions, and Step Functions' calls of other services, find this process by it.
    os.environ["AWS_ENDPOINT_URL"] = f"http://{LOOPBACK}:{os.environ['GATEWAY_PORT']}"
    # The root user's credentials. The emulator neither needs nor uses real credentials of this shell.
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "test"
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        os.environ.pop(name, None)
    os.environ.setdefault("MINISTACK_ACCOUNT_ID", "123456789012")
    os.environ.setdefault("SFTP_ENABLED", "0")
    # AWS's limit. ministack derives a lower limit from the memory, because it starts a process for
    # each invocation; patches/lambda_/processes.py bounds the processes instead.
    os.environ.setdefault("LAMBDA_ACCOUNT_CONCURRENCY", "1000")
    check_processes(os.environ.get("POSTERN_FUNCTION_PROCESSES", ""))


def check_processes(given: str) -> None:
    if given and not (given.isascii() and given.isdigit() and int(given) > 0):
        fail(f"POSTERN_FUNCTION_PROCESSES is {given!r}; it must be a whole number of at least 1")


def listen_on_loopback_only() -> None:
    """A laptop's emulator must not be reachable from its network.

    ministack: the gateway listens where BIND_HOST says, but the IoT mTLS listener and others
    (database proxies, SFTP) listen on every interface.
    """
    stock = asyncio.base_events.BaseEventLoop.create_server

    async def create_server(self, protocol_factory, host=None, port=None, **options):
        if options.get("sock") is None:
            host = LOOPBACK
        return await stock(self, protocol_factory, host, port, **options)

    asyncio.base_events.BaseEventLoop.create_server = create_server


def apply_patches() -> None:
    import patches
    from patches.patching import MissingPatchPoint

    try:
        listen_on_loopback_only()
        patches.apply()
    except MissingPatchPoint as missing:
        fail(str(missing))


def check_ports() -> None:
    """Exit with a message when a port is taken, instead of starting without a listener.

    ministack logs an error and goes on when the MQTT port is taken, so that a client waits in
    vain for the emulator to be ready.
    """
    for variable, use in (("GATEWAY_PORT", "HTTP"), ("IOT_MTLS_PORT", "MQTT")):
        port = int(os.environ[variable])
        with socket.socket() as probe:
            # As the servers do: a port in TIME_WAIT can be used.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                fail(
                    f"port {port} on {LOOPBACK}, for {use}, cannot be used: {error.strerror}. "
                    f"Stop the program that listens there, or choose another port: "
                    f"{variable}={port + 1}"
                )


def end_functions() -> None:
    """Leave no Lambda child process and no unpacked code behind."""
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    lambda_runtime._REAP_GRACE = 0.5
    lambda_runtime.reset()
    shutil.rmtree(lambda_svc._PROVIDED_CODE_CACHE, ignore_errors=True)


def end_process(code: int) -> None:
    # sys.exit would wait for worker threads, which wait for callbacks and functions.
    end_functions()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def serve() -> None:
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack.app import LOG_LEVEL, app

    config = Config()
    config.bind = [f"{LOOPBACK}:{os.environ['GATEWAY_PORT']}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = LOG_LEVEL
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        watchdog = threading.Timer(STOP_SECONDS, end_process, (0,))
        watchdog.daemon = True
        watchdog.start()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await hypercorn_serve(app, config, shutdown_trigger=stop.wait)
    end_process(0)


def main() -> None:
    check_version()
    set_environment()
    check_ports()
    apply_patches()

    gateway, mqtt = os.environ["GATEWAY_PORT"], os.environ["IOT_MTLS_PORT"]
    print(f"ministack with patches: HTTP on {LOOPBACK}:{gateway}, MQTT on :{mqtt}", flush=True)
    asyncio.run(serve())


if __name__ == "__main__":
    main()
