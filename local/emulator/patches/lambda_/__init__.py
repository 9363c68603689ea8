"""Patches of ministack's Lambda, put in place when this package is imported.

Pages named in the docstrings are of the AWS Lambda Developer Guide. Each module imports only from
those before it in this list:

processes     the bound on a function's processes, and the queue before it
payloads      the limits of requests and responses
environment   the variables of a function, and the speed of an invocation
asynchronous  retries, invocation records, destinations, the dead-letter queue
sources       the permissions of EventBridge and S3
"""

from patches.lambda_ import asynchronous, environment, payloads, processes, sources  # noqa: F401
