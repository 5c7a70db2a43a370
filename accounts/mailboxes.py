"""Mailboxes behind e-mail addresses: aliases that end in the same one, and domains of throw-away addresses.

`THROWAWAY_DOMAINS` adds domains to the kept list beside this module.
"""

import functools
from pathlib import Path

from django.conf import settings

LIST = Path(__file__).parent / "throwaway_domains.txt"
_SAME_DOMAIN = {
    "googlemail.com": "gmail.com",
    "pm.me": "proton.me",
    "protonmail.com": "proton.me",
    "ya.ru": "yandex.ru",
}
_DOTS_MEAN_NOTHING = {"gmail.com"}
_MINUS_MEANS_PLUS = {"yahoo.com", "ymail.com", "rocketmail.com"}


def mailbox_of(email: str) -> str:
    """The mailbox that mail to `email` ends in, as far as it can be told: `A.Nn+art@googlemail.com` is
    `ann@gmail.com`."""
    name, _, domain = email.strip().lower().rpartition("@")
    domain = _SAME_DOMAIN.get(domain, domain)
    name = name.partition("-" if domain in _MINUS_MEANS_PLUS else "+")[0] or name
    if domain in _DOTS_MEAN_NOTHING:
        name = name.replace(".", "")
    return f"{name}@{domain}"


def is_throwaway(email: str) -> bool:
    """Whether the address belongs to a service that gives addresses away for a few minutes."""
    labels = email.strip().lower().rpartition("@")[2].split(".")
    domains = (".".join(labels[start:]) for start in range(len(labels) - 1))
    return any(domain in _listed() or domain in settings.THROWAWAY_DOMAINS for domain in domains)


@functools.cache
def _listed() -> frozenset[str]:
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))
