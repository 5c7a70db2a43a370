"""The composer's draft: one per account, the whole form as it was last typed, on whichever page or device.

`Draft.fields` holds the form's fields. Beside them `SENT` remembers the prompt that was sent off last, and `ASIDE` the
draft that was put aside, so that starting afresh, or opening an image's settings, can be undone.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from django.utils import timezone
from django.utils.datastructures import MultiValueDict

from accounts.models import User

from .composer_fields import COMPOSER_FIELDS, PICTURES
from .forms import LORA, LORA_WEIGHT, ComposerForm
from .models import Draft

SENT, ASIDE = "_sent", "_aside"
KEPT_NAMES = {*COMPOSER_FIELDS, *PICTURES, "shape", "origin", LORA}
MAX_CHARACTERS = 50_000
"""Of all that is kept of one form; more is no form of ours."""
MAX_AGE = dt.timedelta(days=7)
"""How long ago something may have been typed that is saved only now."""

Fields = dict[str, Any]


def typed_fields(data: QueryDict) -> Fields:
    """What is kept of a form that was sent: text by the names of our fields, lists where there are several."""
    fields: Fields = {}
    for name, texts in data.lists():
        if name not in KEPT_NAMES and not name.startswith(LORA_WEIGHT):
            continue
        kept = [text.replace("\x00", "") for text in texts]
        fields[name] = kept if name == LORA else kept[-1]
    return fields if sum(len(str(value)) for value in fields.values()) <= MAX_CHARACTERS else {}


def values_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The composer's values that these fields stand for."""
    data = MultiValueDict(
        {name: value if isinstance(value, list) else [value] for name, value in fields.items() if name[:1] != "_"}
    )
    form = ComposerForm()
    return {
        name: field.widget.value_from_datadict(data, MultiValueDict(), name)
        for name, field in form.fields.items()
        if name != "client_token"
    }


def draft_of(user: User) -> Fields:
    """The fields of the account's draft, with SENT and ASIDE; empty where there is none."""
    draft = Draft.objects.owned_by(user).first()
    return draft.fields if draft and isinstance(draft.fields, dict) else {}


def is_empty(fields: Fields) -> bool:
    """Whether there is no form in it."""
    return all(name in (SENT, ASIDE) for name in fields)


def is_unsent(fields: Fields) -> bool:
    """Whether it holds words that were typed and not sent off."""
    prompt = str(fields.get("prompt") or "").strip()
    return bool(prompt) and prompt != fields.get(SENT)


def save_draft(user: User, data: QueryDict, age: float = 0.0) -> bool:
    """Keep what stands in a form that was last changed `age` seconds ago, unless something newer is kept already.

    A draft with unsent words is put aside when the form has another origin: it began with an image's settings, or
    with those of a job.
    """
    before, fields = draft_of(user), typed_fields(data)
    if not fields:
        return False
    if fields.get("origin", "") != before.get("origin", "") and is_unsent(before):
        fields[ASIDE] = _alone(before)
    elif before.get(ASIDE):
        fields[ASIDE] = before[ASIDE]
    if before.get(SENT):
        fields[SENT] = before[SENT]
    return _write(user, fields, timezone.now() - min(dt.timedelta(seconds=max(0.0, age)), MAX_AGE))


def note_sent(user: User, data: QueryDict) -> None:
    """The form was sent off: what it holds is no longer unsent, and what was put aside for it is done with."""
    fields = typed_fields(data)
    fields[SENT] = str(fields.get("prompt") or "").strip()
    _write(user, fields, timezone.now())


def start_afresh(user: User, data: QueryDict) -> None:
    """Put aside what stands in the form."""
    aside = typed_fields(data) or _alone(draft_of(user))
    _write(user, {ASIDE: aside} if aside else {}, timezone.now())


def put_back(user: User) -> None:
    """The draft that was put aside is the draft again, and the other way round."""
    fields = draft_of(user)
    aside = fields.get(ASIDE)
    if aside:
        rest = _alone(fields)
        _write(user, aside | ({ASIDE: rest} if rest.get("prompt") else {}), timezone.now())


def _alone(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name not in (SENT, ASIDE)}


def _write(user: User, fields: Fields, typed_at: dt.datetime) -> bool:
    """The last to be typed stays, in whatever order they arrive; whether these fields did."""
    drafts = Draft.objects.owned_by(user)
    if drafts.filter(updated_at__lte=typed_at).update(fields=fields, updated_at=typed_at):
        return True
    if drafts.exists():
        return False
    Draft.objects.bulk_create([Draft(owner=user, fields=fields)], ignore_conflicts=True)
    # `auto_now` has written the time of saving.
    drafts.update(updated_at=typed_at)
    return True
