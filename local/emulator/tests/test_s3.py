"""S3: what a bucket's lifecycle configuration deletes, and when."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from tests.harness import Case, aws, launcher, unique


def setUpModule() -> None:
    launcher.start()


def move(days: str) -> dict:
    url = f"http://127.0.0.1:{launcher.port}/_ministack/s3/lifecycle?days={days}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return json.load(answer)


def keys(bucket: str) -> list[str]:
    listed = aws("s3").list_objects_v2(Bucket=bucket)
    return [found["Key"] for found in listed.get("Contents", [])]


def put(bucket: str, *names: str) -> None:
    for name in names:
        aws("s3").put_object(Bucket=bucket, Key=name, Body=b"x")


class Lifecycle(Case):
    def test_object_expires_by_the_rule_of_its_prefix(self) -> None:
        bucket, other = unique("bucket"), unique("bucket")
        for name in (bucket, other):
            aws("s3").create_bucket(Bucket=name)
        rules = [
            {"Filter": {"Prefix": "a/"}, "Status": "Enabled", "Expiration": {"Days": 7}},
            {"Filter": {"Prefix": "off/"}, "Status": "Disabled", "Expiration": {"Days": 1}},
        ]
        aws("s3").put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        )
        put(bucket, "a/old", "b/old", "off/old")
        put(other, "a/old")

        self.assertEqual(move("6")["Expired"], [])
        put(bucket, "a/new")
        self.assertEqual(move("2")["Expired"], [{"Bucket": bucket, "Key": "a/old"}])
        self.assertEqual(keys(bucket), ["a/new", "b/old", "off/old"])
        self.assertEqual(keys(other), ["a/old"])
        self.assertEqual(move("0")["Expired"], [])
        self.assertEqual(move("8")["Expired"], [{"Bucket": bucket, "Key": "a/new"}])

    def test_template_sets_the_lifecycle_of_a_bucket(self) -> None:
        rule = {
            "Id": "claims",
            "Status": "Enabled",
            "ExpirationInDays": 3,
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        bucket, stack = unique("bucket"), unique("stack")

        def template(rules: list[dict]) -> str:
            properties = {"BucketName": bucket, "LifecycleConfiguration": {"Rules": rules}}
            resource = {"Type": "AWS::S3::Bucket", "Properties": properties}
            return json.dumps({"Resources": {"Bucket": resource}})

        cloudformation = aws("cloudformation")
        cloudformation.create_stack(StackName=stack, TemplateBody=template([rule]))
        cloudformation.get_waiter("stack_create_complete").wait(StackName=stack)
        rules = aws("s3").get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        self.assertEqual(rules[0]["Expiration"], {"Days": 3})
        self.assertEqual(rules[0]["AbortIncompleteMultipartUpload"], {"DaysAfterInitiation": 1})

        put(bucket, "a")
        self.assertEqual(move("2")["Expired"], [])
        self.assertEqual(move("2")["Expired"], [{"Bucket": bucket, "Key": "a"}])

    def test_impossible_number_of_days_is_refused(self) -> None:
        for days in ("-1", "a", "1.5"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                move(days)
            self.assertEqual(refused.exception.code, 400)
            self.assertIn("at least 0", refused.exception.read().decode())
