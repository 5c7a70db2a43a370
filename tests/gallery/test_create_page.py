"""Create: the composer sends what was chosen, refusals name the field and keep the text."""

import datetime as dt

import pytest
from django.urls import reverse
from django.utils import timezone

from accounts.models import DailyUsage
from gallery.views import create
from generation.models import Generation

CREATE = "/create/"
GOOD = {"prompt": "a red boat at sea", "model": "dreamsketch-tiny", "shape": "1:1", "num_images": "1"}


def test_it_shows_a_composer_with_every_control(anna):
    page = anna.get(CREATE).content.decode()
    for name in (
        "prompt",
        "negative_prompt",
        "model",
        "style",
        "shape",
        "width",
        "height",
        "steps",
        "guidance_scale",
        "sampler",
        "seed",
        "num_images",
        "visibility",
        "client_token",
        "csrfmiddlewaretoken",
    ):
        assert f'name="{name}"' in page, name


def test_sending_it_makes_a_job_and_goes_to_its_page(anna, pro_user):
    response = anna.post(
        CREATE,
        GOOD
        | {
            "style": "watercolour",
            "seed": "7",
            "steps": "12",
            "guidance_scale": "4.5",
            "negative_prompt": "fog",
            "sampler": "Euler a",
            "shape": "16:9",
            "num_images": "2",
        },
    )
    job = Generation.objects.get(owner=pro_user)
    assert response.status_code == 302 and response["Location"] == reverse("job", args=[job.pk])
    assert (
        job.prompt,
        job.negative_prompt,
        job.style,
        job.seed,
        job.steps,
        job.guidance_scale,
        job.sampler,
        job.num_images,
        job.source,
    ) == ("a red boat at sea", "fog", "watercolour", 7, 12, 4.5, "Euler a", 2, "page")
    assert job.width > job.height


def test_an_own_size_counts_only_with_the_shape_for_it(anna, pro_user):
    anna.post(CREATE, GOOD | {"shape": "custom", "width": "192", "height": "320"})
    anna.post(CREATE, GOOD | {"shape": "1:1", "width": "192", "height": "320"})
    sizes = list(Generation.objects.filter(owner=pro_user).order_by("created_at").values_list("width", "height"))
    assert sizes == [(192, 320), (256, 256)]


def test_htmx_gets_the_panel_and_a_new_token(anna, htmx):
    response = anna.post(CREATE, GOOD | {"client_token": "one"}, headers=htmx)
    text = response.content.decode()
    assert response.status_code == 200
    assert 'class="job tone-waiting"' in text and "<html" not in text
    assert 'hx-target="#client-token"' in text and 'value="one"' not in text
    assert 'hx-sse:connect="/events/' in text
    assert "Queued" in response["HX-Trigger"]


def test_a_double_click_makes_one_job(anna, pro_user, htmx):
    first = anna.post(CREATE, GOOD | {"client_token": "same"}, headers=htmx)
    second = anna.post(CREATE, GOOD | {"client_token": "same"}, headers=htmx)
    assert Generation.objects.filter(owner=pro_user).count() == 1
    assert "HX-Reswap" not in first and second["HX-Reswap"] == "none"


def test_a_changed_form_with_an_old_token_is_a_new_wish(anna, pro_user):
    anna.post(CREATE, GOOD | {"client_token": "old"})
    anna.post(CREATE, GOOD | {"client_token": "old", "prompt": "a blue boat at sea"})
    assert Generation.objects.filter(owner=pro_user).count() == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", "x" * 2001),
        ("negative_prompt", "x" * 2001),
        ("model", "no-such-model"),
        ("style", "no-such-style"),
        ("shape", "5:1"),
        ("steps", "0"),
        ("steps", "lots"),
        ("steps", "1001"),
        ("guidance_scale", "-1"),
        ("guidance_scale", "nan"),
        ("guidance_scale", "much"),
        ("sampler", "Magic"),
        ("seed", "-2"),
        ("seed", "4294967296"),
        ("num_images", "0"),
        ("num_images", "5"),
        ("visibility", "everybody"),
    ],
)
@pytest.mark.parametrize("with_htmx", [True, False])
def test_bad_input_is_refused_at_its_field_and_nothing_is_lost(anna, pro_user, htmx, field, value, with_htmx):
    sent = GOOD | {"negative_prompt": "kept words", field: value}
    response = anna.post(CREATE, sent, headers=htmx if with_htmx else None)
    form = response.context["form"]
    assert response.status_code == 422
    assert list(form.errors) == [field]
    text = response.content.decode()
    assert 'role="alert"' in text and ("<html" in text) != with_htmx
    if field != "prompt":
        assert "a red boat at sea</textarea>" in text
    if field != "negative_prompt":
        assert 'value="kept words"' in text
    assert not Generation.objects.filter(owner=pro_user).exists()


@pytest.mark.parametrize(
    ("field", "value"), [("width", "100000"), ("width", "257"), ("height", "wide"), ("height", "1")]
)
def test_a_bad_own_size_is_refused_at_its_field(anna, field, value):
    response = anna.post(CREATE, GOOD | {"shape": "custom", "width": "256", "height": "256", field: value})
    assert response.status_code == 422 and list(response.context["form"].errors) == [field]


