"""Writes a batch of Kafka records to S3 as CSV, one object for each partition."""

import base64

import boto3

s3 = boto3.client("s3")


def handler(event, _context):
    for partition, records in event["records"].items():
        lines = [base64.b64decode(record["value"]) for record in records]
        key = f"customer-data-{partition}-{records[0]['offset']}-{records[-1]['offset']}.csv"
        body = b"\n".join(lines) + b"\n"
        s3.put_object(Bucket="bench", Key=key, Body=body, IfNoneMatch="*")
    return {"batchItemFailures": []}
