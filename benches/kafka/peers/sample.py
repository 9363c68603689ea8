"""What the AWS sample's handler does: every value decoded as text, a line break after each, all in one object. Nothing is
looked at: a line break in a value becomes two lines, and a null fails the batch."""

import base64
from datetime import datetime

from store import put


def handler(event):
    text = ""
    for records in event["records"].values():
        for record in records:
            text += base64.b64decode(record["value"]).decode("utf-8")
            text += "\n"
    put("customer-data-" + str(datetime.now()) + ".csv", text.encode())
