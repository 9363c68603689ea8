"""A Lambda function with one instance on this machine: its process, and the Runtime API that serves it events."""

import http.server
import os
import queue
import subprocess
import threading
from pathlib import Path


class Function:
    """A bootstrap behind a Runtime API of its own."""

    def __init__(self, command: list, environment: dict):
        self.events, self.polled = queue.Queue(), queue.Queue()
        function = self

        class Api(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self):
                function.polled.put(None)
                event = function.events.get()
                self.send_response(200)
                for name, value in {
                    "Lambda-Runtime-Aws-Request-Id": "1",
                    "Lambda-Runtime-Deadline-Ms": "9999999999999",
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:x:1:function:f",
                    "Content-Type": "application/json",
                    "Content-Length": str(len(event)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self):
                body = self.body()
                if not self.path.endswith("/response"):
                    function.polled.put(f"{command} failed: {body[:300]!r}")
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            env={
                "PATH": os.environ["PATH"],
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": "f",
                "AWS_LAMBDA_FUNCTION_VERSION": "1",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_LAMBDA_LOG_GROUP_NAME": "g",
                "AWS_LAMBDA_LOG_STREAM_NAME": "s",
                **environment,
            },
        )
        self.wait()
        self.spent = self.cpu()

    def wait(self):
        """Waits until the function polls for an event, which means that it has finished the previous one."""
        if failure := self.polled.get(timeout=120):
            raise RuntimeError(failure)

    def cpu(self) -> int:
        """The CPU time of all threads of the process so far, in nanoseconds."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def measure(self, event: bytes, repeats: int) -> int:
        """The CPU time of one invocation, including work since the last one, such as garbage collection."""
        for _ in range(repeats):
            self.events.put(event)
            self.wait()
        before, self.spent = self.spent, self.cpu()
        return (self.spent - before) // repeats

    def peak(self) -> int:
        """The peak memory of the process in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(
            int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")
        )

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.server.shutdown()
