import pytest

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/gallery/"}


@pytest.fixture
def anna(page_client, pro_user):
    """The pro user's browser."""
    return page_client(pro_user)


@pytest.fixture
def stranger(page_client, other_user):
    return page_client(other_user)


@pytest.fixture
def htmx():
    """Request headers as htmx sends them."""
    return HTMX
