"""Grids of one's own images: which images, a page of them by cursor, days, and how many there are."""

import datetime as dt
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.db.models import F
from django.http import QueryDict
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.http import urlencode

from accounts.models import User
from generation.models import GeneratedImage, GeneratedImageQuerySet, ImageCount

from .filters import Filters, Order
from .models import Collection
from .panels import images_word

PAGE_IMAGES = 40
MAX_PAGE_IMAGES = 200
"""A reload shows again what was loaded, up to this many; beyond, the last of them."""
MOST_COUNTED = 1000
"""More matches than this are not counted, so that a million cost no more."""
AUTOMATIC_PAGES = 2
"""How often more is loaded by scrolling alone."""
COLLECTION_ORDER = Order("order", "In its own order", ("position", "number"), False)


@dataclass
class Grid:
    """Images of one person at one address: a view of the gallery or a collection, with filters."""

    view: str
    url: str
    user: User
    images: GeneratedImageQuerySet
    filters: Filters
    collection: Collection | None = None

    @property
    def matches(self) -> GeneratedImageQuerySet:
        return self.filters.apply(self.images, self.user.pk)

    @property
    def query(self) -> str:
        return self.filters.query

    def address(self, **more: str) -> str:
        query = urlencode(self.filters.values | {name: value for name, value in more.items() if value})
        return f"{self.url}?{query}" if query else self.url

    def count(self) -> "Count":
        """How many match. The whole gallery's total is kept by the database; all else is counted."""
        if self.view == "gallery" and not self.filters.narrowing:
            return Count(ImageCount.kept_by(self.user))
        number = self.matches.order_by().values("pk")[: MOST_COUNTED + 1].count()
        return Count(min(number, MOST_COUNTED), number > MOST_COUNTED)


@dataclass(frozen=True)
class Count:
    """A number of images; `capped`: there are more."""

    number: int
    capped: bool = False

    def __str__(self) -> str:
        return f"More than {self.number:,} images" if self.capped else images_word(self.number)

    @property
    def all_words(self) -> str:
        """For "Select …": `all 128 images`."""
        if self.capped:
            return f"all images, more than {self.number:,}"
        return "the one image" if self.number == 1 else f"all {self.number:,} images"


def grid_of(user: User, view: str, query: Mapping[str, str], slug: str = "") -> Grid:
    """The grid of a view. Raises Collection.DoesNotExist."""
    own = GeneratedImage.objects.owned_by(user)
    if view == "collection":
        collection = Collection.objects.owned_by(user).get(slug=slug)
        images = own.kept().filter(collection_items__collection=collection)
        images = images.annotate(position=F("collection_items__position"))
        return Grid(
            view, reverse(view, args=[slug]), user, images, Filters.read(query, COLLECTION_ORDER), collection=collection
        )
    images = {"gallery": own.kept(), "gallery-favourites": own.kept().filter(favourite=True), "trash": own.trashed()}[
        view
    ]
    return Grid(view, reverse(view), user, images, Filters.read(query))


def grid_at(user: User, address: str) -> Grid | None:
    """The grid that an address of this site shows to `user`, None where it shows none."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    try:
        match = resolve(parts.path)
    except Resolver404:
        return None
    if match.url_name not in ("gallery", "gallery-favourites", "trash", "collection"):
        return None
    try:
        return grid_of(user, match.url_name, QueryDict(parts.query[:2000]), match.kwargs.get("slug", ""))
    except Collection.DoesNotExist:
        return None


@dataclass
class Page:
    """A stretch of a grid. `newer`, `older`: cursors of what lies before and after it, where something does."""

    rows: list[GeneratedImage]
    older: str = ""
    newer: str = ""
    last: str = ""
    """The cursor of its last image."""
    days: list[dict] = field(default_factory=list)


def page_of(grid: Grid, query: Mapping[str, str]) -> Page:
    """The page that `before`, `after` or `upto` of an address ask for, else the first."""
    order, matches = grid.filters.order, grid.matches.select_related("generation")
    before, after, upto = (order.read_cursor(query.get(name)) for name in ("before", "after", "upto"))
    forward = matches.order_by(*order.fields)
    backward = matches.order_by(*order.reverse.fields)
    newer = older = False
    if before:
        rows, older = _cut(list(forward.filter(order.beyond(before))[: PAGE_IMAGES + 1]), PAGE_IMAGES)
        newer = True
    elif after:
        rows, newer = _cut(list(backward.filter(order.reverse.beyond(after))[: PAGE_IMAGES + 1]), PAGE_IMAGES)
        rows.reverse()
        older = True
    elif upto:
        loaded = backward.filter(order.reverse.beyond(upto, inclusive=True))
        rows, newer = _cut(list(loaded[: MAX_PAGE_IMAGES + 1]), MAX_PAGE_IMAGES)
        rows.reverse()
        missing = PAGE_IMAGES - len(rows)
        following = list(forward.filter(order.beyond(upto))[: max(missing, 0) + 1])
        rows, older = rows + following[: max(missing, 0)], len(following) > max(missing, 0)
    else:
        rows, older = _cut(list(forward[: PAGE_IMAGES + 1]), PAGE_IMAGES)
    return Page(
        rows,
        older=order.cursor(rows[-1]) if rows and older else "",
        newer=order.cursor(rows[0]) if rows and newer else "",
        last=order.cursor(rows[-1]) if rows else "",
        days=_days(rows, query.get("day", "")) if order.by_day else _undated(rows),
    )


def _cut(rows: list[GeneratedImage], limit: int) -> tuple[list[GeneratedImage], bool]:
    return rows[:limit], len(rows) > limit


def _undated(rows: list[GeneratedImage]) -> list[dict]:
    return [{"day": None, "images": rows, "continued": True, "name": ""}] if rows else []


def _days(rows: list[GeneratedImage], continued: str) -> list[dict]:
    """Day sections; the first goes without a heading where it continues the day of the page before."""
    days = []
    for day, group in itertools.groupby(rows, key=lambda image: image.created_at.date()):
        days.append(
            {
                "day": day,
                "images": list(group),
                "continued": not days and f"{day:%Y-%m-%d}" == continued,
                "name": _day_name(day),
            }
        )
    return days


def _day_name(day: dt.date) -> str:
    ago = (timezone.now().date() - day).days
    return {0: "Today", 1: "Yesterday"}.get(ago, "")
