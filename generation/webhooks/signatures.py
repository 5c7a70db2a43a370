"""Secrets of webhooks, and the refusal of messages to us that are not signed (Standard Webhooks)."""

import base64
import secrets
from collections.abc import Mapping

from accounts.refusals import Refusal
from generation.engine.remote import signatures


class BadSignature(Refusal):
    """A message to us is not signed with the right secret, or not now."""

    code = "invalid_signature"
    http_status = 401


def new_secret() -> str:
    """A secret of 256 random bits, as `whsec_<base64>`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise BadSignature unless `body` came with a signature by `secret` that is at most five minutes old."""
    try:
        signatures.verify(secret, headers, body)
    except signatures.SignatureError as error:
        raise BadSignature(str(error)) from None
