"""The emulated AWS that the deployment is tested in, and the identities that use it."""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.request

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
REGION = "us-east-1"
TIMEOUT = 120


class Emulator:
    """The emulator of local/emulator, with IAM enforced. It ends with the `with` block."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.http, self.mqtt = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self.http}"
        self.root = self.session("test", "test")

    def __enter__(self) -> "Emulator":
        variables = {
            "AUTH": "true",
            "GATEWAY_PORT": str(self.http),
            "IOT_MTLS_PORT": str(self.mqtt),
            # Seconds between the attempts of an asynchronous invocation, where Lambda has minutes.
            "POSTERN_ASYNC_RETRY_SECONDS": "1,1",
        }
        self.log = (self.folder / "emulator.log").open("w")
        self.process = subprocess.Popen(
            [ROOT / ".postern/venv/bin/python", "-B", ROOT / "local/emulator/launch.py"],
            env={**os.environ, **variables},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        until(self.is_ready, "the emulator")
        (self.folder / "ca.pem").write_bytes(self.get("/_ministack/iot/ca.pem"))
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"the emulator has ended: {self.folder / 'emulator.log'}")
        try:
            return b'"iot_mtls": "listening"' in self.get("/_ministack/ready")
        except OSError:
            return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.endpoint + path) as answer:
            return answer.read()

    def session(self, key: str, secret: str) -> "Identity":
        return Identity(self.endpoint, key, secret)

    def user(self, name: str, policies: list[dict]) -> "Identity":
        """A new user with these policy documents."""
        iam = self.root.client("iam")
        iam.create_user(UserName=name)
        for number, policy in enumerate(policies):
            document = json.dumps(policy)
            arn = iam.create_policy(PolicyName=f"{name}-{number}", PolicyDocument=document)[
                "Policy"
            ]["Arn"]
            iam.attach_user_policy(UserName=name, PolicyArn=arn)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return self.session(key["AccessKeyId"], key["SecretAccessKey"])


class Identity:
    """Credentials for the emulator."""

    def __init__(self, endpoint: str, key: str, secret: str) -> None:
        self.variables = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
        }
        self.made = boto3.Session(key, secret, region_name=REGION)

    def client(self, service: str) -> object:
        return self.made.client(service, endpoint_url=self.variables["AWS_ENDPOINT_URL"])

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess:
        """Runs a command with these credentials."""
        foreign = ("AWS_", "SAM_")
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(foreign)
        }
        return subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env={**inherited, "SAM_CLI_TELEMETRY": "0", **self.variables, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


def until(condition: object, what: str) -> object:
    """Waits until the condition returns a true value, and returns the value."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise SystemExit(f"waited {TIMEOUT} s for {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
