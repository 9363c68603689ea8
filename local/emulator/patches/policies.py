"""IAM policies, under AUTH=true: a document is parsed once.

ministack 1.5.33 parses all policies of the caller two times for each request.
"""

from __future__ import annotations

import functools
from typing import Any

import ministack.core.iam_evaluator as iam

from patches.patching import patch, stock

DOCUMENTS = 1_000  # how many are remembered
stock_parse = stock(iam, "parse_policy_document")
_remembered = functools.lru_cache(DOCUMENTS)(stock_parse)


@patch(iam, "parse_policy_document")
def parse_policy_document(document: str | dict[str, Any]) -> list[iam.ParsedStatement]:
    return list(_remembered(document)) if isinstance(document, str) else stock_parse(document)
