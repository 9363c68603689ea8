"""Calls of other services: Lambda functions, child executions, AWS SDK integrations."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import ministack.services.stepfunctions as sfn
from ministack.services import lambda_svc

from patches import roles
from patches.patching import patch, require, stock
from patches.stepfunctions.faults import TaskError, text
from patches.stepfunctions.scope import EXECUTION

require(
    lambda_svc,
    "_execute_function_with_config_scope",
    "_execution_record_for_config",
    "_get_func_record_for_ref",
)


@patch(sfn, "_call_lambda")
def _call_lambda(function: str, event: Any) -> Any:
    """Invoke a function, and raise its error as a TaskError.

    AWS: the error's name is the function's errorType, its cause the function's error as JSON. A
    throttled invocation is Lambda.TooManyRequestsException ("Handling errors in Step Functions
    workflows").
    ministack: reports a throttled invocation as Lambda.Unknown.
    """
    found, config, name = lambda_svc._get_func_record_for_ref(function)
    if not found or not config:
        raise TaskError("Lambda.ResourceNotFoundException", f"Function not found: {name}")
    record = lambda_svc._execution_record_for_config(found, config)
    result = lambda_svc._execute_function_with_config_scope(record, event)

    body = result.get("body")
    if result.get("throttle"):
        raise TaskError("Lambda.TooManyRequestsException", body["message"])
    if result.get("error"):
        error = body if isinstance(body, dict) else {"errorMessage": str(body)}
        raise TaskError(error.get("errorType") or "Lambda.Unknown", text(error))
    if isinstance(body, bytes):
        return json.loads(body)
    return body


@patch(sfn, "_nested_execution_failure")
def _nested_execution_failure(payload: dict) -> tuple[str, str]:
    """The error of a child that `startExecution.sync` started and that failed.

    AWS: States.TaskFailed, with the child's description as the cause ("Start workflow executions
    from a task state").
    ministack: reads the error from the child's output, but a failed execution has no output.
    """
    described = {key[0].upper() + key[1:]: value for key, value in payload.items()}
    described.pop("Output", None)
    return "States.TaskFailed", text(described)


# For each service: its name in boto3, and the prefix of its errors in a state machine.
SDK_SERVICES = {"iotdataplane": ("iot-data", "IotDataPlane"), "s3": ("s3", "S3")}

_boto_lock = threading.Lock()
_stock_aws_sdk = stock(sfn, "_invoke_aws_sdk_integration")


@patch(sfn, "_invoke_aws_sdk_integration")
def _invoke_aws_sdk_integration(resource: str, parameters: dict) -> Any:
    """Call an action of IoT data or S3 through ministack's HTTP gateway, with the machine's role.

    AWS: a Task can call any SDK action ("Learning to use AWS service SDK integrations").
    ministack: cannot call iotdataplane, nor S3's putObject and getObject.
    """
    service, action = resource.split(":")[6:8]
    if service not in SDK_SERVICES:
        return _stock_aws_sdk(resource, parameters)

    # Imported here because it takes a second, and few tests need it.
    import boto3
    import botocore.exceptions

    boto_name, error_prefix = SDK_SERVICES[service]
    with _boto_lock:  # threads may share boto3's clients, but may not create them at the same time
        client = boto3.client(
            boto_name,
            region_name=sfn.get_region(),
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
            **roles.task_credentials(EXECUTION.get()),
        )

    operation = action[0].upper() + action[1:]
    members = client.meta.service_model.operation_model(operation).input_shape.members
    given = sdk_parameters(parameters, members, resource)
    try:
        answer = client._make_api_call(operation, given)
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        raise TaskError(f"{error_prefix}.{code}", str(error)) from None

    del answer["ResponseMetadata"]
    return {key[0].upper() + key[1:]: sdk_value(value) for key, value in answer.items()}


def sdk_parameters(parameters: dict, members: dict, resource: str) -> dict:
    """The parameters under the names that boto3 has for them; anything for a blob as bytes."""
    given = {}
    for key, value in parameters.items():
        member = key if key in members else key[0].lower() + key[1:]
        if member not in members:
            raise TaskError("States.Runtime", f"The field '{key}' is not supported by {resource}")

        if members[member].type_name == "blob":
            value = (value if isinstance(value, str) else text(value)).encode()
        given[member] = value
    return given


def sdk_value(value: Any) -> Any:
    """A value of boto3's answer as JSON has it: a stream as its text, a time in ISO 8601."""
    if isinstance(value, dict):
        return {key: sdk_value(member) for key, member in value.items()}
    if isinstance(value, list):
        return [sdk_value(member) for member in value]
    if hasattr(value, "read"):
        return value.read().decode()
    return value.isoformat() if hasattr(value, "isoformat") else value
