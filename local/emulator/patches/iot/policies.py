"""The variables that a device policy can use."""

from __future__ import annotations

import re

from ministack.core.responses import request_scope
from ministack.services import iot

from patches.patching import patch, require, stock

require(iot, "_things")


_stock_policy_context = stock(iot, "_mqtt_policy_context")


stock(iot, "_POLICY_VARIABLE_RE")
iot._POLICY_VARIABLE_RE = re.compile(r"\$\{(iot:[A-Za-z0-9_.:\[\]-]+)\}")


@patch(iot, "_mqtt_policy_context")
def _mqtt_policy_context(account: str, region: str, certificate: str, client_id: str) -> dict:
    """Add the attributes of the thing to the variables of its policies.

    AWS: `${iot:Connection.Thing.Attributes[NAME]}` is the value of an attribute, if the certificate
    is attached to the thing ("Thing policy variables").
    ministack: has the thing's name only.
    """
    context = _stock_policy_context(account, region, certificate, client_id)
    if context["iot:connection.thing.isattached"] == "true":
        with request_scope(account, region):
            attributes = iot._things[client_id].get("attributes") or {}
        for name, value in attributes.items():
            context[f"iot:connection.thing.attributes[{name.lower()}]"] = value
    return context
