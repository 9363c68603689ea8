"""The patches of ministack, one module a service. `apply` puts all of them in place.

A module patches ministack when it is imported; `patching.py` holds the functions for it, and
`roles.py` answers whether a role may do something. README.md lists the patches.
"""

from __future__ import annotations

import importlib


def apply() -> None:
    """Apply the patches of all services. Raises `patching.MissingPatchPoint`."""
    for service in (
        "cloudformation",
        "deployers",
        "dynamodb",
        "iot",
        "lambda_",
        "policies",
        "principals",
        "s3",
        "stepfunctions",
    ):
        importlib.import_module(f"{__name__}.{service}")
