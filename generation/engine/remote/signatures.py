"""Standard Webhooks signatures (HMAC-SHA256): the one place that signs and verifies messages between servers.

See "Signature scheme" at standardwebhooks.com. The site's webhooks, its remote engines and the serverless function
in `deploy/` use it, so it knows neither Django nor PyTorch.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

TOLERANCE_SECONDS = 300
"""How far the time of a message may be off."""


class SignatureError(ValueError):
    """A message is not signed with the right secret, or not now; the text says which."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One entry of the header `webhook-signature`. `timestamp`: Unix seconds; `secret`: text or `whsec_<base64>`."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode()


def signed_headers(secret: str, message_id: str, body: bytes, now: float | None = None) -> dict[str, str]:
    """The three headers of a message that is sent now (or at `now`, in Unix seconds)."""
    timestamp = int(time.time() if now is None else now)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """Raise SignatureError unless `body` came with a signature by `secret` that is at most five minutes old."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (message_id and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise SignatureError("The headers webhook-id, webhook-timestamp and webhook-signature are needed.")
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        raise SignatureError("The webhook-timestamp is more than five minutes off.")
    expected = sign(secret, message_id, int(timestamp), body).encode()
    # There may be several, as while a secret is being changed; compared as bytes, because text may be anything.
    signatures = headers.get("webhook-signature", "").encode("utf-8", "replace").split()
    if not any(hmac.compare_digest(expected, signature) for signature in signatures):
        raise SignatureError("The webhook-signature is wrong.")


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
