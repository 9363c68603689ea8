"""Subscriptions: one for each client and filter, and shared subscriptions.

A shared subscription, `$share/GROUP/FILTER`, gives each message that matches FILTER to one member
of the group. ministack accepts the filter and never delivers to it.

The broker runs on one event loop, so code between two `await`s needs no lock.
"""

from __future__ import annotations

import contextvars
import random
import time
from dataclasses import dataclass
from typing import Any

from ministack.services import iot

from patches.patching import patch, require, stock

SHARE_PREFIX = "$share/"

require(
    iot,
    "PKT_CONNECT",
    "PKT_SUBSCRIBE",
    "_BASIC_INGEST_PREFIX",
    "_MAX_QUEUED_MESSAGES",
    "_aged_properties",
    "_broker_logger",
    "_delivery_properties",
    "_delivery_retain",
    "_is_session_expired",
    "_persistent_sessions",
    "_scoped_topic",
    "_subscription_matches",
    "_subscriptions",
)


def share_parts(topic_filter: str) -> tuple[str, str] | None:
    """The group and the plain filter of a shared subscription; None for any other filter."""
    if not topic_filter.startswith(SHARE_PREFIX):
        return None
    group, _, plain = topic_filter.removeprefix(SHARE_PREFIX).partition("/")
    return group, plain


_stock_filter_allowed = stock(iot, "_reserved_filter_subscribe_allowed")


@patch(iot, "_reserved_filter_subscribe_allowed")
def _reserved_filter_subscribe_allowed(topic_filter: str) -> bool:
    """MQTT 5.0, 4.8.2: both the group and the filter must be present, and the group's name has no
    wildcard. ministack: accepts `$share/group`.
    """
    parts = share_parts(topic_filter)
    if parts is not None:
        group, plain = parts
        if not group or not plain or "+" in group or "#" in group:
            return False
    return _stock_filter_allowed(topic_filter)


# ---- One subscription for one client and filter -------------------------------------------------

_stock_subscribe = stock(iot, "broker_subscribe")


@patch(iot, "broker_subscribe")
async def broker_subscribe(
    account: str, region: str, topic_filter: str, callback: Any, *args: Any, **options: Any
) -> str:
    """A new subscription replaces the one that the session has for the same filter.

    AWS and MQTT (5.0, 3.8.4): a session has one subscription for a filter. A resumed subscription
    and a SUBSCRIBE to the same filter are one, and a message arrives once.
    ministack: adds a subscription each time, saves all of them with the session, and delivers a
    copy of the message for each.
    """
    session = getattr(callback, "__self__", None)
    replaced = isinstance(session, iot._WSSession) and forget_subscription(session, topic_filter)

    # Retain Handling 1 asks whether the subscription existed; ministack looks among those that
    # are left, and would not find the replaced one.
    if replaced and options.get("retain_handling") == iot.RETAIN_HANDLING_SEND_IF_NEW:
        options["retain_handling"] = iot.RETAIN_HANDLING_SEND_NEVER
    return await _stock_subscribe(account, region, topic_filter, callback, *args, **options)


def forget_subscription(session: Any, topic_filter: str) -> bool:
    """Remove the session's subscriptions to the filter. True when it had one."""
    ids = {key for key, stored in session._sub_filters.items() if stored == topic_filter}
    leave_broker(session, ids)
    for subscription in ids:
        session._sub_ids.remove(subscription)
        session._sub_filters.pop(subscription)
        session._sub_granted_qos.pop(subscription, None)
    return bool(ids)


def leave_broker(session: Any, ids: set[str]) -> None:
    """Remove subscriptions from the broker; the session still knows their filters."""
    for subscription in ids:
        scoped = iot._scoped_topic(
            session.account_id, session.region, session._sub_filters[subscription]
        )
        members = iot._subscriptions.get(scoped, set())
        members -= {m for m in members if m.subscription_id == subscription}
        if not members:
            iot._subscriptions.pop(scoped, None)


# ---- Shared subscriptions -----------------------------------------------------------------------


@dataclass(frozen=True)
class SharedMessage:
    """A message on its way to one member of a group."""

    account: str
    region: str
    shared_filter: str  # the whole filter: `$share/GROUP/FILTER`
    topic: str
    payload: bytes
    qos: int
    properties: bytes
    received_at: float

    def queue(self) -> list[SharedMessage]:
        key = (self.account, self.region, self.shared_filter)
        return _group_queues.setdefault(key, [])


# Messages for groups without a connected member, by account, region and shared filter.
_group_queues: dict[tuple[str, str, str], list[SharedMessage]] = {}

# The shared message that is being delivered, for the in-flight record made in the same call.
_delivering: contextvars.ContextVar[SharedMessage | None] = contextvars.ContextVar(
    "delivering", default=None
)

_StockInFlightMessage = stock(iot, "_InFlightMessage")


