"""Creates, renews and removes the certificate of a worker of a deployed stack.

    enroll_worker.py --stack postern --folder plant-7/ --csr request.csr [--thing NAME] [--tenant NAME]
    enroll_worker.py --stack postern --folder certs/ [--thing NAME] [--tenant NAME] [--endpoint HOST:PORT] [--ca FILE]
    enroll_worker.py --stack postern --revoke-old [--thing NAME] [--confirmed]
    enroll_worker.py --stack postern --remove [--thing NAME]

With `--csr`, AWS IoT Core signs the request that `postern-worker enroll` wrote on the worker's machine, so the private
key never leaves that machine. The script writes `cert.pem`, for `postern-worker enroll --install`, and `worker.toml`,
which belongs beside the worker's folder `current`. Without `--csr`, for a first try, AWS IoT Core creates the key too,
and the script also writes `key.pem`, which only you can read. `postern-worker --config FOLDER/worker.toml` then runs.
Paths in `worker.toml` are relative to the file, so the folder can be copied to another machine. In both cases the
script attaches the stack's worker policy to the certificate, and the certificate to the thing.

A renewal leaves the old certificate valid. `--revoke-old` revokes every certificate of the thing except the newest, and
refuses to do so before the worker has used the newest: the IoT rule stamps each answer with the certificate of its
connection, and the script looks for the newest one in the log of `task-token-done`. If the worker answers no jobs at
the moment, and its own log says that it is connected with the new certificate, `--confirmed` skips that check.

`--remove` revokes and deletes all certificates of the thing. It also deletes the thing, unless the thing belongs to the
stack.

The defaults are the stack's own thing and tenant. `--thing` and `--tenant` name another worker; its thing is created if
it does not exist. `--group` puts that worker into a group, whose workers share the tenant's jobs. Credentials
and Region come from the AWS CLI's configuration.
"""

import argparse
import os
import pathlib
import sys
import time

import boto3


def main() -> None:
    arguments = parse()
    stacks = boto3.client("cloudformation").describe_stacks(StackName=arguments.stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}
    worker = Worker(arguments, outputs)

    if arguments.remove:
        worker.remove()
    elif arguments.revoke_old:
        worker.revoke_old()
    elif arguments.csr:
        worker.sign(arguments.csr)
    else:
        worker.create()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", required=True, help="the CloudFormation stack's name")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--folder", type=pathlib.Path, help="the folder for certificate and configuration"
    )
    action.add_argument(
        "--revoke-old", action="store_true", help="revoke every certificate except the newest"
    )
    parser.add_argument(
        "--confirmed",
        action="store_true",
        help="with --revoke-old: you have seen that the worker uses the newest certificate",
    )
    action.add_argument("--remove", action="store_true", help="delete the worker's certificates")
    parser.add_argument("--csr", type=pathlib.Path, help="the worker's certificate signing request")
    parser.add_argument("--thing", help="the worker's name [default: the stack's own thing]")
    parser.add_argument("--tenant", help="the worker's tenant [default: the stack's]")
    parser.add_argument("--group", help="the group whose workers share jobs; needs --thing")
    parser.add_argument("--endpoint", help="the broker [default: AWS IoT Core's data endpoint]")
    parser.add_argument(
        "--ca", type=pathlib.Path, help="the broker's CA [default: the system's CAs]"
    )

    arguments = parser.parse_args()
    if arguments.group and not arguments.thing:
        parser.error("--group needs --thing: the thing of the stack belongs to no group")
    return arguments


