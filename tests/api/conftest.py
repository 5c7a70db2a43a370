"""Holding real answers against the OpenAPI document."""

import jsonschema
import pytest
from drf_spectacular.generators import SchemaGenerator

JSON = "application/json"


@pytest.fixture(scope="session")
def document():
    return SchemaGenerator().get_schema(request=None, public=True)


@pytest.fixture
def documented(document):
    """Asserts that an answer is one that the document promises for that operation, and returns its content."""

    def check(response, method: str, path: str):
        promised = document["paths"][path][method]["responses"]
        assert str(response.status_code) in promised, response.content
        content = promised[str(response.status_code)].get("content")
        if content is None:
            assert not response.content
            return None
        schema = content[response["Content-Type"].split(";")[0]]["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(response.json())
        return response.json()

    return check


@pytest.fixture
def refused():
    """Asserts that an answer is a refusal in the one shape, and returns its error."""

    def check(response, status: int, code: str | None = None, param: str | None = None):
        assert response.status_code == status, response.content[:500]
        assert response["Content-Type"] == JSON
        error = response.json()["error"]
        assert error["message"] and error["request_id"] == response["X-Request-Id"]
        assert code is None or error["code"] == code
        assert param is None or error.get("param") == param, error
        assert status not in (429, 503) or int(response["Retry-After"]) > 0
        return error

    return check
