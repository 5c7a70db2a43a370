"""The Django admin: for staff only, every list and page opens, and no secret is shown."""

import pytest
from django.contrib import admin

from accounts.models import ApiKey
from generation.models import Generation


@pytest.fixture
def staff(page_client, staff_user):
    return page_client(staff_user)


def test_every_list_and_object_opens(staff, free_user, make_image):
    make_image(free_user)
    _, token = ApiKey.issue(user=free_user, name="laptop")
    for model, model_admin in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert staff.get(base).status_code == 200, base
        assert staff.get(base, {"q": "boat"}).status_code == 200, base
        thing = model_admin.model._default_manager.first()
        if thing is not None:
            page = staff.get(f"{base}{thing.pk}/change/")
            assert page.status_code == 200, base
            assert token.split("_", 2)[2].encode() not in page.content
            if model is ApiKey:
                assert thing.secret_hash.encode() not in page.content


def test_images_show_their_thumbnails_to_staff_only(staff, client, page_client, free_user, make_image):
    image = make_image(free_user)
    address = f"/admin/generation/generatedimage/{image.pk}/thumbnail/"
    assert address.encode() in staff.get("/admin/generation/generatedimage/").content
    assert staff.get(address)["Content-Type"] == "image/webp"
    for stranger in (client, page_client(free_user)):
        assert stranger.get(address).status_code == 302


def test_staff_change_a_plan_and_it_counts(staff, free_user):
    page = f"/admin/accounts/user/{free_user.pk}/change/"
    fields = {"email": free_user.email, "plan": "pro", "is_active": "on", "_save": "Save"}
    assert staff.post(page, fields).status_code == 302
    free_user.refresh_from_db()
    assert free_user.plan == "pro"


def test_staff_cancel_a_generation(staff, free_user, make_generation):
    waiting = make_generation(free_user)
    staff.post("/admin/generation/generation/", {"action": "cancel", "_selected_action": [str(waiting.pk)]})
    assert Generation.objects.get(pk=waiting.pk).status == "cancelled"


@pytest.mark.parametrize("path", ["/admin/", "/admin/accounts/user/", "/admin/generation/generation/"])
def test_nobody_else_gets_in(client, page_client, free_user, path):
    for stranger in (client, page_client(free_user)):
        assert stranger.get(path).status_code == 302
