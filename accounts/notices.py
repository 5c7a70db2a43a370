"""Mail that tells people what happened to their account or pictures, sent beside the answer that it follows from.

How long a mail server takes must not hold up, nor tell a stranger that there is an account.
"""

import logging
import threading
from typing import Any

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

log = logging.getLogger(__name__)


def send_notice(template_prefix: str, email: str, context: dict[str, Any]) -> None:
    """Send what `<template_prefix>_subject.txt` and `_message.txt` say."""
    subject = " ".join(render_to_string(f"{template_prefix}_subject.txt", context).split())
    send_beside(EmailMessage(subject, render_to_string(f"{template_prefix}_message.txt", context), to=[email]))


def send_beside(message: EmailMessage) -> None:
    """Send it in a thread of its own; that it could not be sent is logged."""
    threading.Thread(target=_send, args=[message], daemon=True).start()


def _send(message: EmailMessage) -> None:
    try:
        message.send()
    except OSError as error:
        log.warning("A mail could not be sent (%s): %s", message.subject, error)
