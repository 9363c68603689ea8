"""The variables of a function, and the speed of an invocation."""

from __future__ import annotations

from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from patches.patching import patch, require, stock

require(lambda_svc, "_runtime_env_vars")

# The variables that a function inherits from the launcher: where programs, certificates and
# temporary files are.
INHERITED = {"PATH", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
# The variables that ministack sets, besides AWS_LAMBDA_*.
SET_BY_MINISTACK = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_DISABLE_HOST_PREFIX_INJECTION",
    "LAMBDA_TASK_ROOT",
    "_HANDLER",
}

_stock_worker_env = stock(lambda_svc, "_provided_worker_env")


@patch(lambda_svc, "_provided_worker_env")
def _provided_worker_env(config: dict, code_dir: str, port: int) -> dict:
    """The variables of a function: its own, and those of "Defined runtime environment variables".

    ministack adds the whole environment of the shell that started it, which hides a variable that
    the template forgets. It sets no variable for the function's LoggingConfig.
    """
    own = lambda_svc._runtime_env_vars(config)
    environment = {
        name: value
        for name, value in _stock_worker_env(config, code_dir, port).items()
        if name in own
        or name in INHERITED
        or name in SET_BY_MINISTACK
        or name.startswith("AWS_LAMBDA_")
    }
    logs = config.get("LoggingConfig") or {}
    group = logs.get("LogGroup") or f"/aws/lambda/{config['FunctionName']}"
    environment["AWS_LAMBDA_LOG_GROUP_NAME"] = group
    if logs.get("LogFormat") == "JSON":
        environment["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        environment["AWS_LAMBDA_LOG_LEVEL"] = logs.get("ApplicationLogLevel") or "INFO"
    return environment


_stock_build_handler = stock(lambda_runtime.ProvidedWorker, "_build_handler_class")


@patch(lambda_runtime.ProvidedWorker, "_build_handler_class")
def _build_handler_class(self: Any, *args: Any) -> type:
    """Send an event without a delay.

    ministack writes the head and the body of an event separately. With Nagle's algorithm, a runtime
    that keeps its connection open, as Rust's does, gets the body 40 ms later.
    """
    handler = _stock_build_handler(self, *args)
    handler.disable_nagle_algorithm = True
    return handler


_stock_drain = stock(lambda_runtime.ProvidedWorker, "_drain_stderr_bounded")


@patch(lambda_runtime.ProvidedWorker, "_drain_stderr_bounded")
def _drain_stderr_bounded(self: Any, first_line_wait: float = 0.01, **options: Any) -> str:
    """Wait 10 ms for log lines after an invocation, where ministack waits 50 ms.

    A later line is in the log of the next invocation.
    """
    return _stock_drain(self, first_line_wait, **options)
