"""The caller's ARN in conditions, under AUTH=true.

`aws:PrincipalArn` of a session of a role is the ARN of the role, not that of the session ("AWS global
condition context keys", IAM User Guide). ministack 1.5.33 compares the ARN of the session, which no
policy can name beforehand. The ARN that this patch makes has no path.
"""

from __future__ import annotations

from typing import Any

import ministack.core.iam_evaluator as iam

from patches.patching import patch, stock

ASSUMED = ":assumed-role/"
stock_resolve = stock(iam, "_resolve_condition_key")


@patch(iam, "_resolve_condition_key")
def _resolve_condition_key(key: str, ctx: Any) -> Any:
    value = stock_resolve(key, ctx)
    if key.lower() != "aws:principalarn" or ASSUMED not in str(value):
        return value
    role = value.split(ASSUMED)[1].split("/")[0]
    return f"arn:aws:iam::{ctx.principal_account}:role/{role}"
