"""Pictures in the composer: files that were dropped, pasted or chosen, and the roles that they have.

Each role takes one picture. `arrange` does what a form asks for, whether scripts sent it at once or a plain form with
everything else: keep its files, change roles, take pictures away.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict
from django.urls import reverse
from django.utils.datastructures import MultiValueDict

from accounts.models import User
from generation.catalog import Abilities
from generation.engine.catalog.control_kinds import ALWAYS_MADE
from generation.engine.request.schema import Kind
from generation.fields import FIELDS
from generation.models import GeneratedImage, Upload
from generation.refusals import REFUSALS
from generation.storage.uploads import read_picture

from .composer_fields import COMPOSER_FIELDS, MASK, PICTURE_OF, ROLES, START, is_chosen
from .controls import available_roles

ADDED_FILES, ADDED_PICTURE, ADDED_ROLE = ("picture", "camera"), "picture_id", "picture_role"
"""Form fields of new pictures: files, the id of an image or upload, and the role that they shall have."""
REMOVE, ROLE = "remove_picture", "role_of."
"""Form fields: the role whose picture goes, and for each role the one that its picture shall have."""
ROLE_WORDS = {"start": START}
"""What an address may call a role, beside its name."""
SHOWN_MAPS = ("canny", "scribble")
"""Kinds of control map that are made quickly enough to be shown."""


@dataclass(frozen=True, slots=True)
class Card:
    """A picture in the composer, whose id the form has in `field`. `masked`: only a part of it changes, or it grows."""

    role: str
    field: str
    picture: str
    thumbnail: str
    mask: str
    names: list[str]
    masked: bool
    map_url: str
    errors: list[str]


def arrange(user: User, data: QueryDict, files: MultiValueDict, abilities: Abilities) -> list[str]:
    """Put new pictures, changed roles and removals into the form's `data`; returns what could not be done.

    Files become uploads of `user`, and are named in `data` from then on.
    """
    roles = available_roles(abilities)
    if (role := data.get(REMOVE)) in ROLES:
        _take_away(data, role)
    _change_roles(data, roles)
    added: list[Any] = [file for name in ADDED_FILES for file in files.getlist(name) if file]
    added += [text for text in data.getlist(ADDED_PICTURE) if text]
    problems = []
    for picture in added:
        role = _role_for(data, roles)
        if not role:
            problems.append(_no_room(abilities, roles))
            break
        try:
            kept = picture if isinstance(picture, str) else str(read_picture(user, picture, role).pk)
        except REFUSALS as refusal:
            problems.append(str(refusal))
            continue
        place(data, role, kept)
    for name in (REMOVE, ADDED_PICTURE, ADDED_ROLE, *(f"{ROLE}{role}" for role in ROLES)):
        data.pop(name, None)
    return problems


def place(data: Any, role: str, picture: str) -> None:
    """Give a picture this role, with what is usual for it."""
    data[PICTURE_OF[role]] = picture
    for name, field in COMPOSER_FIELDS.items():
        if name.startswith(f"{role}.") and field.kind is Kind.BOOLEAN and field.default:
            data[name] = "on"
    if role == START:
        data.pop(MASK, None)
        data["shape"] = ""


def _take_away(data: Any, role: str) -> None:
    names = [PICTURE_OF[role], *([MASK, "expand"] if role == START else [])]
    for name in names:
        data.pop(name, None)


def _change_roles(data: QueryDict, roles: list[str]) -> None:
    """A picture that takes another's role leaves it its own."""
    for role in ROLES:
        wanted = data.get(f"{ROLE}{role}")
        if wanted == role or wanted not in roles or not is_chosen(data.get(PICTURE_OF[role])):
            continue
        moved, other = str(data[PICTURE_OF[role]]), str(data.get(PICTURE_OF[wanted]) or "")
        _take_away(data, role)
        place(data, wanted, moved)
        if other:
            place(data, role, other)
        return


def _role_for(data: QueryDict, roles: list[str]) -> str:
    """The role of a picture that is new: the one that is asked for, else the first that is free."""
    asked = ROLE_WORDS.get(data.get(ADDED_ROLE, ""), data.get(ADDED_ROLE, ""))
    if asked in roles:
        return asked
    return next((role for role in roles if role != "upscale" and not is_chosen(data.get(PICTURE_OF[role]))), "")


def _no_room(abilities: Abilities, roles: list[str]) -> str:
    title = abilities.spec.title
    if not [role for role in roles if role != "upscale"]:
        return f"{title} draws from words only: it takes no pictures here."
    return f"{title} takes no more pictures at once. Remove one first."


def role_named(word: str) -> str:
    """The role that an address means, or ""."""
    role = ROLE_WORDS.get(word, word)
    return role if role in ROLES else ""


def cards(user: User, values: dict[str, Any], abilities: Abilities, errors: Mapping[str, Any]) -> list[Card]:
    """The pictures that the form has, in the order of their roles. `errors`: those of the form."""
    return [
        _card(user, role, values, abilities, list(errors.get(PICTURE_OF[role], ())))
        for role in available_roles(abilities)
        if is_chosen(values.get(PICTURE_OF[role]))
    ]


def _card(user: User, role: str, values: dict[str, Any], abilities: Abilities, errors: list[str]) -> Card:
    picture = str(values[PICTURE_OF[role]])
    mask = str(values.get(MASK) or "") if role == START else ""
    thumbnail = thumbnail_url(user, picture)
    return Card(
        role=role,
        field=PICTURE_OF[role],
        picture=picture,
        thumbnail=thumbnail,
        mask=mask,
        names=[name for name in COMPOSER_FIELDS if name.startswith(f"{role}.")],
        masked=role == START and bool(mask or values.get("expand")),
        map_url=_map_url(role, picture, values, abilities) if thumbnail else "",
        errors=errors,
    )


def _map_url(role: str, picture: str, values: dict[str, Any], abilities: Abilities) -> str:
    """Where the control map of the picture can be seen, for kinds that are made quickly."""
    if role != "control" or not values.get("control.preprocess"):
        return ""
    kind = next((net.kind for net in abilities.controls if net.key == values.get("control.key")), "")
    if kind not in SHOWN_MAPS or kind not in ALWAYS_MADE:
        return ""
    return reverse("create-picture-map", args=[picture, kind])


def thumbnail_url(user: User, picture: str) -> str:
    """Where the small picture of an upload or image is; "" where `user` has no such picture."""
    try:
        picture_id = uuid.UUID(picture)
    except ValueError:
        return ""
    if Upload.objects.owned_by(user).filter(pk=picture_id).exists():
        return reverse("create-picture", args=[picture_id])
    if GeneratedImage.objects.visible_to(user).filter(id=picture_id).exists():
        return reverse("image-thumbnail", args=[picture_id])
    return ""


def drop_missing(user: User, values: dict[str, Any]) -> list[str]:
    """Take pictures away that are no longer kept, and say so."""
    notes = []
    for role, name in PICTURE_OF.items():
        if is_chosen(values.get(name)) and not thumbnail_url(user, str(values[name])):
            _take_away(values, role)
            notes.append(f"“{FIELDS[role].label}” was left out: its picture is no longer kept.")
    if is_chosen(values.get(MASK)) and not thumbnail_url(user, str(values[MASK])):
        values.pop(MASK)
        notes.append(f"“{FIELDS[MASK].label}” was left out: its picture is no longer kept.")
    return notes
