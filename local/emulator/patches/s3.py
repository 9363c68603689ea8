"""S3: the expiration of objects by a bucket's lifecycle configuration.

S3 deletes an object at the first midnight (UTC) after its age has reached the `Days` of a rule
("Setting lifecycle configuration on a bucket", Amazon S3 User Guide). ministack 1.5.33 stores the
rules and applies none of them, and CloudFormation's LifecycleConfiguration is lost.

Nobody can wait for days, so that S3 has a clock here which a test moves:

    POST /_ministack/s3/lifecycle?days=8

moves the clock ahead by eight days, deletes what has expired then, and answers with the clock's
time and the deleted objects. Only the times of objects follow this clock, not signatures. A rule
applies to the current versions of objects by `Prefix` and `Days`; rules with other filters, dates,
transitions and earlier versions are left alone. The notifications of the deletion are those of
DeleteObject.
"""

from __future__ import annotations

import datetime
import json
from typing import Any
from xml.etree import ElementTree

import ministack.app as app
from ministack.services import s3
from ministack.services.cloudformation import provisioners

from patches.patching import patch, require, stock

require(s3, "_buckets", "_bucket_lifecycle", "_delete_object")

PATH = "/_ministack/s3/lifecycle"
DAY = datetime.timedelta(days=1)

_ahead = datetime.timedelta()
_stock_pre_body = stock(app, "_handle_pre_body_request")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + _ahead


@patch(s3, "now_iso")
def now_iso() -> str:
    return _now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@patch(app, "_handle_pre_body_request")
async def _handle_pre_body_request(
    method: str, path: str, headers: dict, query_params: dict, request_id: str
) -> tuple | None:
    if (method, path) == ("POST", PATH):
        return _lifecycle(query_params)
    return await _stock_pre_body(method, path, headers, query_params, request_id)


def _lifecycle(query_params: dict) -> tuple:
    global _ahead
    given = (query_params.get("days") or ["0"])[0]
    if not (given.isascii() and given.isdigit()):
        reason = f"days is {given!r}; it must be a whole number of at least 0"
        return _answer(400, {"message": reason})

    _ahead += int(given) * DAY
    expired = [
        {"Bucket": bucket, "Key": key}
        for bucket, rules in list(s3._bucket_lifecycle.items())
        for key in _expired(bucket, rules)
    ]
    for place in expired:
        s3._delete_object(place["Bucket"], place["Key"])
    return _answer(200, {"Now": now_iso(), "Expired": expired})


def _answer(status: int, content: dict) -> tuple:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _expired(bucket: str, rules: Any) -> list[str]:
    """The keys of a bucket that a rule lets expire by now."""
    if bucket not in s3._buckets or not isinstance(rules, list):
        return []
    limits = [
        ((rule.get("Filter") or {}).get("Prefix", ""), rule["Expiration"]["Days"])
        for rule in rules
        if rule["Status"] == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and set(rule.get("Filter") or {}) <= {"Prefix"}
    ]
    objects = s3._buckets[bucket]["objects"].items()
    return [
        key
        for key, found in objects
        if any(key.startswith(prefix) and _is_over(found, days) for prefix, days in limits)
    ]


def _is_over(found: dict, days: int) -> bool:
    made = datetime.datetime.fromisoformat(found["last_modified"])
    end = made + days * DAY
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return _now() >= (midnight if midnight == end else midnight + DAY)


def _lifecycle_xml(configuration: dict) -> bytes:
    """The template's configuration ("AWS::S3::Bucket LifecycleConfiguration") as S3's API takes it."""
    root = ElementTree.Element("LifecycleConfiguration")
    for given in configuration.get("Rules", []):
        rule = ElementTree.SubElement(root, "Rule")
        _texts(rule, {"ID": given.get("Id"), "Status": given.get("Status")})
        _texts(ElementTree.SubElement(rule, "Filter"), {"Prefix": given.get("Prefix", "")})
        if "ExpirationInDays" in given:
            expiration = ElementTree.SubElement(rule, "Expiration")
            _texts(expiration, {"Days": given["ExpirationInDays"]})
        uploads = given.get("AbortIncompleteMultipartUpload")
        if uploads:
            abort = ElementTree.SubElement(rule, "AbortIncompleteMultipartUpload")
            _texts(abort, {"DaysAfterInitiation": uploads["DaysAfterInitiation"]})
    return ElementTree.tostring(root)


def _texts(parent: ElementTree.Element, members: dict) -> None:
    for tag, value in members.items():
        if value is not None:
            ElementTree.SubElement(parent, tag).text = str(value)


provisioners._S3_BUCKET_CONFIGURATIONS = (
    *stock(provisioners, "_S3_BUCKET_CONFIGURATIONS"),
    (
        "LifecycleConfiguration",
        _lifecycle_xml,
        stock(s3, "_put_bucket_lifecycle"),
        stock(s3, "_delete_bucket_lifecycle"),
    ),
)