def test_a_forbidden_prompt_is_refused_at_the_prompt(anna, settings):
    settings.PROMPT_BLOCKLIST = ["spoons"]
    response = anna.post(CREATE, GOOD | {"prompt": "many spoons"})
    assert response.status_code == 422 and list(response.context["form"].errors) == ["prompt"]


def test_the_prompt_is_shown_as_text_whatever_it_says(anna):
    response = anna.post(CREATE, GOOD | {"prompt": "<script>alert(1)</script> \"'&", "steps": "0"})
    text = response.content.decode()
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text


@pytest.mark.parametrize("with_htmx", [True, False])
def test_over_the_quota_it_says_so_and_when_to_come_back(page_client, free_user, htmx, with_htmx):
    DailyUsage.objects.create(user=free_user, day=timezone.now().date(), used=10, held=0)
    response = page_client(free_user).post(CREATE, GOOD, headers=htmx if with_htmx else None)
    text = response.content.decode()
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 86401
    assert "You have used today&#x27;s 10 images" in text and reverse("pricing") in text
    assert "a red boat at sea</textarea>" in text


def test_too_many_at_once_is_said(page_client, free_user):
    client = page_client(free_user)
    for _ in range(4):
        client.post(CREATE, GOOD)
    response = client.post(CREATE, GOOD)
    assert response.status_code == 429 and "4 generations running or waiting" in response.content.decode()


def test_a_locked_account_reads_why(page_client, make_user):
    client = page_client(make_user("locked@example.com", locked_reason="Ask the moderators."))
    response = client.post(CREATE, GOOD)
    assert response.status_code == 422 and "Ask the moderators." in response.content.decode()


def test_settings_of_an_image_are_reused(anna, pro_user, make_image):
    image = make_image(
        pro_user,
        generation_fields={
            "prompt": "a green tree at night",
            "negative_prompt": "snow",
            "style": "vintage",
            "seed": 99,
            "steps": 31,
            "guidance_scale": 6.5,
            "sampler": "DDIM",
            "width": 336,
            "height": 192,
        },
    )
    page = anna.get(CREATE, {"from": image.short_id})
    values = page.context["values"]
    assert {
        name: values[name]
        for name in ("prompt", "negative_prompt", "style", "seed", "steps", "guidance_scale", "sampler", "shape")
    } == {
        "prompt": "a green tree at night",
        "negative_prompt": "snow",
        "style": "vintage",
        "seed": 99,
        "steps": 31,
        "guidance_scale": 6.5,
        "sampler": "DDIM",
        "shape": "16:9",
    }


def test_another_users_private_image_cannot_be_reused(stranger, pro_user, make_image):
    for source in (make_image(pro_user).short_id, "nothing-like-it", "a\x00b"):
        assert stranger.get(CREATE, {"from": source}).status_code == 404


def test_a_prompt_from_the_home_page_leads_through_sign_up(client):
    response = client.get(CREATE, {"prompt": "a red boat"})
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/signup/?next=%2Fcreate%2F%3Fprompt%3Da%2Bred%2Bboat")


def test_a_prompt_in_the_address_is_in_the_field(anna):
    assert "a red boat</textarea>" in anna.get(CREATE, {"prompt": "a red boat"}).content.decode()


def test_active_jobs_and_todays_images_are_shown(anna, pro_user, make_image, make_generation, monkeypatch):
    image = make_image(pro_user)
    job = make_generation(pro_user, prompt="waiting for it")
    page = anna.get(CREATE).content.decode()
    assert f'id="job-{job.pk}"' in page and f'id="job-{image.generation_id}"' in page
    assert f'id="image-{image.short_id}"' not in page, "it stands in its job's panel"
    monkeypatch.setattr(create, "RECENT", dt.timedelta(0))
    page = anna.get(CREATE).content.decode()
    assert f'id="job-{image.generation_id}"' not in page and f'id="image-{image.short_id}"' in page


def test_surprise_and_improve_change_the_prompt_and_keep_the_rest(anna, htmx):
    sent = GOOD | {"negative_prompt": "fog"}
    improved = anna.post(reverse("create-improve"), sent)
    assert "a red boat at sea, soft natural light" in improved.content.decode()
    assert 'value="fog"' in improved.content.decode()
    fragment = anna.post(reverse("create-surprise"), sent, headers=htmx).content.decode()
    assert fragment.lstrip().startswith('<div id="prompt-field"') and "Put mine back" in fragment
    back = anna.post(reverse("create-surprise"), sent | {"prompt": "new", "back": "a red boat at sea"}, headers=htmx)
    assert "a red boat at sea</textarea>" in back.content.decode()


def test_the_estimate_counts_against_what_is_left(page_client, free_user):
    DailyUsage.objects.create(user=free_user, day=timezone.now().date(), used=8, held=0)
    client = page_client(free_user)
    assert "uses 2 of 2" in client.get(reverse("create-estimate"), GOOD | {"num_images": "2"}).content.decode()
    assert "needs 3, you have 2" in client.get(reverse("create-estimate"), GOOD | {"num_images": "3"}).content.decode()
    assert client.get(reverse("create-estimate"), {"num_images": "x", "steps": "-", "shape": "?"}).status_code == 200


def test_more_ideas_are_a_fragment_for_htmx(anna, htmx):
    assert 'class="pills"' in anna.get(reverse("create-suggestions"), headers=htmx).content.decode()
    assert anna.get(reverse("create-suggestions"))["Location"] == CREATE
