"""Reads and resends the dead letters of a deployed stack: messages in the SQS queue, and batches of Kafka records in S3.

    dead_letters.py list --stack postern
    dead_letters.py redrive --stack postern [--yes]

`list` prints a line for each dead letter: its job, tenant, reason and age, never a task token or a payload. It deletes
nothing. `redrive` prints what it would do, and does it with `--yes`: it invokes the function again with the event
that failed, and deletes the dead letter when the function has succeeded. Repeats are harmless. An answer to a task that
has ended changes nothing, and a batch that was written before has the keys of the objects that exist.

A message that the function refuses as invalid is not resent, because the result would be the same. Nor is the input of an
execution that EventBridge Scheduler could not start. `redrive --discard` deletes these messages. Credentials and Region come from the AWS CLI's configuration.
"""

import argparse
import base64
import binascii
import dataclasses
import datetime
import hashlib
import json
import sys

import boto3

# How long a message stays hidden from other readers: longer than reading and resending all of them takes.
HIDDEN_SECONDS = 120
# Errors of the message itself. Resending it has the same result.
INVALID = {
    "JobCanceller.InvalidEvent",
    "JobProgress.InvalidMessage",
    "MskToS3.InvalidEvent",
    "TaskTokenDone.InvalidMessage",
}


def main() -> None:
    arguments = parse()
    stack = Stack(arguments.stack)
    dead_letters = [*stack.answers(), *stack.batches()]
    if not dead_letters:
        print(f"the stack {arguments.stack} has no dead letters")
        return

    failed = 0
    for dead_letter in dead_letters:
        print(dead_letter.line())
        if arguments.command == "redrive":
            failed += not handle(stack, dead_letter, arguments)
    stack.release()

    if arguments.command == "redrive" and not arguments.yes:
        print("\nNothing was done. Repeat with --yes (make redrive YES=1).")
    sys.exit(1 if failed else 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["list", "redrive"])
    parser.add_argument("--stack", required=True, help="the CloudFormation stack's name")
    parser.add_argument("--yes", action="store_true", help="resend, instead of only saying so")
    parser.add_argument("--discard", action="store_true", help="delete messages that are invalid")
    return parser.parse_args()


def handle(stack: "Stack", dead_letter: "DeadLetter", arguments: argparse.Namespace) -> bool:
    """Resends or discards a dead letter, or prints what would be done. Returns whether that succeeded."""
    if obstacle := dead_letter.obstacle():
        if not arguments.discard:
            print(f"    left: {obstacle} (--discard deletes it)")
        elif arguments.yes:
            stack.delete(dead_letter)
            print("    deleted")
        else:
            print("    would be deleted")
        return True

    if not arguments.yes:
        print(f"    would be sent to {dead_letter.function} again")
        return True

    problem = stack.resend(dead_letter)
    if problem:
        print(f"    NOT resent: {problem}")
        return False
    stack.delete(dead_letter)
    print("    resent and deleted")
    return True


@dataclasses.dataclass
class DeadLetter:
    """A dead letter, with the event that failed."""

    job: str
    tenant: str
    reason: str
    at: datetime.datetime | None
    # The function to invoke again; "" if the dead letter is of no function.
    function: str
    event: object
    # The SQS receipt handle, or the key of the S3 object.
    receipt: str
    is_batch: bool = False
    invalid: bool = False

    def obstacle(self) -> str | None:
        """Returns why it makes no sense to resend the dead letter."""
        if self.invalid:
            return "the message itself is invalid"
        if not self.function:
            return "no function has failed; start the execution again"
        return None

    def line(self) -> str:
        """Returns the description for people, without token and payload."""
        kind = "batch" if self.is_batch else "job"
        return f"{kind} {self.job}  tenant {self.tenant}  age {age(self.at)}  {self.reason}"


