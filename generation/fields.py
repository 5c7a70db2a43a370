"""The fields of a generation request at this site: the engine's table, and the style and visibility that we add.

API, pages, commands and dialects read FIELDS; services take its attributes as keyword arguments.
"""

from .engine.request import fields as engine
from .engine.request.schema import Field, Kind
from .models import Visibility
from .prompts.styles import STYLES

STYLE = Field(
    kind=Kind.CHOICE,
    name="style",
    attribute="style",
    param="style",
    choices=tuple(STYLES),
    default="",
    column=True,
    label="Style",
    help=f"Words joined to the prompt. One of: {', '.join(STYLES)}, or none.",
)
VISIBILITY = Field(
    kind=Kind.CHOICE,
    name="visibility",
    attribute="visibility",
    param="visibility",
    choices=tuple(Visibility.values),
    default=Visibility.PRIVATE,
    column=True,
    label="Who can see it",
)
FIELDS: dict[str, Field] = engine.FIELDS | {field.name: field for field in (STYLE, VISIBILITY)}
"""Every field that may stand at the top of a request in our JSON, by name."""
HIRES_FIELDS = {field.name: field for field in engine.HIRES_FIELDS}
"""Those of the second pass, which may stand there too."""
SCALARS = {field.name: field for field in FIELDS.values() if field.is_scalar}
