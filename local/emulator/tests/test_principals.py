"""IAM: the caller's ARN in the conditions of a policy, and policies that change."""

from __future__ import annotations

import json

from botocore.exceptions import ClientError

from tests.harness import Case, allow, as_role, aws, grant, launcher, make_role, unique


def setUpModule() -> None:
    launcher.start()


class Principals(Case):
    def test_bucket_policy_can_name_roles_as_the_only_writers(self) -> None:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        arn = f"arn:aws:s3:::{bucket}/*"
        writer, other = (make_role("lambda", [allow("s3:PutObject", arn)]) for _ in range(2))
        statement = {
            "Effect": "Deny",
            "Principal": {"AWS": "123456789012"},
            "Action": "s3:PutObject",
            "Resource": arn,
            "Condition": {"ArnNotEquals": {"aws:PrincipalArn": [writer]}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        aws("s3").put_bucket_policy(Bucket=bucket, Policy=policy)

        as_role("s3", writer).put_object(Bucket=bucket, Key="a", Body=b"a")
        with self.assertRaisesRegex(ClientError, "AccessDenied"):
            as_role("s3", other).put_object(Bucket=bucket, Key="a", Body=b"b")

    def test_a_policy_that_changes_applies_at_once(self) -> None:
        bucket = unique("bucket")
        aws("s3").create_bucket(Bucket=bucket)
        arn = f"arn:aws:s3:::{bucket}/*"
        role = make_role("lambda", [])
        writer = as_role("s3", role)

        for _ in range(2):
            grant(role, [allow("s3:PutObject", arn)])
            writer.put_object(Bucket=bucket, Key="a", Body=b"a")
            grant(role, [allow("s3:GetObject", arn)])
            with self.assertRaisesRegex(ClientError, "AccessDenied"):
                writer.put_object(Bucket=bucket, Key="a", Body=b"b")
