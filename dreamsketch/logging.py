"""Log formatters and filter: lines carry the request's and the generation's id, and never a secret."""

import json
import logging
import re
import time

from generation.log import current_fields

_SECRET = re.compile(
    r"(dsk_[0-9a-f]{8}_|whsec_)[A-Za-z0-9_+/=-]+|((?:rediss?|postgres(?:ql)?)://[^:@/\s]*:)[^@\s]+(?=@)"
)


class ContextFilter(logging.Filter):
    """Puts the fields of `generation.log.log_context` on each record."""

    def filter(self, record):
        record.context = current_fields()
        return True


def mask(text: str) -> str:
    """`text` without API keys, secrets of webhooks and passwords in URLs."""
    return _SECRET.sub(lambda match: f"{match[1] or match[2]}***", text)


class TextFormatter(logging.Formatter):
    """`08:15:02 WARNING generation.queue.jobs Swept: 1 requeued [generation=…]`"""

    def __init__(self):
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S")

    def format(self, record):
        context = " ".join(f"{name}={value}" for name, value in getattr(record, "context", {}).items())
        return mask(super().format(record) + (f" [{context}]" if context else ""))


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record):
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "context", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return mask(json.dumps(entry, ensure_ascii=False))
