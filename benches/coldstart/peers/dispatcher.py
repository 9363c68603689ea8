"""Publishes a state machine's task as a job over MQTT."""

import base64
import hashlib
import json

import boto3

iot = boto3.client("iot-data")


def handler(event, _context):
    job = hashlib.sha256(event["TaskToken"].encode()).hexdigest()[:32]
    topic = "tenant1/to/worker"
    payload = json.dumps({**event, "JobId": job}).encode()
    iot.publish(
        topic=topic,
        qos=1,
        payload=payload,
        contentType="application/json",
        payloadFormatIndicator="UTF8_DATA",
        correlationData=base64.b64encode(job.encode()).decode(),
    )
    return {"JobId": job, "Topic": topic, "Bytes": len(payload)}
