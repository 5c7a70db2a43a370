"""The composer's draft: the whole form comes back, on any page; what was typed wins; starting afresh can be undone."""

import pytest
from django.urls import reverse

from gallery.models import Draft
from generation.services.generations import create_generation

pytestmark = pytest.mark.django_db
CREATE, SAVE = "/create/", "/create/draft/"
FORM = {
    "prompt": "half a thou",
    "model": "dreamsketch-tiny",
    "shape": "16:9",
    "style": "vintage",
    "num_images": "2",
    "steps": "33",
    "seed": "5",
    "tiling": "on",
    "hires_fix": "on",
    "hires_fix.scale": "1.5",
}


def values(client, **address) -> dict:
    return client.get(CREATE, address).context["values"]


def shown(client, **address) -> dict:
    found = values(client, **address)
    return {name: found[name] for name in FORM}


def test_the_whole_form_comes_back_on_every_device(anna, page_client, pro_user):
    assert anna.post(SAVE, FORM).status_code == 204
    there = page_client(pro_user)
    assert shown(there) == FORM | {"tiling": True, "hires_fix": True}
    page = there.get(CREATE).content.decode()
    assert "half a thou</textarea>" in page and 'value="33"' in page


def test_it_is_ones_own(anna, stranger):
    anna.post(SAVE, FORM)
    assert not values(stranger).get("prompt")


def test_the_last_to_be_typed_stays(anna):
    anna.post(SAVE, FORM)
    assert anna.post(SAVE, FORM | {"prompt": "typed before, sent later", "age": "60"}).status_code == 200
    assert values(anna)["prompt"] == "half a thou"
    assert anna.post(SAVE, FORM | {"prompt": "typed after", "age": "0"}).status_code == 204
    assert values(anna)["prompt"] == "typed after"


@pytest.mark.parametrize("age", ["x", "nan", "-1", "1e400", ""])
def test_a_strange_age_is_no_error(anna, age):
    assert anna.post(SAVE, FORM | {"age": age}).status_code in (200, 204)


def test_what_is_typed_wins_over_an_address(anna):
    anna.post(SAVE, FORM)
    page = anna.get(CREATE, {"prompt": "another one", "style": "anime"})
    assert page.context["values"]["prompt"] == "half a thou" and page.context["values"]["style"] == "vintage"
    assert "The link brought another prompt: “another one”" in page.content.decode()
    used = anna.get(CREATE, {"prompt": "another one", "use": "link"})
    assert used.context["values"]["prompt"] == "another one" and "Your draft is kept" in used.content.decode()
    assert values(anna)["prompt"] == "half a thou"


def test_what_was_sent_off_gives_way_to_an_address(anna):
    sent = FORM | {"hires_fix": "", "shape": "1:1"}
    del sent["hires_fix"]
    assert anna.post(CREATE, sent).status_code == 302
    assert values(anna)["prompt"] == "half a thou" and values(anna)["steps"] == "33"
    assert values(anna, prompt="another one")["prompt"] == "another one"


def test_starting_afresh_can_be_undone(anna):
    anna.post(SAVE, FORM)
    assert anna.post(reverse("create-draft-clear"), FORM).status_code == 302
    page = anna.get(CREATE)
    assert not page.context["values"].get("prompt") and page.context["values"].get("steps") in (None, "")
    assert "An earlier draft is kept: “half a thou”" in page.content.decode()
    # Also after something else was typed.
    anna.post(SAVE, {"prompt": "something else", "model": "dreamsketch-tiny", "shape": "1:1"})
    anna.post(reverse("create-draft-restore"))
    assert shown(anna) == FORM | {"tiling": True, "hires_fix": True}


def test_a_job_gives_all_its_settings_back(anna, stranger, pro_user):
    generation, _ = create_generation(
        user=pro_user,
        prompt="a red boat",
        negative_prompt="fog",
        style="watercolour",
        steps=12,
        seed=9,
        num_images=2,
        visibility="public",
        hires={"scale": 1.5},
    )
    found = values(anna, job=generation.pk)
    assert (found["prompt"], found["negative_prompt"], found["style"]) == ("a red boat", "fog", "watercolour")
    assert (found["steps"], found["seed"], found["num_images"], found["visibility"]) == (12, 9, 2, "public")
    assert found["hires_fix"] is True and found["hires_fix.scale"] == 1.5
    for address in (generation.pk, "nonsense"):
        assert stranger.get(CREATE, {"job": address}).status_code == 404


def test_other_settings_put_an_unsent_draft_aside(anna, pro_user, make_image):
    anna.post(SAVE, FORM)
    image = make_image(pro_user, generation_fields={"prompt": "a green tree"})
    page = anna.get(CREATE, {"from": image.short_id})
    assert page.context["values"]["prompt"] == "a green tree" and "Your draft is kept" in page.content.decode()
    anna.post(SAVE, {"prompt": "a green tree, tall", "origin": page.context["values"]["origin"]})
    assert values(anna)["prompt"] == "a green tree, tall"
    anna.post(reverse("create-draft-restore"))
    assert values(anna)["prompt"] == "half a thou"


def test_a_refused_form_is_kept(anna):
    anna.post(CREATE, FORM | {"steps": "1000"})
    assert values(anna)["steps"] == "1000"


@pytest.mark.parametrize("data", [{}, {"prompt": "x" * 60_000}, {"owner": "1"}])
def test_what_is_no_form_of_ours_is_not_kept(anna, pro_user, data):
    assert anna.post(SAVE, data).status_code == 200
    assert not Draft.objects.filter(owner=pro_user).exists()


def test_a_damaged_draft_is_no_error(anna, pro_user):
    for fields in ([], {"prompt": {"a": 1}, "lora": "x", "steps": [1, 2]}, {"image": "x", "model": "gone"}):
        Draft.objects.update_or_create(owner=pro_user, defaults={"fields": fields})
        assert anna.get(CREATE).status_code == 200
