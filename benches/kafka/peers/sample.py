"""Does what the AWS sample's handler does: decodes each value as text, adds a line break, and writes one object. It checks
nothing: a line break in a value makes two lines, and a null value fails the batch."""

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
