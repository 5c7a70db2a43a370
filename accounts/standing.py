"""Whether callers are still who they were when they came: for what goes on after the request that began it.

Ordinary requests are checked one by one. An event stream lives for minutes, so its caller is looked at again and again:
the account may be suspended meanwhile, the key revoked, the session ended or the password changed.
"""

from collections.abc import Collection
from dataclasses import dataclass

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from .models import ApiKey, User


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asked, and by what: `key_id` an API key's, else `session_key` a session's, else only the account counts."""

    user_id: int
    key_id: int | None = None
    session_key: str | None = None


def caller_of(request: HttpRequest, user: User) -> Caller:
    """The caller of a request that `user` made, by key or by session."""
    key = getattr(request, "auth", None)
    if isinstance(key, ApiKey):
        return Caller(user.pk, key_id=key.pk)
    return Caller(user.pk, session_key=request.session.session_key)


def withdrawn(callers: Collection[Caller]) -> set[Caller]:
    """Those of `callers` who would be turned away now. Three queries, however many they are."""
    users = User.objects.filter(is_active=True).only("pk", "password").in_bulk({caller.user_id for caller in callers})
    key_ids = {caller.key_id for caller in callers if caller.key_id}
    keys = set(ApiKey.objects.active().filter(pk__in=key_ids).values_list("pk", flat=True)) if key_ids else set()
    session_keys = {caller.session_key for caller in callers if caller.session_key}
    sessions = Session.objects.filter(expire_date__gt=Now()).in_bulk(session_keys) if session_keys else {}

    def is_welcome(caller: Caller) -> bool:
        user = users.get(caller.user_id)
        if user is None:
            return False
        if caller.key_id:
            return caller.key_id in keys
        if caller.session_key:
            session = sessions.get(caller.session_key)
            return session is not None and _opens(session, user)
        return True

    return {caller for caller in callers if not is_welcome(caller)}


def _opens(session: Session, user: User) -> bool:
    """Whether a session is that of `user`, with the password as it is now. See `django.contrib.auth.get_user`."""
    data = session.get_decoded()
    digest = data.get(HASH_SESSION_KEY, "")
    return data.get(SESSION_KEY) == str(user.pk) and any(
        constant_time_compare(digest, valid)
        for valid in (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    )
