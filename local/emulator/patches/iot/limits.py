"""Limits of payloads and topics, and the limits that CONNACK announces."""

from __future__ import annotations

import struct
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import iot, iot_data

from patches.patching import patch, require, stock

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
)


def fits(topic: str) -> bool:
    """Whether a topic or a topic filter is within AWS's limits.

    AWS: at most 256 bytes and 7 slashes. The three slashes of `$aws/rules/NAME/` do not count
    ("Reducing messaging costs with Basic Ingest").
    ministack: limits neither the slashes nor the size of a filter.
    """
    counted = topic
    if topic.startswith(iot._BASIC_INGEST_PREFIX):
        counted = topic[len(iot._BASIC_INGEST_PREFIX) :].partition("/")[2]
    return counted.count("/") <= MAX_SLASHES and len(topic.encode()) <= MAX_TOPIC


_stock_validate_mqtt = stock(iot, "_validate_publish_topic")


@patch(iot, "_validate_publish_topic")
def _validate_publish_topic(topic: str) -> bool:
    return _stock_validate_mqtt(topic) and fits(topic)


_stock_filter_allowed = stock(iot, "_reserved_filter_subscribe_allowed")


@patch(iot, "_reserved_filter_subscribe_allowed")
def _reserved_filter_subscribe_allowed(topic_filter: str) -> bool:
    return _stock_filter_allowed(topic_filter) and fits(topic_filter)


_stock_validate_http = stock(iot_data, "_validate_topic")


@patch(iot_data, "_validate_topic")
def _validate_topic(topic: str) -> tuple | None:
    refused = _stock_validate_http(topic)
    if refused is None and not fits(topic):
        message = f"Topic exceeds the limit of {MAX_SLASHES} slashes"
        return error_response_json("InvalidRequestException", message, 400)
    return refused


_stock_publish_http = stock(iot_data, "_publish")


@patch(iot_data, "_publish")
async def _publish(topic: str, body: bytes, *rest: Any) -> tuple:
    """HTTP 413 for a payload over 128 KB (API reference "Publish"). ministack has no limit."""
    if len(body or b"") > MAX_PAYLOAD:
        message = f"The payload exceeds the limit of {MAX_PAYLOAD} bytes"
        return error_response_json("RequestEntityTooLargeException", message, 413)
    return await _stock_publish_http(topic, body, *rest)


_stock_dispatch = stock(iot._WSSession, "_dispatch_packet")


@patch(iot._WSSession, "_dispatch_packet")
async def _dispatch_packet(self: Any, kind: int, flags: int, body: bytes) -> bool:
    """A PUBLISH with a payload over 128 KB ends the connection ("MQTT message payload").

    ministack has no limit.
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


@patch(iot._WSSession, "_connack_properties")
def _connack_properties(self: Any, assigned_client_id: str | None) -> list:
    """Announce the limits of packets and of unacknowledged messages.

    AWS: the Maximum Packet Size has room for a payload of 128 KB, and there is a Receive Maximum
    ("MQTT 5 supported features").
    ministack: limits the packet to 128 KB, so the payload to less, and has no Receive Maximum.
    """
    properties = [
        (name, value)
        for name, value in _stock_connack_properties(self, assigned_client_id)
        if name != iot.PROP_MAXIMUM_PACKET_SIZE
    ]
    properties.append((iot.PROP_MAXIMUM_PACKET_SIZE, MAX_PACKET))
    properties.append((iot.PROP_RECEIVE_MAXIMUM, RECEIVE_MAXIMUM))
    return properties
