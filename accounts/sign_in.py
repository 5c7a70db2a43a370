"""Limits on tries to sign in, counted in Postgres: they hold whatever happens to Redis, and between processes.

A try counts for the account from that address, for the account, and for the address. The last two would lock out
those who share an account's or an address's fate, so they do not count for whoever has signed in from there before.
What is locked says for how long, whether or not there is such an account.
"""

import datetime as dt
import hashlib
import ipaddress
from dataclasses import dataclass

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from .models import SignInTries

KNOWN_FOR = dt.timedelta(days=90)
"""So long a successful sign-in makes an account and an address know each other."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `tries` in `seconds`, counted from the first."""

    tries: int
    seconds: int


FROM_ADDRESS = Limit(5, 300)
OF_ACCOUNT = Limit(50, 3600)
OF_ADDRESS = Limit(100, 300)


class TooManyTries(Exception):
    """No password is looked at for `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def take_try(email: str, address: str) -> int:
    """Count a try before the password is looked at; how many are left from there. Raises TooManyTries."""
    account, origin = _digest(email.strip().lower()), _digest(_network(address))
    left = _count(account, origin, FROM_ADDRESS)
    if not _know_each_other(account, origin):
        _count(account, "", OF_ACCOUNT)
        _count("", origin, OF_ADDRESS)
    return left


def note_success(email: str, address: str) -> None:
    """The password was right: these tries are forgotten, and the two know each other from now on."""
    account, origin = _digest(email.strip().lower()), _digest(_network(address))
    if not _know_each_other(account, origin):
        # A right password is no attack on an account or by an address.
        _give_back(account, "")
        _give_back("", origin)
    SignInTries.objects.filter(account=account, origin=origin).update(tries=0, succeeded_at=Now())


def forget(email: str) -> None:
    """Unlock an account, since its owner has set a new password by mail."""
    SignInTries.objects.filter(account=_digest(email.strip().lower())).update(tries=0)


def prune() -> None:
    """Delete what counts no more."""
    old = Q(succeeded_at=None) | Q(succeeded_at__lt=Now() - KNOWN_FOR)
    SignInTries.objects.filter(old, window_ends__lt=Now()).delete()


def _count(account: str, origin: str, limit: Limit) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO accounts_signintries AS t (account, origin, tries, window_ends)"
            " VALUES (%s, %s, 1, clock_timestamp() + make_interval(secs => %s))"
            " ON CONFLICT (account, origin) DO UPDATE SET"
            "   tries = CASE WHEN t.window_ends <= clock_timestamp() THEN 1 ELSE least(t.tries, 1000000) + 1 END,"
            "   window_ends = CASE WHEN t.window_ends <= clock_timestamp() OR t.tries = 0"
            "     THEN excluded.window_ends ELSE t.window_ends END"
            " RETURNING tries, extract(epoch FROM window_ends - clock_timestamp())",
            [account, origin, limit.seconds],
        )
        tries, seconds = cursor.fetchone()
    if tries > limit.tries:
        raise TooManyTries(max(1, int(seconds) + 1))
    return limit.tries - tries


def _give_back(account: str, origin: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE accounts_signintries SET tries = greatest(0, tries - 1) WHERE account = %s AND origin = %s",
            [account, origin],
        )


def _know_each_other(account: str, origin: str) -> bool:
    known = SignInTries.objects.filter(account=account, origin=origin, succeeded_at__gt=Now() - KNOWN_FOR)
    return known.exists()


def _network(address: str) -> str:
    """The address, or of IPv6 the /64 that one household has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
