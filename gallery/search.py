"""Full-text search of one's images: what is typed as a query of the database's own words (migration 0009_search)."""

import re
from typing import Any

from django.db.models import BooleanField, F, Func

from generation.models import GeneratedImageQuerySet

MAX_SEARCH = 200
MAX_TERMS = 20
# A phrase in any pair of quotes that people type, else a word. A quote that was not closed yet begins a word.
_TERMS = re.compile(r'"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|「([^」]+)」|([^\s"]+)')


def terms_of(text: str) -> list[tuple[str, bool]]:
    """The phrases and words of a search, each with whether it was quoted: then its words are whole, else beginnings.

    >>> terms_of('fox "red boat" lig')
    [('fox', False), ('red boat', True), ('lig', False)]
    """
    terms = []
    for match in _TERMS.finditer(text[:MAX_SEARCH]):
        *quoted, word = match.groups()
        phrase = next((part for part in quoted if part), "")
        terms.append((phrase or word, bool(phrase)))
    return terms[:MAX_TERMS]


def matching(images: GeneratedImageQuerySet, owner_id: int, text: str) -> GeneratedImageQuerySet:
    """Those of `images`, all of that owner, whose title or prompt has every term of `text`."""
    return images.filter(_Matches(owner_id, terms_of(text)))


class _Matches(Func):
    """Whether the words of an image, which only the database knows, match."""

    output_field = BooleanField()

    def __init__(self, owner_id: int, terms: list[tuple[str, bool]]):
        # Only to know by which name the query calls the table.
        super().__init__(F("number"))
        self.owner_id, self.terms = owner_id, terms

    def as_sql(self, compiler: Any, connection: Any, *_arguments: Any, **_options: Any) -> tuple[str, tuple]:
        column: Any = self.get_source_expressions()[0]
        table = compiler.quote_name_unless_alias(column.alias)
        sql = f"{table}.search @@ generation_search_query(%s::bigint, %s::text[], %s::boolean[])"
        return sql, (self.owner_id, [term for term, _ in self.terms], [quoted for _, quoted in self.terms])
