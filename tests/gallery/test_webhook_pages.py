"""Settings, webhooks: made with a secret shown once, tested, rotated, switched, deleted, and their deliveries."""

import re
import uuid

import pytest

from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import delivery, endpoints, events
from tests.receiver import Receiver

LIST = "/settings/webhooks/"
URL = "https://hooks.example.com/of-anna"
FORM = {"url": URL, "description": "shop", "events": ["generation.completed", "generation.failed"]}


@pytest.fixture
def endpoint(pro_user):
    return endpoints.create_endpoint(user=pro_user, url=URL)


@pytest.fixture
def page(endpoint):
    return f"{LIST}{endpoint.pk}/"


def test_a_new_webhook_shows_its_secret_once(anna, pro_user, htmx):
    assert "No webhooks yet" in anna.get(LIST).content.decode()
    made = anna.post(LIST, FORM, headers=htmx)
    assert made.status_code == 200 and "no-store" in made["Cache-Control"]
    secret = re.search(r"whsec_[\w+/=]{44}", made.content.decode())[0]
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.owner, endpoint.secret, endpoint.url) == (pro_user, secret, URL)
    assert endpoint.events == FORM["events"]
    for path in (LIST, f"{LIST}{endpoint.pk}/"):
        text = anna.get(path).content.decode()
        assert secret not in text and URL in text


def test_it_works_as_a_plain_page_too(anna):
    text = anna.post(LIST, FORM).content.decode()
    assert 'class="topbar"' in text and "whsec_" in text


@pytest.mark.parametrize(
    "sent",
    [
        {"url": ""},
        {"url": "http://hooks.example.com/"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://localhost/"},
        {"url": "https://a@hooks.example.com/"},
        {"url": "javascript:alert(1)"},
        {"url": "https://x.example/\x00"},
        {"url": "https://hooks.example.com/" + "x" * 1000},
        {"events": []},
        {"events": ["no.such"]},
        {"description": "x" * 101},
    ],
)
def test_a_bad_form_is_422_with_its_values(anna, endpoint, page, sent):
    for path in (LIST, page):
        response = anna.post(path, FORM | sent)
        assert response.status_code == 422 and "field-error" in response.content.decode(), path
    assert WebhookEndpoint.objects.get().events == list(events.EVENTS)


def test_what_people_write_is_shown_as_text(anna):
    anna.post(LIST, FORM | {"description": "<b>x</b>", "url": URL + "?a=1&b=2'"})
    text = anna.get(LIST).content.decode()
    assert "<b>x</b>" not in text and "&lt;b&gt;x" in text and "a=1&amp;b=2&#x27;" in text


def test_changing_it(anna, endpoint, page):
    text = anna.get(page).content.decode()
    assert text.count("checked") == len(events.EVENTS)
    answer = anna.post(page, FORM | {"url": URL + "/new"})
    assert answer["Location"] == page
    endpoint.refresh_from_db()
    assert (endpoint.url, endpoint.events, endpoint.description) == (URL + "/new", FORM["events"], "shop")


def test_the_buttons(anna, endpoint, page):
    assert anna.post(f"{page}test/")["Location"] == page
    text = anna.get(page).content.decode()
    assert "webhook.test" in text and "on its way" in text and 'hx-trigger="every 2s"' in text
    rotated = anna.post(f"{page}rotate/")
    endpoint.refresh_from_db()
    assert endpoint.secret in rotated.content.decode() and "no-store" in rotated["Cache-Control"]
    assert anna.post(f"{page}switch/")["Location"] == page
    text = anna.get(page).content.decode()
    assert "Switch on" in text and "Send a test" not in text
    anna.post(f"{page}test/")
    assert WebhookDelivery.objects.count() == 1
    anna.post(f"{page}switch/")
    endpoint.refresh_from_db()
    assert endpoint.enabled
    assert anna.post(f"{page}delete/")["Location"] == LIST
    assert not WebhookEndpoint.objects.exists()


def test_deliveries_tell_what_came_of_them(anna, pro_user, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with Receiver() as receiver:
        endpoint = endpoints.create_endpoint(user=pro_user, url=receiver.url)
        fragment = f"{LIST}{endpoint.pk}/deliveries/"
        queued = events.send_test(endpoint)
        delivery.deliver_due()
        text = anna.get(fragment).content.decode()
        assert "delivered" in text and "answer 204" in text and queued.message_id in text
        assert "every 2s" not in text, "nothing more to wait for"
        receiver.status(410)
        assert anna.post(f"{LIST}deliveries/{queued.pk}/resend/").status_code == 302
        delivery.deliver_due()
        text = anna.get(f"{LIST}{endpoint.pk}/").content.decode()
        assert "given up" in text and "answer 410" in text and "410 Gone" in text


def test_strangers_find_nothing(stranger, client, endpoint, page):
    queued = events.send_test(endpoint)
    assert URL not in stranger.get(LIST).content.decode()
    for path in (page, f"{page}deliveries/", f"{LIST}{uuid.uuid4()}/"):
        assert stranger.get(path).status_code == 404
    for path in (
        page,
        f"{page}test/",
        f"{page}rotate/",
        f"{page}switch/",
        f"{page}delete/",
        f"{LIST}deliveries/{queued.pk}/resend/",
    ):
        assert stranger.post(path, FORM).status_code == 404
        assert "/accounts/login/" in client.post(path, FORM)["Location"]
    endpoint.refresh_from_db()
    assert endpoint.enabled and endpoint.url == URL and endpoint.deliveries.count() == 1
