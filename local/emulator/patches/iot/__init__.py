"""Patches of ministack's IoT Core, put in place when this package is imported.

Pages named in the docstrings are of the AWS IoT Core Developer Guide. No module imports another.

policies       the variables of device policies
limits         payloads, topics, and what CONNACK announces
subscriptions  one subscription for one filter; shared subscriptions
rules          the permissions of rule actions, and their calls of functions
"""

from patches.iot import limits, policies, rules, subscriptions  # noqa: F401
