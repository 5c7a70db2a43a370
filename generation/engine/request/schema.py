"""How a request field is declared: its type, bounds, default, its names in every dialect, its words on a page.

The declarations themselves stand in `fields`, as attributes of the dataclasses that hold the values.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, replace
from enum import StrEnum
from typing import Any

from generation.engine.catalog.models import ModelSpec


class Kind(StrEnum):
    """What sort of value a field has."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    PICTURE = "picture"
    OBJECT = "object"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Offer:
    """What bounds, defaults and choices depend on: a model, and what this installation has beside it.

    `max_steps`: the most steps that the model takes with the sampler of the request.
    """

    spec: ModelSpec
    upscalers: tuple[str, ...]
    max_steps: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, both included, and the value of a field that is left out."""

    low: float
    high: float
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a request.

    Identity. `name`: in our JSON API and in diffusers; `attribute`: in the dataclass that holds it, and in the keyword
    arguments of `build_request`; `aliases`: further names in our JSON; `part`: the attribute of ImageRequest that
    the field is a part of, or "". `param`: what a refusal calls it.

    Value. `low`, `high`: bounds for any model, both included; `limits`: the bounds and default for one model, where
    these differ; `choices`: the words it may be, or a function of the offer that gives them; `default`: where it
    is left out; `required`: its part is nothing without it. An OBJECT or LIST holds instances of `of`; its `shorthand`
    is the kind of a single value that may stand for the object, and fills every field of that kind; with a `prefix`
    its fields may also stand beside the others, under prefixed names.

    Elsewhere. `column`: kept in a column of its own (else among the options); `a1111`: the name in the web UI's API;
    `a1111_offset`: what the web UI adds to our number; `infotext`: the name in its PNG text; `infotext_values`: how
    that text spells our values; `infotext_aliases`: how others spell the name.

    To people. `label`, and `technical` where engineers say something else; `help`: a sentence for the API's
    document; `hint`: a few words under the control; `step`: of the page's stepper, where the page has the control.
    """

    kind: Kind
    name: str = ""
    attribute: str = ""
    part: str = ""
    param: str = ""
    aliases: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    limits: Callable[[Offer], Limits] | None = None
    choices: tuple | Callable[[Offer], tuple] = ()
    default: Any = None
    required: bool = False
    of: type | None = None
    shorthand: Kind | None = None
    prefix: str | None = None
    column: bool = False
    a1111: str = ""
    infotext: str = ""
    infotext_values: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    a1111_offset: int = 0
    infotext_aliases: tuple[str, ...] = ()
    label: str = ""
    technical: str = ""
    help: str = ""
    hint: str = ""
    step: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names in our JSON; the first that has a value counts."""
        return (self.name, *self.aliases)

    @property
    def is_number(self) -> bool:
        return self.kind in (Kind.INTEGER, Kind.NUMBER)

    @property
    def is_scalar(self) -> bool:
        """Whether one word or number is all of it."""
        return self.kind not in (Kind.PICTURE, Kind.OBJECT, Kind.LIST)

    def to_infotext(self, value: Any) -> str:
        """`value` as A1111's PNG text spells it."""
        if self.infotext_values:
            return self.infotext_values[value]
        if self.kind is Kind.NUMBER:
            return f"{value + self.a1111_offset:g}"
        return str(value + self.a1111_offset if self.kind is Kind.INTEGER else value)

    def from_infotext(self, text: str) -> Any:
        """The value that such text stands for. Raises ValueError."""
        if self.infotext_values:
            return next((value for value, spelled in self.infotext_values.items() if spelled == text), self.default)
        if self.kind is Kind.BOOLEAN:
            return text.casefold() == "true"
        if self.kind is Kind.INTEGER:
            return int(text) - self.a1111_offset
        return float(text) - self.a1111_offset if self.kind is Kind.NUMBER else text

    def limits_for(self, offer: Offer) -> Limits:
        """Bounds and default for this model."""
        if self.limits is not None:
            return self.limits(offer)
        return Limits(_bound(self.low, -float("inf")), _bound(self.high, float("inf")), self.default)

    def choices_for(self, offer: Offer) -> tuple:
        return self.choices(offer) if callable(self.choices) else self.choices


def _bound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def declare(kind: Kind, *, default: Any = MISSING, **properties: Any) -> Any:
    """A dataclass attribute that is a request field. Without `default` a value must be given to the class."""
    required = default is MISSING
    field = Field(kind=kind, default=None if required else default, required=required, **properties)
    return dataclasses.field(default=default, metadata={"field": field})


def fields_of(holder: type, part: Field | None = None) -> tuple[Field, ...]:
    """The fields declared in the dataclass `holder`, in their order; `part`: the field whose `of` it is."""
    declared = []
    for attribute in dataclasses.fields(holder):
        field: Field = attribute.metadata["field"]
        name = (part.prefix or "" if part else "") + (field.name or attribute.name)
        declared.append(
            replace(
                field,
                name=name,
                attribute=attribute.name,
                part=part.attribute if part else "",
                param=field.param or (name if part is None or part.prefix is not None else part.name),
            )
        )
    return tuple(declared)
