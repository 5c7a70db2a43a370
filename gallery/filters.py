"""What the gallery may be narrowed and ordered by: read from an address, applied to images, shown as chips."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.http import urlencode

from generation.catalog import catalog
from generation.models import GeneratedImageQuerySet, Visibility
from generation.prompts.styles import STYLES

from .panels import model_title
from .search import MAX_SEARCH, matching

MODES = {
    "txt2img": "From words",
    "img2img": "From a picture",
    "inpaint": "Edited",
    "outpaint": "Extended",
    "upscale": "Enlarged",
}
SHAPES = {"square": "Square", "landscape": "Landscape", "portrait": "Portrait"}
SIZES = {"small": "Up to 512 px", "medium": "Up to 1024 px", "large": "Up to 2048 px", "huge": "Over 2048 px"}
SOURCES = {"yes": "With a source picture", "no": "From words alone"}
FAVOURITES = {"yes": "Favourites", "no": "Not favourites"}
DAYS = {"1": "Last 24 hours", "7": "Last 7 days", "30": "Last 30 days", "365": "Last 365 days"}
NO_STYLE = "none"
MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Order:
    """An order of images, by columns that all go the same way; `number` is always the last, so that none are equal."""

    name: str
    label: str
    columns: tuple[str, ...]
    descending: bool
    by_day: bool = False

    @property
    def fields(self) -> list[str]:
        return [f"-{column}" for column in self.columns] if self.descending else list(self.columns)

    @property
    def reverse(self) -> "Order":
        return Order(self.name, self.label, self.columns, not self.descending, self.by_day)

    def cursor(self, image: Any) -> str:
        """The place of `image` in this order, for an address."""
        return ".".join(str(_to_number(self._value(image, column))) for column in self.columns)

    @staticmethod
    def _value(image: Any, column: str) -> Any:
        return getattr(image, column)

    def read_cursor(self, text: str | None) -> list[Any] | None:
        """The values of a cursor, None where it is none of this order."""
        parts = (text or "").split(".")
        if len(parts) != len(self.columns) or not all(re.fullmatch(r"[0-9]{1,18}", part) for part in parts):
            return None
        try:
            return [_of_column(column, int(part)) for column, part in zip(self.columns, parts, strict=True)]
        except (OverflowError, ValueError):
            return None

    def beyond(self, place: list[Any], *, inclusive: bool = False) -> Q:
        """Those that come after a place in this order (with `inclusive`, it too)."""
        comparison = "lt" if self.descending else "gt"
        *first, last = zip(self.columns, place, strict=True)
        after = Q(**{f"{last[0]}__{comparison}{'e' if inclusive else ''}": last[1]})
        for column, value in reversed(first):
            # The first half alone is what an index can begin at.
            after = Q(**{f"{column}__{comparison}e": value}) & (Q(**{f"{column}__{comparison}": value}) | after)
        return after


def _to_number(value: Any) -> int:
    if isinstance(value, dt.datetime):
        return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return value


def _of_column(column: str, number: int) -> Any:
    if column == "created_at":
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=number)
    if column != "number" and number > 2**31 - 1:
        raise ValueError("beyond the column")
    return number


ORDERS = {
    order.name: order
    for order in (
        Order("newest", "Newest first", ("number",), True, by_day=True),
        Order("oldest", "Oldest first", ("number",), False, by_day=True),
        Order("largest", "Largest first", ("pixels", "number"), True),
        Order("smallest", "Smallest first", ("pixels", "number"), False),
    )
}
BY_DATE = {
    # With a range of dates, so that the range is one stretch of an index.
    "newest": Order("newest", "Newest first", ("created_at", "number"), True, by_day=True),
    "oldest": Order("oldest", "Oldest first", ("created_at", "number"), False, by_day=True),
}


@dataclass(frozen=True)
class Choice:
    """One select of the filter bar. `choices`: value and name."""

    name: str
    label: str
    any_label: str
    choices: dict[str, str]
    wide_open: bool = False
    """Whether other values are allowed too: of a model that is no longer offered."""

    def condition(self, value: str) -> Q:
        match self.name:
            case "style":
                return Q(style="" if value == NO_STYLE else value)
            case "favourite":
                return Q(favourite=value == "yes")
            case "source":
                return Q(has_source=value == "yes")
        return Q(**{self.name: value})


def choices() -> list[Choice]:
    models = {spec.key: spec.title for spec in catalog()}
    styles = {key: style.title for key, style in STYLES.items()} | {NO_STYLE: "No style"}
    return [
        Choice("model", "Model", "Any model", models, wide_open=True),
        Choice("style", "Style", "Any style", styles, wide_open=True),
        Choice("mode", "Made", "Made in any way", MODES),
        Choice("source", "Source", "With or without source", SOURCES),
        Choice("shape", "Shape", "Any shape", SHAPES),
        Choice("size", "Size", "Any size", SIZES),
        Choice("visibility", "Who can see it", "Seen by anyone", dict(Visibility.choices)),
        Choice("favourite", "Favourites", "Favourites and others", FAVOURITES),
    ]


@dataclass(frozen=True)
class Chip:
    """A filter that is on: what it says, the field that it empties, and the address without it."""

    name: str
    label: str
    without: str


@dataclass
class Filters:
    """The filters of an address; what makes no sense there counts as not given."""

    values: dict[str, str]
    selects: list[Choice] = field(default_factory=choices)
    own_order: Order | None = None
    """The order of a collection, which comes first there."""

    @classmethod
    def read(cls, query: Mapping[str, str], own_order: Order | None = None) -> "Filters":
        selects = choices()
        given = {name: str(query.get(name, "")).replace("\x00", "").strip() for name in NAMES}
        values = {"q": given["q"][:MAX_SEARCH]}
        for select in selects:
            value = given[select.name][:80]
            values[select.name] = value if value in select.choices or select.wide_open else ""
        values["days"] = given["days"] if given["days"] in DAYS else ""
        for name in ("since", "until"):
            values[name] = given[name] if _date(given[name]) else ""
        first_order = own_order.name if own_order else "newest"
        known = given["sort"] in ORDERS and given["sort"] != first_order
        values["sort"] = given["sort"] if known else ""
        return cls({name: value for name, value in values.items() if value}, selects, own_order)

    @property
    def query(self) -> str:
        """As a query string, always the same for the same filters."""
        return urlencode(self.values)

    @property
    def narrowing(self) -> dict[str, str]:
        """Those that leave images out: all but the order."""
        return {name: value for name, value in self.values.items() if name != "sort"}

    @property
    def is_dated(self) -> bool:
        return any(name in self.values for name in ("days", "since", "until"))

    @property
    def advanced_count(self) -> int:
        """How many filters are on beside the search field."""
        return len([name for name in self.narrowing if name != "q"])

    @cached_property
    def order(self) -> Order:
        name = self.values.get("sort")
        if name is None and self.own_order:
            return self.own_order
        name = name or "newest"
        return BY_DATE[name] if self.is_dated and name in BY_DATE else ORDERS[name]

    @property
    def orders(self) -> list[tuple[str, str]]:
        """Value and name of every order, the usual one first with an empty value."""
        first = self.own_order or ORDERS["newest"]
        return [("", first.label)] + [(o.name, o.label) for o in ORDERS.values() if o.name != first.name]

    def apply(self, images: GeneratedImageQuerySet, owner_id: int) -> GeneratedImageQuerySet:
        """Those of `images`, all of one owner, that match; unordered."""
        for select in self.selects:
            if value := self.values.get(select.name):
                images = images.filter(select.condition(value))
        if days := self.values.get("days"):
            images = images.filter(created_at__gte=timezone.now() - dt.timedelta(days=int(days)))
        if since := _date(self.values.get("since", "")):
            images = images.filter(created_at__gte=_midnight(since))
        if until := _date(self.values.get("until", "")):
            images = images.filter(created_at__lt=_midnight(until) + dt.timedelta(days=1))
        if text := self.values.get("q"):
            images = matching(images, owner_id, text)
        return images

    def chips(self) -> list[Chip]:
        names = {select.name: select for select in self.selects}
        chips = []
        for name, value in self.narrowing.items():
            without = urlencode({other: kept for other, kept in self.values.items() if other != name})
            chips.append(Chip(name, _chip_label(name, value, names.get(name)), without))
        return chips

    def words(self) -> str:
        """The filters in one line: `SDXL + last 30 days`."""
        return " + ".join(chip.label for chip in self.chips())


NAMES = (
    *("q", "model", "style", "mode", "source", "shape", "size", "visibility", "favourite"),
    *("days", "since", "until", "sort"),
)
"""Every field of the filter form, in the order of an address."""


def _chip_label(name: str, value: str, select: Choice | None) -> str:
    match name:
        case "q":
            return f"“{value[:40]}{'…' if len(value) > 40 else ''}”"
        case "model":
            return model_title(value)
        case "days":
            return DAYS[value]
        case "since":
            return f"from {value}"
        case "until":
            return f"until {value}"
    return select.choices.get(value, value) if select else value


def _date(text: str) -> dt.date | None:
    try:
        day = parse_date(text)
    except ValueError:
        return None
    return day if day and 2000 <= day.year <= 2200 else None


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