class Worker:
    """A worker's thing and its certificates."""

    def __init__(self, arguments: argparse.Namespace, outputs: dict[str, str]) -> None:
        self.iot = boto3.client("iot")
        self.stack = arguments.stack
        self.own_thing = outputs["WorkerThingName"]
        self.policy = outputs["WorkerPolicyName"]
        self.answer_function = outputs["TaskTokenDoneFunctionName"]
        self.confirmed: bool = arguments.confirmed
        self.thing = arguments.thing or self.own_thing
        self.tenant = arguments.tenant or outputs["Tenant"]
        self.group: str | None = arguments.group
        self.folder: pathlib.Path = arguments.folder
        self.endpoint: str | None = arguments.endpoint
        self.ca: pathlib.Path | None = arguments.ca

    def sign(self, request: pathlib.Path) -> None:
        """Has AWS IoT Core sign a certificate signing request."""
        signed = self.iot.create_certificate_from_csr(
            certificateSigningRequest=request.read_text(), setAsActive=True
        )
        self.attach(signed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_configuration("current/cert.pem", "current/key.pem")
        (self.folder / "cert.pem").write_text(signed["certificatePem"])

        print(f"certificate of {self.thing}, tenant {self.tenant}: {self.folder / 'cert.pem'}")
        print("on the worker's machine: postern-worker enroll ... --install cert.pem")
        print(f"once the worker has logged its new connection: {self.command('--revoke-old')}")
        self.print_cleanup(signed)

    def create(self) -> None:
        """Has AWS IoT Core create a key and a certificate."""
        if (self.folder / "cert.pem").exists():
            sys.exit(
                f"{self.folder / 'cert.pem'} exists: the folder holds a worker's identity; choose another folder, or delete this one"
            )
        created = self.iot.create_keys_and_certificate(setAsActive=True)
        self.attach(created)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_secret(self.folder / "key.pem", created["keyPair"]["PrivateKey"])
        self.write_configuration("cert.pem", "key.pem")
        # The certificate is written last, because its presence marks the folder as complete.
        (self.folder / "cert.pem").write_text(created["certificatePem"])

        print(f"worker {self.thing} of tenant {self.tenant}: {self.folder / 'worker.toml'}")
        self.print_cleanup(created)

    def write_configuration(self, cert: str, key: str) -> None:
        """Writes `worker.toml`, and `ca.pem` if the broker's CA was given."""
        endpoint = (
            self.endpoint
            or self.iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
        )
        options = {"endpoint": endpoint, "client_id": self.thing, "tenant": self.tenant}
        options |= {"cert": cert, "key": key}
        if self.group:
            options["group"] = self.group
        if self.ca:
            (self.folder / "ca.pem").write_text(self.ca.read_text())
            options["ca"] = "ca.pem"

        lines = [f'{name} = "{value}"\n' for name, value in options.items()]
        (self.folder / "worker.toml").write_text("".join(lines))

    def attach(self, certificate: dict) -> None:
        """Attaches the stack's worker policy to a certificate, and the certificate to the thing."""
        if self.thing != self.own_thing:
            attributes = {"tenant": self.tenant}
            if self.group:
                attributes["group"] = self.group
            payload = {"attributes": attributes}
            self.iot.create_thing(thingName=self.thing, attributePayload=payload)
        self.iot.attach_policy(policyName=self.policy, target=certificate["certificateArn"])
        self.iot.attach_thing_principal(
            thingName=self.thing, principal=certificate["certificateArn"]
        )

    def certificates(self) -> list[dict]:
        """Returns the thing's certificates, oldest first."""
        pages = self.iot.get_paginator("list_thing_principals").paginate(thingName=self.thing)
        arns = [arn for page in pages for arn in page["principals"] if ":cert/" in arn]
        found = [
            self.iot.describe_certificate(certificateId=arn.rpartition("/")[2])[
                "certificateDescription"
            ]
            for arn in arns
        ]
        return sorted(found, key=lambda certificate: certificate["creationDate"])

    def revoke_old(self) -> None:
        """Revokes and deletes every certificate except the newest."""
        *old, newest = self.certificates() or [None]
        if newest is None:
            sys.exit(f"{self.thing} has no certificate")
        if old and not self.confirmed and not self.has_used(newest):
            sys.exit(
                f"no answer of {self.thing} with the newest certificate {newest['certificateId']} was found, so that the"
                " older ones are not revoked: let the worker run a job and try again, or add --confirmed (make unenroll"
                " OLD=1 CONFIRMED=1) if its log says that it is connected with the new certificate"
            )

        for certificate in old:
            self.delete(certificate)
        print(f"{self.thing} keeps {newest['certificateId']}")

    def has_used(self, certificate: dict) -> bool:
        """Returns whether an answer has arrived over a connection with this certificate."""
        certificate_id = certificate["certificateId"]
        function = boto3.client("lambda").get_function_configuration(
            FunctionName=self.answer_function
        )
        logs = boto3.client("logs")
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=function["LoggingConfig"]["LogGroup"],
            startTime=int(certificate["creationDate"].timestamp()) * 1000,
            filterPattern=f'"{certificate_id}"',
        )
        try:
            return any(page["events"] for page in pages)
        except logs.exceptions.ResourceNotFoundException:
            # Lambda creates the log group when the function runs for the first time.
            return False

    def remove(self) -> None:
        """Deletes all certificates, and the thing unless it belongs to the stack."""
        for certificate in self.certificates():
            self.delete(certificate)
        if self.thing != self.own_thing:
            self.iot.delete_thing(thingName=self.thing)
            print(f"deleted the thing {self.thing}")

    def delete(self, certificate: dict) -> None:
        """Revokes a certificate, which ends its connections, and deletes it."""
        certificate_id, arn = certificate["certificateId"], certificate["certificateArn"]
        self.iot.update_certificate(certificateId=certificate_id, newStatus="REVOKED")
        for policy in self.iot.list_attached_policies(target=arn)["policies"]:
            self.iot.detach_policy(policyName=policy["policyName"], target=arn)
        self.iot.detach_thing_principal(thingName=self.thing, principal=arn)

        # AWS IoT Core detaches asynchronously and refuses to delete the certificate until then.
        for attempt in range(10):
            try:
                self.iot.delete_certificate(certificateId=certificate_id)
                break
            except self.iot.exceptions.DeleteConflictException:
                if attempt == 9:
                    raise
                time.sleep(1)
        print(f"revoked and deleted the certificate {certificate_id}")

    def command(self, action: str) -> str:
        """Returns the command line that runs this script for the same worker."""
        thing = f" --thing {self.thing}" if self.thing != self.own_thing else ""
        return f"infra/enroll_worker.py --stack {self.stack}{thing} {action}"

    def print_cleanup(self, certificate: dict) -> None:
        """Prints the certificate's id and the command that deletes the certificate."""
        print(f"certificate id: {certificate['certificateId']}")
        print(f"to delete it again (before you delete the stack): {self.command('--remove')}")


def write_secret(path: pathlib.Path, text: str) -> None:
    """Writes a file that only this user can read. It must not exist."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
