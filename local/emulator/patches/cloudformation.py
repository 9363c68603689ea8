"""Patches of ministack's CloudFormation.

Pages named in the docstrings are of the AWS CloudFormation Template Reference.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable

from ministack.services import iam, lambda_svc
from ministack.services.cloudformation import provisioners

from patches.patching import patch, require, stock
from patches.stepfunctions.definitions import definition_fault

require(iam, "_roles")
require(lambda_svc, "_functions", "_esms")

_stock_sfn_definition = stock(provisioners, "_sfn_definition")


@patch(provisioners, "_sfn_definition")
def _sfn_definition(properties: dict) -> str:
    """A stack with an invalid definition fails ("AWS::StepFunctions::StateMachine").

    ministack accepts any definition.
    """
    definition = _stock_sfn_definition(properties)
    fault = definition_fault(definition)
    if fault:
        raise ValueError(f"Invalid State Machine Definition: '{fault}'")
    return definition


def with_concurrency(provision: Callable, properties_at: int) -> Callable:
    """Apply ReservedConcurrentExecutions ("AWS::Lambda::Function"). ministack ignores it."""

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


def with_boundary(provision: Callable, properties_at: int) -> Callable:
    """Set a role's PermissionsBoundary ("AWS::IAM::Role"). ministack ignores it."""

    def provisioned(*args, **options) -> tuple:
        answer = provision(*args, **options)
        iam._roles[answer[0]]["PermissionsBoundary"] = args[properties_at].get(
            "PermissionsBoundary"
        )
        return answer

    return provisioned


_roles = stock(provisioners, "_RESOURCE_HANDLERS")["AWS::IAM::Role"]
_roles["create"] = with_boundary(_roles["create"], 1)
_roles["update"] = with_boundary(_roles["update"], 2)


KAFKA_SETTINGS = ("Topics", "AmazonManagedKafkaEventSourceConfig", "ProvisionedPollerConfig")


def with_kafka_settings(provision: Callable, properties_at: int) -> Callable:
    """Keep the settings of a Kafka source ("AWS::Lambda::EventSourceMapping").

    ministack drops them.
    """

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
    """`Fn::GetAtt` of a function URL returns an address that answers ("AWS::Lambda::Url").

    ministack returns a host name of AWS, which does not lead to the emulator. The emulator answers
    at a path of its own address as well.
    """
    attributes = _stock_url_attributes(config)
    identity = urllib.parse.urlsplit(attributes["FunctionUrl"]).netloc.split(".")[0]
    here = os.environ["AWS_ENDPOINT_URL"]
    return {**attributes, "FunctionUrl": f"{here}/_aws/lambda-url/{identity}/"}