class Stack:
    """The places of a stack's dead letters, and the functions that handle them."""

    def __init__(self, name: str) -> None:
        stacks = boto3.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        outputs = {
            output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])
        }
        self.queue = outputs.get("DeadLetterQueueUrl")
        self.bucket = outputs.get("MskDeadLetterBucketName")
        # The functions of the IoT rules, by the end of the topic.
        self.by_topic = {
            "lambda": outputs.get("TaskTokenDoneFunctionName", ""),
            "progress": outputs.get("JobProgressFunctionName", ""),
        }
        self.msk_to_s3 = outputs.get("MskToS3FunctionName", "")
        self.sqs, self.s3, self.functions = map(boto3.client, ("sqs", "s3", "lambda"))
        self.hidden: set[str] = set()

    def answers(self) -> list[DeadLetter]:
        """Returns the messages in the queue, which stay hidden from other readers until `release`."""
        if not self.queue:
            return []
        seen: dict[str, DeadLetter] = {}
        while True:
            received = self.sqs.receive_message(
                QueueUrl=self.queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                VisibilityTimeout=HIDDEN_SECONDS,
                MessageSystemAttributeNames=["SentTimestamp"],
                MessageAttributeNames=["ERROR_CODE"],
            ).get("Messages", [])
            new = [message for message in received if message["MessageId"] not in seen]
            if not new:
                return list(seen.values())
            for message in new:
                self.hidden.add(message["ReceiptHandle"])
                seen[message["MessageId"]] = message_of_queue(message, self.by_topic)

    def batches(self) -> list[DeadLetter]:
        """Returns the batches in the bucket."""
        if not self.bucket:
            return []
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [self.batch(key) for key in keys]

    def batch(self, key: str) -> DeadLetter:
        """Reads the invocation record of a batch."""
        stored = self.s3.get_object(Bucket=self.bucket, Key=key)
        record = parsed(stored["Body"].read())
        context, payload = record.get("requestContext", {}), record.get("payload")
        ranges = record.get("KafkaBatchInfo", {}).get("recordsInfo", {})

        offsets = ", ".join(
            f"{name}:{info.get('firstRecordOffset')}-{info.get('lastRecordOffset')}"
            for name, info in sorted(ranges.items())
        )
        event = parsed(payload) if isinstance(payload, str) else payload
        reason = context.get("condition", "unknown reason")
        return DeadLetter(
            job=offsets or key,
            tenant="-",
            reason=f"{reason} after {context.get('approximateInvokeCount', '?')} invocations",
            at=stored["LastModified"],
            function=self.msk_to_s3,
            event=event,
            receipt=key,
            is_batch=True,
            invalid=not event,
        )

    def resend(self, dead_letter: DeadLetter) -> str | None:
        """Invokes the function with the event. Returns the problem if the function did not succeed."""
        response = self.functions.invoke(
            FunctionName=dead_letter.function, Payload=json.dumps(dead_letter.event).encode()
        )
        result = parsed(response["Payload"].read())
        if response.get("FunctionError"):
            return f"{result.get('errorType', 'unknown error')}"

        bad = result.get("batchItemFailures") if dead_letter.is_batch else None
        if bad:
            first = bad[0].get("itemIdentifier")
            return f"a record is still bad: {json.dumps(first)}"
        return None

    def delete(self, dead_letter: DeadLetter) -> None:
        """Deletes a dead letter."""
        if dead_letter.is_batch:
            self.s3.delete_object(Bucket=self.bucket, Key=dead_letter.receipt)
        else:
            self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=dead_letter.receipt)
            self.hidden.discard(dead_letter.receipt)

    def release(self) -> None:
        """Shows the messages that are left to other readers again."""
        for receipt in self.hidden:
            self.sqs.change_message_visibility(
                QueueUrl=self.queue, ReceiptHandle=receipt, VisibilityTimeout=0
            )


def message_of_queue(message: dict, by_topic: dict[str, str]) -> DeadLetter:
    """Reads a message: Lambda's invocation record, the error action's message of an IoT rule, or Scheduler's input."""
    body, invalid = parsed(message["Body"]), False
    attributes = message.get("MessageAttributes", {})
    if "requestPayload" in body:
        event, reason, invalid = body["requestPayload"], *invocation_reason(body)
        function = function_name(body.get("requestContext", {}).get("functionArn", ""))
    elif "base64OriginalPayload" in body:
        event, reason = rule_event(body), rule_reason(body)
        function = by_topic.get(str(body.get("topic", "")).rsplit("/", 1)[-1], "")
        invalid = event is None
    else:
        event, function = body, ""
        error = attributes.get("ERROR_CODE", {}).get("StringValue", "unknown error")
        reason = f"schedule: no execution could be started: {error}"

    fields = event if isinstance(event, dict) else {}
    sent = message.get("Attributes", {}).get("SentTimestamp")
    return DeadLetter(
        job=job_id(fields),
        tenant=str(fields.get("tenant", "-")),
        reason=reason,
        at=datetime.datetime.fromtimestamp(int(sent) / 1000, datetime.UTC) if sent else None,
        function=function,
        event=event,
        receipt=message["ReceiptHandle"],
        invalid=invalid,
    )


def function_name(arn: str) -> str:
    """Returns the name in a function's ARN, such as `arn:aws:lambda:eu-west-1:123456789012:function:NAME:$LATEST`."""
    return (arn.split(":function:", 1)[1:] or [""])[0].split(":")[0]


def invocation_reason(body: dict) -> tuple[str, bool]:
    """Returns why Lambda gave up, and whether the message itself is the reason."""
    error = body.get("responsePayload") or {}
    name = error.get("errorType") or body.get("requestContext", {}).get("condition", "unknown")
    # The messages of Postern's own errors contain no payload. The messages of other errors may contain one.
    ours = name.startswith(("TaskTokenDone.", "JobProgress.", "JobCanceller."))
    message = error.get("errorMessage", "") if ours else ""
    return f"{name}: {message[:200]}".rstrip(": "), name in INVALID


def rule_reason(body: dict) -> str:
    """Returns why the rule could not hand a message to the function."""
    failures = [
        f"{failure.get('failedAction', '')}: {failure.get('errorMessage', '')}"
        for failure in body.get("failures", [])
    ]
    return f"rule {body.get('ruleName', '?')}: {'; '.join(failures)[:200]}"


def rule_event(body: dict) -> dict | None:
    """Returns the event that the rule would have made of the worker's message; `None` if the message is not a JSON object."""
    try:
        event = json.loads(base64.b64decode(body.get("base64OriginalPayload", ""), validate=True))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(event, dict):
        return None
    topic = str(body.get("topic", ""))
    return event | {"tenant": topic.split("/")[0], "worker": body.get("clientId")}


def job_id(fields: dict) -> str:
    """Returns the job's public name: the first 16 bytes of the token's SHA-256."""
    token = fields.get("TaskToken")
    if isinstance(token, str):
        return hashlib.sha256(token.encode()).hexdigest()[:32]
    return "-"


def parsed(text: str | bytes) -> dict:
    """Parses a JSON object. Returns an empty one if the text is not a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def age(at: datetime.datetime | None) -> str:
    """Returns the time since `at`, in the largest unit that fits."""
    if at is None:
        return "unknown"
    seconds = int((datetime.datetime.now(datetime.UTC) - at).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


if __name__ == "__main__":
    main()
