"""What htmx gets: fragments with the right headers, never a sign-in page inside a panel."""

import json

import pytest


def test_an_expired_sign_in_leads_to_the_sign_in_page_and_back(client, db, htmx):
    response = client.get("/gallery/?q=x", headers=htmx)
    assert response.status_code == 204
    assert response["HX-Redirect"] == "/accounts/login/?next=%2Fgallery%2F"


def test_other_redirects_change_the_page_too(anna, pro_user, make_image, htmx):
    image = make_image(pro_user)
    response = anna.post(f"/i/{image.short_id}/trash/", headers=htmx)
    assert response.status_code == 204 and response["HX-Redirect"] == "/gallery/"
    assert "moved to trash" in anna.get("/gallery/").content.decode(), "the message waits for the page"


def test_restoring_history_gets_the_whole_page(anna, htmx):
    page = anna.get("/gallery/", headers=htmx | {"HX-History-Restore-Request": "true"})
    assert "<html" in page.content.decode()


def test_pages_and_fragments_are_kept_apart_by_caches(anna, htmx):
    page, fragment = anna.get("/gallery/"), anna.get("/gallery/", headers=htmx)
    for response in (page, fragment):
        assert {"HX-Request", "HX-History-Restore-Request"} <= {name.strip() for name in response["Vary"].split(",")}
    assert page["Cache-Control"] == "private, no-cache" and fragment["Cache-Control"] == "private, no-store"


def test_announcements_survive_any_text(anna, htmx):
    response = anna.get("/gallery/", {"q": "größe ☃"}, headers=htmx)
    assert json.loads(response["HX-Trigger"])["announce"]["text"] == "0 images."


@pytest.mark.parametrize("path", ["/", "/create/", "/gallery/", "/settings/keys/", "/nope"])
def test_the_content_security_policy_allows_no_inline_scripts(anna, path):
    policy = anna.get(path)["Content-Security-Policy"]
    assert "script-src 'self';" in policy + ";" and "style-src 'self';" in policy + ";"


def test_undo_has_the_grid_shown_anew_where_it_is(anna, pro_user, make_image, htmx):
    image = make_image(pro_user)
    text = anna.post("/gallery/bulk/", {"action": "trash", "ids": [image.number]}, headers=htmx).content.decode()
    undo = "/gallery/undo/" + text.partition('action="/gallery/undo/')[2].partition('"')[0]
    response = anna.post(undo, headers=htmx)
    assert response.status_code == 200 and "gallery-refresh" in response["HX-Trigger"]
    image.refresh_from_db()
    assert image.deleted_at is None
