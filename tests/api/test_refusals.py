"""Every refusal has a code and an HTTP status, stands in the documentation, and is rendered by each dialect."""

import re
from pathlib import Path

import pytest
from django.test import RequestFactory
from django.urls import get_resolver
from rest_framework.request import Request

from accounts.refusals import Refusal
from generation.api.a1111.endpoint import handle as a1111_handle
from generation.api.http.errors import handle as native_handle
from generation.api.openai.endpoint import handle as openai_handle
from generation.engine.errors import InvalidRequest, UnknownModel

GUIDE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
DIALECT_ONLY = {"unknown_name"}
"""Codes that the native API never answers with; docs/api.md need not name them."""
OTHER_STATUSES = {
    # What the clients of a dialect expect.
    ("a1111", "unknown_model"): 404,
    ("openai", "prompt_rejected"): 400,
}


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def all_refusals() -> list[type]:
    _ = get_resolver().url_patterns  # imports every module that a request can reach
    kinds = (subclasses(Refusal) - {Refusal}) | subclasses(InvalidRequest)
    return sorted((kind for kind in kinds if not kind.__module__.startswith("tests.")), key=lambda kind: kind.__name__)


def make(kind: type) -> Exception:
    if kind is UnknownModel:
        return kind("nothing")
    refusal = kind("This is why \ud800.", param="steps")
    refusal.retry_after = 7
    return refusal


def documented() -> set[tuple[int, str]]:
    """(status, code) of each line in the table of docs/api.md."""
    pairs = set()
    for statuses, codes in re.findall(r"^\| ([\d, ]+) \| ([^|]+) \|", GUIDE, re.M):
        pairs |= {(int(status), code) for status in statuses.split(",") for code in re.findall(r"`(\w+)`", codes)}
    return pairs


def test_there_are_refusals_to_look_at():
    assert {"QuotaExceeded", "PromptRejected", "UnknownModel", "TooManyStreams", "BadSignature"} <= {
        kind.__name__ for kind in all_refusals()
    }


@pytest.mark.parametrize("kind", all_refusals(), ids=lambda kind: kind.__name__)
def test_each_refusal_names_its_code_and_status_and_the_guide_has_them(kind):
    assert re.fullmatch(r"[a-z_]+", kind.code) and 400 <= kind.http_status < 600
    assert kind.code in DIALECT_ONLY or (kind.http_status, kind.code) in documented()


def test_a_code_has_one_status():
    statuses = {(kind.code, kind.http_status) for kind in all_refusals()}
    assert len(statuses) == len({code for code, _ in statuses})


@pytest.mark.parametrize("kind", all_refusals(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("dialect", "handle"), [("native", native_handle), ("a1111", a1111_handle), ("openai", openai_handle)]
)
def test_each_dialect_renders_each_refusal(dialect, handle, kind):
    refusal = make(kind)
    response = handle(refusal, {"request": Request(RequestFactory().post("/"))})
    assert response.status_code == OTHER_STATUSES.get((dialect, kind.code), kind.http_status)
    assert response.headers.get("Retry-After") == (str(refusal.retry_after) if refusal.retry_after else None)
    message = str(refusal).replace("\ud800", "?")
    error = response.data["error"]
    if dialect == "a1111":
        assert (error, response.data["detail"]) == (kind.code, message)
    else:
        assert error["message"] == message
        assert error["code"] == kind.code or dialect == "openai"
