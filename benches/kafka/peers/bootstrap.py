"""A Lambda runtime for Python: polls for an event, parses it, calls the handler, and responds. It does what AWS's runtime
interface client does, without logs and metrics.

    python bootstrap.py MODULE.HANDLER
"""

import http.client
import importlib
import json
import os
import sys


def main():
    module, name = sys.argv[1].split(".")
    handler = getattr(importlib.import_module(module), name)
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", "/2018-06-01/runtime/invocation/next")
        answer = api.getresponse()
        request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        event = json.loads(answer.read())
        body = json.dumps(handler(event)).encode()
        api.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", body)
        api.getresponse().read()


main()
