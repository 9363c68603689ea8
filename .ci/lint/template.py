"""Checks what cfn-lint does not: permissions, encryption, public addresses, secret parameters, alarms, and that every
combination of the parts that a stack can have is valid.

    template.py [TEMPLATE ...]

Prints every finding as `TEMPLATE: RESOURCE: RULE: what is wrong`, and ends with status 1 if there is one. Without an
argument it checks template.yml and infra/*.yml of the repository.
"""

import itertools
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUNBOOK = ROOT / "docs" / "operate.md"
# What a stack can have: the parameters that are true or false.
PARTS = ("Jobs", "Examples", "Approvals", "ClaimCheck", "Kafka", "Grip", "Console")
# What the checks of the combinations give other parameters, so that everything that depends on them is there.
GIVEN = {
    "AlarmTopicArn": "arn:aws:sns:eu-west-1:123456789012:alarms",
    "Dashboard": "true",
    "GripSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:grip",
    "MskClusterArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/customer/1",
    "MskSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/customer/1",
    "Schedule": "rate(5 minutes)",
    "TableSchedule": "rate(1 hour)",
}
# Actions whose resource can only be "*", by the Service Authorization Reference.
NO_RESOURCE = re.compile(
    r"xray:Put(TraceSegments|TelemetryRecords)|xray:GetSampling(Rules|Targets)"
    r"|logs:((Create|Get|Update|Delete)LogDelivery|ListLogDeliveries)"
    r"|logs:(PutResourcePolicy|DescribeResourcePolicies|DescribeLogGroups)"
    r"|ec2:Describe\w+|ec2:(Create|Delete)NetworkInterface"
    r"|ec2:(Una|A)ssignPrivateIpAddresses|kafka:GetBootstrapBrokers|cloudwatch:PutMetricData"
    r"|secretsmanager:GetRandomPassword|iot:ListRetainedMessages"
    # With a condition on the function, which `wildcards` checks.
    r"|lambda:(Create|Delete|Get|Update)EventSourceMapping"
)
# A condition that a person sets to true on purpose. A public address must depend on one of them.
ASKED_FOR = {"Approvals", "Grip", "Client", "Console"}
# The metrics that an alarm must read for each function and each state machine.
WATCHED = {
    "AWS::Serverless::Function": {"Errors", "Throttles"},
    "AWS::Serverless::StateMachine": {"ExecutionsFailed", "ExecutionsTimedOut"},
}
# The tutorial's machine: whoever starts it looks at it.
NOT_WATCHED = {"DojoStateMachine"}
# CloudWatch's limit for an alarm on metric math.
MAX_ALARM_METRICS = 10


class Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions."""


def short_form(loader: Loader, tag: str, node: yaml.Node) -> dict:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


Loader.add_multi_constructor("!", short_form)


def main(paths: list[pathlib.Path]) -> int:
    findings = []
    for path in paths:
        findings += [f"{path}: {finding}" for finding in check(yaml.load(path.read_text(), Loader))]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check(template: dict) -> list[str]:
    findings = unhidden_secrets(template)
    for name, resource in template["Resources"].items():
        rules = (wildcards, unencrypted, uninvited, unexplained, overfull, unwatched)
        findings += [
            f"{name}: {finding}" for rule in rules for finding in rule(name, resource, template)
        ]
    if set(PARTS) <= set(template.get("Parameters", {})):
        findings += combinations(template)
    return findings


def unhidden_secrets(template: dict) -> list[str]:
    """`sam deploy --guided` asks again and again for a parameter with NoEcho and without a default."""
    return [
        f"{name}: no-echo: a parameter with NoEcho needs a default; better keep secrets in Secrets Manager"
        for name, parameter in template.get("Parameters", {}).items()
        if parameter.get("NoEcho") and "Default" not in parameter
    ]


def statements(node: object) -> list[dict]:
    """All statements of policies in a resource, in whatever property they are."""
    if isinstance(node, list):
        return [found for each in node for found in statements(each)]
    if not isinstance(node, dict):
        return []
    found = [node] if "Effect" in node and ("Action" in node or "NotAction" in node) else []
    return found + [more for each in node.values() for more in statements(each)]


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def wildcards(_name: str, resource: dict, _template: dict) -> list[str]:
    findings = []
    for statement in statements(resource):
        actions = as_list(statement.get("Action", "*"))
        findings += [f"wildcard: the action {action}" for action in actions if "*" in str(action)]
        if statement["Effect"] == "Allow" and "*" in as_list(statement.get("Resource")):
            findings += [
                f"wildcard: {action} on every resource, although it supports resources"
                for action in actions
                if not NO_RESOURCE.fullmatch(str(action))
                or ("EventSourceMapping" in str(action) and "Condition" not in statement)
            ]
        principals = as_list(statement.get("Principal", []))
        if any(
            one == "*" or isinstance(one, dict) and "*" in as_list(one.get("AWS"))
            for one in principals
        ):
            findings.append("wildcard: every principal of AWS")
    return findings


def unencrypted(_name: str, resource: dict, _template: dict) -> list[str]:
    properties = resource.get("Properties", {})
    findings = []
    if resource["Type"] == "AWS::S3::Bucket":
        if "BucketEncryption" not in properties:
            findings.append("unencrypted: the bucket has no BucketEncryption")
        blocked = properties.get("PublicAccessBlockConfiguration", {})
        if [*blocked.values()] != [True] * 4:
            findings.append("public: the bucket does not block public access in all four ways")
    if resource["Type"] == "AWS::SQS::Queue":
        if not {"SqsManagedSseEnabled", "KmsMasterKeyId"} & set(properties):
            findings.append("unencrypted: the queue has neither SqsManagedSseEnabled nor a key")
    return findings


def uninvited(_name: str, resource: dict, template: dict) -> list[str]:
    """A public function URL, route or permission that does not depend on a parameter which asks for it."""
    properties = resource.get("Properties", {})
    open_url = resource["Type"] == "AWS::Lambda::Url" and properties.get("AuthType") == "NONE"
    open_url |= "FunctionUrlConfig" in properties
    open_url |= (
        resource["Type"] == "AWS::ApiGatewayV2::Route"
        and properties.get("AuthorizationType", "NONE") == "NONE"
    )
    permission = (
        resource["Type"] == "AWS::Lambda::Permission" and properties.get("Principal") == "*"
    )
    if not (open_url or permission):
        return []
    parameters = needed(resource.get("Condition"), template.get("Conditions", {}))
    if parameters & ASKED_FOR:
        return []
    return [f"public: it needs a condition on one of the parameters {', '.join(sorted(ASKED_FOR))}"]


def needed(condition: str | None, conditions: dict) -> set[str]:
    """The parameters that must be "true" for a condition to hold."""
    expression = conditions.get(condition, {})
    for part in expression.get("Fn::And", [expression]):
        if "Condition" in part:
            return needed(part["Condition"], conditions) | needed_of_rest(
                expression, part, conditions
            )
    return {
        equals[0]["Ref"]
        for part in expression.get("Fn::And", [expression])
        if (equals := part.get("Fn::Equals"))
        and isinstance(equals[0], dict)
        and equals[1] == "true"
    }


def needed_of_rest(expression: dict, done: dict, conditions: dict) -> set[str]:
    rest = [part for part in expression.get("Fn::And", []) if part is not done]
    return needed("rest", {**conditions, "rest": {"Fn::And": rest}}) if rest else set()


def unexplained(name: str, resource: dict, _template: dict) -> list[str]:
    """An alarm without a heading in the runbook."""
    if resource["Type"] not in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"):
        return []
    runbook = RUNBOOK.read_text() if RUNBOOK.exists() else ""
    if re.search(rf"^#+ .*\b{name}\b", runbook, re.MULTILINE):
        return []
    return [f"alarm: docs/operate.md has no heading with {name}, which says what to do"]


def metrics(alarm: dict) -> list[dict]:
    """The metrics that an alarm reads, each with its name and dimensions."""
    properties = alarm.get("Properties", {})
    queries = []
    for query in properties.get("Metrics", []):
        # Fn::If has a query for a part that is deployed, and none for one that is not.
        queries += query["Fn::If"][1:] if "Fn::If" in query else [query]
    return [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query] or [
        properties
    ]


def overfull(_name: str, resource: dict, _template: dict) -> list[str]:
    if resource["Type"] != "AWS::CloudWatch::Alarm":
        return []
    count = len(metrics(resource))
    if count <= MAX_ALARM_METRICS:
        return []
    return [f"alarm: it reads {count} metrics, and CloudWatch allows {MAX_ALARM_METRICS}"]


def unwatched(name: str, resource: dict, template: dict) -> list[str]:
    """A function or a state machine whose failures raise no alarm, in a template that has alarms."""
    resources = template["Resources"].values()
    alarms = [one for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    if not alarms or name in NOT_WATCHED:
        return []
    watched = {
        metric.get("MetricName")
        for alarm in alarms
        for metric in metrics(alarm)
        if any(dimension["Value"] == {"Ref": name} for dimension in metric.get("Dimensions", []))
    }
    missing = WATCHED.get(resource["Type"], set()) - watched
    return [f"unwatched: no alarm reads its metric {metric}" for metric in sorted(missing)]


# ---- Combinations ----------------------------------------------------------------------------------------------------


def combinations(template: dict) -> list[str]:
    """Every combination of the parts must have references only to what it contains."""
    findings = []
    for values in itertools.product(("true", "false"), repeat=len(PARTS)):
        chosen = dict(zip(PARTS, values, strict=True))
        title = (
            ", ".join(part for part, value in chosen.items() if value == "true")
            or "None of the parts"
        )
        findings += [
            f"{title}: {finding}" for finding in combination(template, {**GIVEN, **chosen})
        ]
    return sorted(set(findings))


def combination(template: dict, values: dict[str, str]) -> list[str]:
    """The findings of one combination: references to resources that are absent, and what should not be there."""
    stack = Stack(template, values)
    findings = [
        f"{where}: dangling: it refers to {target}, which this combination does not contain"
        for where, target in stack.dangling()
    ]
    kinds = {resource["Type"] for resource in stack.resources.values()}
    if not kinds:
        findings.append("combination: a stack needs at least one resource")
    if values["Approvals"] == values["Grip"] == "false" and "AWS::Lambda::Url" in kinds:
        findings.append("combination: it has a public URL, although Approvals and Grip are false")
    if values["Console"] == "false" and "AWS::ApiGatewayV2::Api" in kinds:
        findings.append("combination: it has an HTTP API, although Console is false")
    if values["Jobs"] == "false" and any(kind.startswith("AWS::IoT::") for kind in kinds):
        findings.append("combination: it has IoT resources, although it has no jobs")
    topics = [one for one in stack.resources.values() if "Topics" in one.get("Properties", {})]
    if values["Kafka"] == "false" and topics:
        findings.append("combination: it reads a topic, although it has no Kafka")
    return findings


class Stack:
    """A template with values for its parameters: its resources and outputs, and their references."""

    def __init__(self, template: dict, values: dict[str, str]) -> None:
        defaults = {name: one.get("Default") for name, one in template["Parameters"].items()}
        self.template = template
        self.values = {**defaults, **values}
        self.resources = self.present("Resources")
        self.outputs = self.present("Outputs")

    def present(self, section: str) -> dict:
        return {
            name: one
            for name, one in self.template.get(section, {}).items()
            if "Condition" not in one or self.holds({"Condition": one["Condition"]})
        }

    def holds(self, expression: dict) -> bool:
        (function, argument), *_ = expression.items()
        match function:
            case "Condition":
                return self.holds(self.template["Conditions"][argument])
            case "Fn::And":
                return all(map(self.holds, argument))
            case "Fn::Or":
                return any(map(self.holds, argument))
            case "Fn::Not":
                return not self.holds(argument[0])
            case "Fn::Equals":
                return self.value(argument[0]) == self.value(argument[1])
        raise ValueError(f"the function {function} in a condition is not known here")

    def value(self, node: object) -> str:
        if not isinstance(node, dict):
            return str(node)
        if "Ref" in node:
            return str(self.values.get(node["Ref"], node["Ref"]))
        if "Fn::Join" in node:
            return str(node["Fn::Join"][0]).join(as_list(self.value(node["Fn::Join"][1])))
        raise ValueError(f"{node} in a condition is not known here")

    def dangling(self) -> list[tuple[str, str]]:
        known = set(self.template["Parameters"])
        found = []
        for section in (
            self.resources,
            self.outputs,
            {"Globals": self.template.get("Globals", {})},
        ):
            for name, one in section.items():
                targets = self.targets(one)
                found += [(name, t) for t in targets if t not in known and t not in self.resources]
        return found

    def targets(self, node: object) -> set[str]:
        """The resources to which a part of the template refers, in the branches of Fn::If that are taken."""
        if isinstance(node, list):
            return {target for each in node for target in self.targets(each)}
        if not isinstance(node, dict):
            return set()
        if "Fn::If" in node:
            condition, yes, no = node["Fn::If"]
            return self.targets(yes if self.holds({"Condition": condition}) else no)
        found = set()
        for key, value in node.items():
            if key == "Ref" and isinstance(value, str):
                found.add(value)
            elif key == "Fn::GetAtt":
                found.add(value[0] if isinstance(value, list) else value.split(".")[0])
            elif key == "Fn::Sub":
                text, given = (value, {}) if isinstance(value, str) else value
                names = set(re.findall(r"\$\{([A-Za-z0-9:]+)", text)) - set(given)
                found |= names | self.targets(given)
            elif key == "DependsOn":
                found |= set(as_list(value))
            else:
                found |= self.targets(value)
        return {target for target in found if not target.startswith("AWS::")}


if __name__ == "__main__":
    arguments = [pathlib.Path(path) for path in sys.argv[1:]]
    sys.exit(main(arguments or [ROOT / "template.yml", *sorted((ROOT / "infra").glob("*.yml"))]))
