"""Seals a task token into two links, with a key from Secrets Manager."""

import base64
import hashlib
import json
import os

import boto3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

secret = boto3.client("secretsmanager").get_secret_value(SecretId="approval")["SecretString"]
key = AESGCM(hashlib.sha256(secret.encode()).digest())


def link(event, decision):
    nonce = os.urandom(12)
    sealed = nonce + key.encrypt(nonce, json.dumps({**event, "Decision": decision}).encode(), None)
    return f"{event['Page']}?ask={base64.urlsafe_b64encode(sealed).decode()}"


def handler(event, _context):
    return {"Approve": link(event, "approve"), "Reject": link(event, "reject")}
