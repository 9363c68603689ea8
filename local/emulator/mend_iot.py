"""Mends of ministack's IoT Core: limits, and permissions of rule actions.

Pages named in the docstrings are of the AWS IoT Core Developer Guide.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import roles
from ministack.core.responses import error_response_json, request_scope
from ministack.services import iot, iot_data, lambda_svc
from patching import mend, require, stock

MAX_PAYLOAD = 131_072  # "AWS IoT Core endpoints and quotas": Maximum inbound payload
MAX_SLASHES = 7  # the same: "Maximum number of slashes in topic and topic filter"
MAX_TOPIC = 256  # the same: "Topic size", bytes
MAX_PACKET = 149_504  # what AWS IoT announces in its CONNACK: room for topic and properties
RECEIVE_MAXIMUM = 100  # "AWS IoT Core endpoints and quotas": inbound unacknowledged messages
PACKET_TOO_LARGE = 0x95  # MQTT 5.0, 3.14.2.1

require(
    iot,
    "MQTT_5",
    "PKT_PUBLISH",
    "PROP_MAXIMUM_PACKET_SIZE",
    "PROP_RECEIVE_MAXIMUM",
    "_BASIC_INGEST_PREFIX",
    "_broker_logger",
    "_decode_properties",
    "_make_disconnect",
    "_read_string",
    "_topic_rule_arn",
)
require(lambda_svc, "_execution_record_for_config", "_get_func_record_for_ref")
require(lambda_svc, "invoke_async_with_retry")


# ---- Policies ---------------------------------------------------------------------------------


_stock_policy_context = stock(iot, "_mqtt_policy_context")


stock(iot, "_POLICY_VARIABLE_RE")
iot._POLICY_VARIABLE_RE = re.compile(r"\$\{(iot:[A-Za-z0-9_.:\[\]-]+)\}")


@mend(iot, "_mqtt_policy_context")
def _mqtt_policy_context(account: str, region: str, certificate: str, client_id: str) -> dict:
    """A policy can name the attributes of the thing that connects.

    AWS: `${iot:Connection.Thing.Attributes[NAME]}`, where the certificate is attached to the
    thing ("Thing policy variables").
    ministack: knows the thing's name only.
    """
    context = _stock_policy_context(account, region, certificate, client_id)
    if context["iot:connection.thing.isattached"] == "true":
        with request_scope(account, region):
            attributes = iot._things[client_id].get("attributes") or {}
        for name, value in attributes.items():
            context[f"iot:connection.thing.attributes[{name.lower()}]"] = value
    return context


# ---- Limits -------------------------------------------------------------------------------------


def fits(topic: str) -> bool:
    """Whether a topic, or a topic filter, is within AWS's limits.

    AWS: at most 7 slashes, the three of `$aws/rules/NAME/` not counted ("Reducing messaging costs
    with Basic Ingest"), and 256 bytes.
    ministack: no limit of slashes; a filter may have any size.
    """
    counted = topic
    if topic.startswith(iot._BASIC_INGEST_PREFIX):
        counted = topic[len(iot._BASIC_INGEST_PREFIX) :].partition("/")[2]
    return counted.count("/") <= MAX_SLASHES and len(topic.encode()) <= MAX_TOPIC


_stock_validate_mqtt = stock(iot, "_validate_publish_topic")


@mend(iot, "_validate_publish_topic")
def _validate_publish_topic(topic: str) -> bool:
    return _stock_validate_mqtt(topic) and fits(topic)


_stock_filter_allowed = stock(iot, "_reserved_filter_subscribe_allowed")


@mend(iot, "_reserved_filter_subscribe_allowed")
def _reserved_filter_subscribe_allowed(topic_filter: str) -> bool:
    return _stock_filter_allowed(topic_filter) and fits(topic_filter)


_stock_validate_http = stock(iot_data, "_validate_topic")


@mend(iot_data, "_validate_topic")
def _validate_topic(topic: str) -> tuple | None:
    refused = _stock_validate_http(topic)
    if refused is None and not fits(topic):
        message = f"Topic exceeds the limit of {MAX_SLASHES} slashes"
        return error_response_json("InvalidRequestException", message, 400)
    return refused


_stock_publish_http = stock(iot_data, "_publish")


@mend(iot_data, "_publish")
async def _publish(topic: str, body: bytes, *rest: Any) -> tuple:
    """AWS: 413 for a payload over 128 KB (API reference "Publish"). ministack: unlimited."""
    if len(body or b"") > MAX_PAYLOAD:
        message = f"The payload exceeds the limit of {MAX_PAYLOAD} bytes"
        return error_response_json("RequestEntityTooLargeException", message, 413)
    return await _stock_publish_http(topic, body, *rest)


_stock_dispatch = stock(iot._WSSession, "_dispatch_packet")


@mend(iot._WSSession, "_dispatch_packet")
async def _dispatch_packet(self: Any, kind: int, flags: int, body: bytes) -> bool:
    """AWS: a PUBLISH with a payload over 128 KB ends the connection ("MQTT message payload").

    ministack: unlimited.
    """
    if kind == iot.PKT_PUBLISH and len(body) > MAX_PAYLOAD:
        _, offset = iot._read_string(body, 0)
        if (flags >> 1) & 3:
            offset += struct.calcsize("!H")
        if self.protocol_version == iot.MQTT_5:
            _, offset = iot._decode_properties(body, offset)
        if len(body) - offset > MAX_PAYLOAD:
            iot._broker_logger.warning("PUBLISH refused: payload over %d bytes", MAX_PAYLOAD)
            self._forced_disconnect_reason = "CLIENT_ERROR"
            if self.protocol_version == iot.MQTT_5:
                await self.send_bytes(iot._make_disconnect(PACKET_TOO_LARGE))
            return False
    return await _stock_dispatch(self, kind, flags, body)


_stock_connack_properties = stock(iot._WSSession, "_connack_properties")


@mend(iot._WSSession, "_connack_properties")
def _connack_properties(self: Any, assigned_client_id: str | None) -> list:
    """AWS announces its Receive Maximum, and a Maximum Packet Size that a payload of 128 KB fits
    in ("MQTT 5 supported features").

    ministack: 128 KB for the packet, thus less for the payload; no Receive Maximum.
    """
    properties = [
        (name, value)
        for name, value in _stock_connack_properties(self, assigned_client_id)
        if name != iot.PROP_MAXIMUM_PACKET_SIZE
    ]
    properties.append((iot.PROP_MAXIMUM_PACKET_SIZE, MAX_PACKET))
    properties.append((iot.PROP_RECEIVE_MAXIMUM, RECEIVE_MAXIMUM))
    return properties


# ---- Rule actions -------------------------------------------------------------------------------


class ActionRefused(Exception):
    """An action that AWS would not carry out: goes to the rule's error action."""


def action_needs(action: dict, here: str) -> tuple[str, str, str] | None:
    """(role's ARN, IAM action, resource's ARN) of an action that is done with a role."""
    if "sqs" in action:
        spec = action["sqs"]
        resource = roles.queue_arn(spec.get("queueUrl", ""))
        return spec.get("roleArn", ""), "sqs:SendMessage", resource
    if "sns" in action:
        spec = action["sns"]
        return spec.get("roleArn", ""), "sns:Publish", spec.get("targetArn", "")
    if "dynamoDBv2" in action:
        spec = action["dynamoDBv2"]
        table = (spec.get("putItem") or {}).get("tableName", "")
        resource = f"arn:aws:dynamodb:{here}:table/{table}"
        return spec.get("roleArn", ""), "dynamodb:PutItem", resource
    if "republish" in action:
        spec = action["republish"]
        resource = f"arn:aws:iot:{here}:topic/{spec.get('topic', '')}"
        return spec.get("roleArn", ""), "iot:Publish", resource
    return None


_stock_rule_action = stock(iot, "_dispatch_rule_action")


@mend(iot, "_dispatch_rule_action")
async def _dispatch_rule_action(
    account: str, region: str, rule_name: str, action: dict, event: Any
) -> None:
    """AWS: an action, the error action too, is done with its own role ("Granting an AWS IoT rule
    the access it requires"), or for Lambda by leave of the function's policy, for this rule and
    this account ("Lambda" rule action). What fails goes to the error action ("Error handling").
    The function is invoked asynchronously: its own errors are retried by Lambda and never reach
    the error action.

    ministack: does it whatever the role or the policy says; a function that is missing is only
    logged; one that fails is neither retried nor sent to its destination.
    """
    with request_scope(account, region):
        if (action.get("lambda") or {}).get("functionArn"):
            invoke_for_rule(action["lambda"]["functionArn"], rule_name, event)
            return
        need = action_needs(action, f"{region}:{account}")
        if need is not None:
            role, permission, resource = need
            why_not = roles.denial(role, "iot", rule_name, permission, resource)
            if why_not:
                raise ActionRefused(why_not)
    await _stock_rule_action(account, region, rule_name, action, event)


def invoke_for_rule(function_arn: str, rule_name: str, event: Any) -> None:
    function, config, _ = lambda_svc._get_func_record_for_ref(function_arn)
    if not function or not config:
        raise ActionRefused(f"Function not found: {function_arn}")
    rule_arn = iot._topic_rule_arn(rule_name)
    if not roles.function_permits(function_arn, "iot.amazonaws.com", rule_arn):
        raise ActionRefused(
            f"{rule_arn} is not authorized to perform: lambda:InvokeFunction on resource: "
            f"{function_arn} because no resource-based policy allows it"
        )
    record = lambda_svc._execution_record_for_config(function, config)
    lambda_svc.invoke_async_with_retry(record, event)
