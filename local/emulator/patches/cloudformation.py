"""Mends of ministack's CloudFormation. Pages: AWS CloudFormation Template Reference."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable

from patches.stepfunctions.definitions import definition_fault
from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners
from patches.patching import patch, require, stock

require(lambda_svc, "_functions", "_esms")

_stock_sfn_definition = stock(provisioners, "_sfn_definition")


@patch(provisioners, "_sfn_definition")
def _sfn_definition(properties: dict) -> str:
    """AWS: a stack with an invalid definition fails ("AWS::StepFunctions::StateMachine").

    ministack: takes anything.
    """
    definition = _stock_sfn_definition(properties)
    fault = definition_fault(definition)
    if fault:
        raise ValueError(f"Invalid State Machine Definition: '{fault}'")
    return definition


def with_concurrency(provision: Callable, properties_at: int) -> Callable:
    """ReservedConcurrentExecutions ("AWS::Lambda::Function"). ministack: ignored."""

    def provisioned(*args, **options) -> tuple:
        answer = provision(*args, **options)
        reserved = args[properties_at].get("ReservedConcurrentExecutions")
        function = lambda_svc._functions[answer[0]]
        function["concurrency"] = None if reserved is None else int(reserved)
        return answer

    return provisioned


_functions = stock(provisioners, "_RESOURCE_HANDLERS")["AWS::Lambda::Function"]
_functions["create"] = with_concurrency(_functions["create"], 1)
_functions["update"] = with_concurrency(_functions["update"], 2)


KAFKA_SETTINGS = ("Topics", "AmazonManagedKafkaEventSourceConfig", "ProvisionedPollerConfig")


def with_kafka_settings(provision: Callable, properties_at: int) -> Callable:
    """What a Kafka source has ("AWS::Lambda::EventSourceMapping"). ministack: forgotten."""

    def provisioned(*args, **options) -> tuple:
        answer = provision(*args, **options)
        properties = args[properties_at]
        mapping = lambda_svc._esms[answer[0]]
        mapping.update({key: properties[key] for key in KAFKA_SETTINGS if key in properties})
        return answer

    return provisioned


_mappings = stock(provisioners, "_RESOURCE_HANDLERS")["AWS::Lambda::EventSourceMapping"]
_mappings["create"] = with_kafka_settings(_mappings["create"], 1)
_mappings["update"] = with_kafka_settings(_mappings["update"], 2)


_stock_url_attributes = stock(provisioners, "_lambda_url_attributes")


@patch(provisioners, "_lambda_url_attributes")
def _lambda_url_attributes(config: dict) -> dict:
    """AWS: `Fn::GetAtt` of "AWS::Lambda::Url" gives an address that answers.

    ministack: AWS's own host name, which does not lead here; it answers at a path as well.
    """
    attributes = _stock_url_attributes(config)
    identity = urllib.parse.urlsplit(attributes["FunctionUrl"]).netloc.split(".")[0]
    here = os.environ["AWS_ENDPOINT_URL"]
    return {**attributes, "FunctionUrl": f"{here}/_aws/lambda-url/{identity}/"}
