"""Passes a worker's answer to Step Functions."""

import json

import boto3

states = boto3.client("stepfunctions")


def handler(event, _context):
    states.send_task_success(
        taskToken=event["TaskToken"], output=json.dumps({"result": event["result"]})
    )