@patch(iot, "_InFlightMessage")
class InFlightMessage(_StockInFlightMessage):
    """An unacknowledged message that knows the shared message it stands for, if any."""

    __slots__ = ("shared",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shared = _delivering.get()


_stock_publish = stock(iot, "broker_publish")


@patch(iot, "broker_publish")
async def broker_publish(
    account: str, region: str, topic: str, payload: bytes, *args: Any, **options: Any
) -> None:
    """Each message goes to one member of each group, chosen at random ("Shared subscriptions").

    AWS: as here among the connected members. What AWS does with a message for a group without a
    connected member is not documented where we could look. This patch keeps a QoS 1 message while
    a member has a persistent session, and delivers it to the first member that comes back.
    ministack: delivers nothing to shared subscriptions.
    """
    if not topic.startswith(iot._BASIC_INGEST_PREFIX):
        qos = args[0] if args else options.get("qos", 0)
        properties = options.get("properties", b"")
        for shared_filter in matching_groups(account, region, topic):
            await deliver_to_group(
                SharedMessage(
                    account, region, shared_filter, topic, payload, qos, properties, time.time()
                )
            )
    await _stock_publish(account, region, topic, payload, *args, **options)


def matching_groups(account: str, region: str, topic: str) -> set[str]:
    """The shared filters, of connected members and of persistent sessions, that match a topic."""
    prefix = iot._scoped_topic(account, region, "")
    filters = {key.removeprefix(prefix) for key in iot._subscriptions if key.startswith(prefix)}
    for (owner, place, _), session in iot._persistent_sessions.items():
        if (owner, place) == (account, region):
            filters.update(session.subscriptions)

    found = set()
    for topic_filter in filters:
        parts = share_parts(topic_filter)
        if parts is not None and iot._subscription_matches(parts[1], topic):
            found.add(topic_filter)
    return found


async def deliver_to_group(message: SharedMessage) -> None:
    """Deliver to a random connected member that may receive the topic; without one, queue."""
    scoped = iot._scoped_topic(message.account, message.region, message.shared_filter)
    members = [
        subscription
        for subscription in iot._subscriptions.get(scoped, ())
        if subscription.deliver.__self__._policy_allows("iot:Receive", f"topic/{message.topic}")
    ]
    if members:
        await deliver_to_member(message, random.choice(members))
    elif message.qos >= 1 and has_offline_member(message):
        queue = message.queue()
        queue.append(message)
        del queue[: -iot._MAX_QUEUED_MESSAGES]


def has_offline_member(message: SharedMessage) -> bool:
    """Whether a persistent session, connected or not, is a member of the message's group."""
    return any(
        (owner, place) == (message.account, message.region)
        and message.shared_filter in session.subscriptions
        and not iot._is_session_expired(session)
        for (owner, place, _), session in iot._persistent_sessions.items()
    )


async def deliver_to_member(message: SharedMessage, member: Any) -> None:
    properties = iot._aged_properties(message.properties, message.received_at)
    if properties is None:
        return  # the message has expired

    tokens = (
        (iot._delivery_properties, iot._delivery_properties.set(properties or b"")),
        (iot._delivery_retain, iot._delivery_retain.set(False)),
        (_delivering, _delivering.set(message)),
    )
    try:
        qos = min(message.qos, member.granted_qos)
        await member.deliver(message.topic, message.payload, qos)
    except Exception:  # noqa: BLE001 - whatever the transport raises; `cleanup` sends it elsewhere
        iot._broker_logger.warning("IoT broker: a member of %s is gone", message.shared_filter)
    finally:
        for variable, token in tokens:
            variable.reset(token)


_stock_dispatch = stock(iot._WSSession, "_dispatch_packet")


@patch(iot._WSSession, "_dispatch_packet")
async def _dispatch_packet(self: Any, kind: int, flags: int, body: bytes) -> bool:
    """Deliver what the client's groups have queued, after its CONNACK or SUBACK has gone out."""
    goes_on = await _stock_dispatch(self, kind, flags, body)
    if goes_on and kind in (iot.PKT_CONNECT, iot.PKT_SUBSCRIBE):
        for topic_filter in set(self._sub_filters.values()):
            queued = _group_queues.pop((self.account_id, self.region, topic_filter), [])
            for message in queued:
                await deliver_to_group(message)
    return goes_on


_stock_cleanup = stock(iot._WSSession, "cleanup")


@patch(iot._WSSession, "cleanup")
async def cleanup(self: Any) -> None:
    """The unacknowledged messages of a member that has gone are delivered to another member.

    MQTT 5.0, 4.8.2, lets the server choose between that and waiting for the member's session. We
    have not compared this with AWS.
    """
    if self._cleaned_up:
        return await _stock_cleanup(self)

    # First out of the groups, so that nothing more is delivered here. The filters stay, because a
    # persistent session is saved with them.
    leave_broker(self, {k for k, f in self._sub_filters.items() if share_parts(f)})
    shared = {k: m.shared for k, m in self._in_flight.items() if m.shared is not None}
    for packet_id in shared:
        self._in_flight.pop(packet_id)
    await _stock_cleanup(self)

    for message in shared.values():
        await deliver_to_group(message)


_stock_reset = stock(iot, "broker_reset")


@patch(iot, "broker_reset")
def broker_reset() -> None:
    _group_queues.clear()
    _stock_reset()
