"""Gives a worker its identity: a certificate for the thing that template.yml made, and a configuration.

    enroll_worker.py --stack postern --folder certs/ [--thing NAME] [--tenant NAME] [--endpoint HOST:PORT] [--ca FILE]

Makes a key and a certificate in AWS IoT Core, attaches the stack's worker policy to the certificate and the
certificate to the thing, and writes `cert.pem`, `key.pem` (readable by you only) and `worker.toml` into the
folder: `postern-worker --config FOLDER/worker.toml` is then all it takes. For a second worker, or another
tenant's, name a `--thing` (made if it is not there) and its `--tenant`.

Credentials and region come from where the AWS CLI takes them. The README shows the same steps as AWS CLI
commands.
"""

import argparse
import os
import pathlib
import sys

import boto3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", required=True, help="the CloudFormation stack's name")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="where the files go")
    parser.add_argument("--thing", help="the worker's name; the stack's own thing unless given")
    parser.add_argument("--tenant", help="the worker's tenant; the stack's default unless given")
    parser.add_argument("--endpoint", help="the broker; AWS IoT Core's data endpoint unless given")
    parser.add_argument(
        "--ca", type=pathlib.Path, help="the broker's CA; the system's CAs unless given"
    )
    arguments = parser.parse_args()

    folder: pathlib.Path = arguments.folder
    if (folder / "cert.pem").exists():
        sys.exit(
            f"{folder / 'cert.pem'} is there already: this worker has its identity; choose another --folder"
        )

    stacks = boto3.client("cloudformation").describe_stacks(StackName=arguments.stack)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}
    thing = arguments.thing or outputs["WorkerThingName"]
    tenant = arguments.tenant or outputs["Tenant"]

    iot = boto3.client("iot")
    if arguments.thing:
        iot.create_thing(thingName=thing, attributePayload={"attributes": {"tenant": tenant}})
    certificate = iot.create_keys_and_certificate(setAsActive=True)
    iot.attach_policy(policyName=outputs["WorkerPolicyName"], target=certificate["certificateArn"])
    iot.attach_thing_principal(thingName=thing, principal=certificate["certificateArn"])
    endpoint = (
        arguments.endpoint or iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"]
    )

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cert.pem").write_text(certificate["certificatePem"])
    with os.fdopen(
        os.open(folder / "key.pem", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
    ) as key:
        key.write(certificate["keyPair"]["PrivateKey"])
    settings = {"endpoint": endpoint, "client_id": thing, "tenant": tenant}
    files = {"cert": folder / "cert.pem", "key": folder / "key.pem", "ca": arguments.ca}
    settings |= {name: str(path.resolve()) for name, path in files.items() if path}
    lines = [f'{name} = "{value}"\n' for name, value in settings.items()]
    (folder / "worker.toml").write_text("".join(lines))
    print(f"worker {thing} of tenant {tenant}: {folder / 'worker.toml'}")


if __name__ == "__main__":
    main()
