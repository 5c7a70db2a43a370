"""The Django admin: for staff only, every list and page opens, and no secret is shown."""

import time

import pytest
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.core import mail
from django.db import connection

from accounts.models import ApiKey, DailyUsage, User
from generation.api.openai.links import signed_url
from generation.models import GeneratedImage, Generation, LoraRule
from tests.site import wait_for


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


# --- rights ---------------------------------------------------------------------------------------------


@pytest.fixture
def staff_with(make_user, page_client):
    """A client of staff who are no superuser and have just these rights."""

    def make(*codenames):
        person = make_user("helper@example.com", is_staff=True)
        person.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        assert person.user_permissions.count() == len(codenames)
        client = page_client(person)
        client.person = person
        return client

    return make


def everything_stored():
    """Every row of every table but those of sessions, as text."""
    rows = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table != "django_session":
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                rows[table] = sorted(row[0] for row in cursor.fetchall())
    return rows


def test_who_may_only_look_changes_nothing(staff_with, staff_user, free_user, make_generation, make_image, rf):
    """Every action, form and deletion that the admin has, for every model in it."""
    helper = staff_with(*Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True))
    make_generation(free_user), make_image(free_user, visibility="public"), ApiKey.issue(user=free_user, name="laptop")
    EmailAddress.objects.create(user=free_user, email=free_user.email)
    Group.objects.create(name="helpers"), LoraRule.objects.create(keyword="ink", lora="ink")
    DailyUsage.objects.create(user=free_user, day="2026-01-01")
    request = rf.get("/")
    request.user = staff_user
    before, posts, models = everything_stored(), 0, 0
    for model, model_admin in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        thing, models = model_admin.model._default_manager.first(), models + 1
        key = thing.pk if thing else 1
        values = {field.name: "1" for field in model._meta.fields} | {"plan": "pro", "email": "x@example.com"}
        editable = {f"form-0-{name}": "pro" for name in model_admin.list_editable} | {"form-0-id": key, "_save": "Save"}
        formset = editable | {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1}
        secret = {"password1": "another long secret", "password2": "another long secret"}
        calls = [(base, formset), (f"{base}add/", values), (f"{base}{key}/change/", values)]
        calls += [(f"{base}{key}/delete/", {"post": "yes"}), (f"{base}{key}/password/", secret)]
        for action in [
            *model_admin.get_actions(request),
            *(getattr(each, "__name__", each) for each in model_admin.actions),
        ]:
            calls.append((base, {"action": action, "_selected_action": [str(key)], "reason": "no", "post": "yes"}))
        for address, fields in calls:
            helper.post(address, fields)
        posts += len(calls)
    after = everything_stored()
    changed = [table for table in before if before[table] != after[table]]
    print(f"{posts} posts to {models} models of the admin by who may only look: changed {changed or 'nothing'}")
    assert not changed and posts > 6 * models


def test_with_the_right_to_change_actions_work(staff_with, free_user, make_generation):
    helper = staff_with("view_generation", "change_generation", "view_apikey", "change_apikey")
    waiting, (key, _) = make_generation(free_user), ApiKey.issue(user=free_user, name="laptop")
    helper.post("/admin/generation/generation/", {"action": "cancel", "_selected_action": [str(waiting.pk)]})
    helper.post("/admin/accounts/apikey/", {"action": "revoke", "_selected_action": [str(key.pk)]})
    waiting.refresh_from_db(), key.refresh_from_db()
    assert waiting.status == "cancelled" and key.revoked_at
    page = helper.post(
        f"/admin/accounts/apikey/{key.pk}/change/", {"name": "again", "revoked_at_0": "", "revoked_at_1": ""}
    )
    key.refresh_from_db()
    assert page.status_code == 302 and key.name == "again" and key.revoked_at, "a revoked key stays revoked"


EVERYTHING = [
    *["add_user", "change_user", "view_user", "delete_user", "add_group", "change_group", "view_group"],
    *["view_emailaddress", "change_emailaddress", "add_emailaddress", "change_apikey", "view_apikey", "add_permission"],
]
RIGHTS = {"is_active": "on", "is_staff": "on", "is_superuser": "on"}


def test_nobody_raises_rights(staff_with, staff_user, free_user):
    """Not one's own, not a friend's, not by a group, and not by becoming somebody who has them."""
    helper = staff_with(*EVERYTHING)
    group = Group.objects.create(name="helpers")
    helper.person.groups.add(group)
    every = [str(pk) for pk in Permission.objects.values_list("pk", flat=True)]
    secret = {"password1": "another long secret", "password2": "another long secret", "usable_password": "true"}
    for person in (helper.person, free_user, staff_user):
        page = f"/admin/accounts/user/{person.pk}/"
        helper.post(f"{page}change/", {"email": person.email, "plan": "pro", **RIGHTS, "user_permissions": every})
    for person in (helper.person, staff_user):
        helper.post(f"/admin/accounts/user/{person.pk}/password/", secret)
        helper.post(f"/admin/accounts/user/{person.pk}/delete/", {"post": "yes"})
    rows = list(User.objects.order_by("-date_joined"))
    listed = {f"form-{place}-id": person.pk for place, person in enumerate(rows)}
    listed |= {f"form-{place}-plan": "pro" for place in range(len(rows))}
    counts = {"form-TOTAL_FORMS": len(rows), "form-INITIAL_FORMS": len(rows)}
    helper.post("/admin/accounts/user/", listed | counts | {"_save": "Save"})
    helper.post("/admin/accounts/user/add/", {"email": "new@example.com", "plan": "free", **secret, **RIGHTS})
    helper.post(f"/admin/auth/group/{group.pk}/change/", {"name": "helpers", "permissions": every})
    helper.post("/admin/auth/group/add/", {"name": "rulers", "permissions": every})
    helper.post(
        "/admin/account/emailaddress/add/", {"user": staff_user.pk, "email": "mine@example.com", "verified": "on"}
    )
    for person in (helper.person, staff_user):
        same = User.objects.get(pk=person.pk)
        assert (same.is_superuser, same.password, same.plan) == (person.is_superuser, person.password, person.plan)
    assert not User.objects.exclude(pk=staff_user.pk).filter(is_superuser=True).exists()
    assert not User.objects.exclude(pk__in=[staff_user.pk, helper.person.pk]).filter(is_staff=True).exists()
    assert not group.permissions.exists() and Group.objects.count() == 1 and not EmailAddress.objects.exists()
    assert helper.person.user_permissions.count() == len(EVERYTHING)
    assert User.objects.get(pk=free_user.pk).plan == "pro", "what is no right may be changed"


def test_superusers_give_rights(staff, free_user):
    page = f"/admin/accounts/user/{free_user.pk}/change/"
    assert staff.post(page, {"email": free_user.email, "plan": "free", **RIGHTS}).status_code == 302
    free_user.refresh_from_db()
    assert free_user.is_superuser


def test_private_pictures_take_a_right_of_their_own(staff_with, free_user, make_image):
    private, public = make_image(free_user), make_image(free_user, visibility="public")
    helper = staff_with("view_generatedimage")

    def answers():
        images = "/admin/generation/generatedimage/"
        return [
            helper.get(f"{images}{image.pk}/{page}/").status_code
            for image in (private, public)
            for page in ("thumbnail", "change")
        ]

    assert answers() == [404, 302, 200, 200]
    assert str(private.id) not in helper.get("/admin/generation/generatedimage/").content.decode()
    helper.person.user_permissions.add(Permission.objects.get(codename="view_private_image"))
    assert answers() == [200, 200, 200, 200]


# --- taking down ----------------------------------------------------------------------------------------


def public_surfaces(client, image, signed):
    """Every address at which somebody without an account finds a published picture, and what it answers."""
    addresses = [
        f"/i/{image.short_id}/",
        f"/i/{image.short_id}/download",
        f"/media/images/{image.id}.png",
        f"/media/thumbnails/{image.id}.webp",
        signed,
    ]
    tags = {"If-None-Match": f'"{image.sha256[:32]}-file", "{image.sha256[:32]}-thumbnail"'}
    codes = {address: client.get(address).status_code for address in addresses}
    codes |= {f"{address} again": client.get(address, headers=tags).status_code for address in addresses[2:4]}
    codes["home"] = 200 if image.short_id in client.get("/").content.decode() else 404
    return codes


def api_surfaces(client, image):
    addresses = [f"/api/images/{image.id}/", f"/api/images/{image.id}/download/?format=jpeg"]
    codes = {address: client.get(address).status_code for address in addresses}
    drawn = client.post(
        "/api/generate/", {"prompt": "a boat", "image": str(image.id), "dry_run": True}, "application/json"
    )
    return codes | {"as a start": 404 if "no such picture" in drawn.content.decode().lower() else drawn.status_code}


@pytest.fixture
def signed_link(rf):
    def make(image):
        request = rf.get("/")
        request.user = image.owner
        return signed_url(request, image, "png", 90).partition("testserver")[2]

    return make


def test_a_superuser_takes_a_picture_down_everywhere_and_puts_it_back(
    staff, client, page_client, api_client, free_user, other_user, make_image, signed_link
):
    image = make_image(free_user, visibility="public")
    signed, stranger, owner = signed_link(image), api_client(other_user), page_client(free_user)
    images = "/admin/generation/generatedimage/"

    def act(action, reason=""):
        staff.post(images, {"action": action, "_selected_action": [str(image.pk)], "reason": reason})

    before = public_surfaces(client, image, signed) | api_surfaces(stranger, image)
    assert set(before.values()) <= {200, 202, 304}, before

    act("take_down")
    assert public_surfaces(client, image, signed) | api_surfaces(stranger, image) == before, "not without a reason"

    act("take_down", "Shows a person who did not agree.")
    after = public_surfaces(client, image, signed) | api_surfaces(stranger, image)
    print(f"surfaces that still show it: {[name for name, code in after.items() if code != 404]} of {len(after)}")
    assert set(after.values()) == {404}, after
    page = owner.get(f"/i/{image.short_id}/").content.decode()
    assert "Taken down" in page and "Shows a person who did not agree." in page
    mine = api_client(free_user)
    shown = mine.get(f"/api/images/{image.id}/").json()
    assert shown["takenDownAt"] and shown["takenDownReason"] == "Shows a person who did not agree."
    answer = mine.patch(f"/api/images/{image.id}/", {"visibility": "unlisted"}, "application/json")
    assert answer.status_code == 409 and answer.json()["error"]["code"] == "conflict"
    assert mine.patch(f"/api/images/{image.id}/", {"visibility": "private"}, "application/json").status_code == 200
    assert mine.patch(f"/api/images/{image.id}/", {"title": "Mine"}, "application/json").status_code == 200
    GeneratedImage.objects.update(visibility="public")

    act("put_back")
    assert public_surfaces(client, image, signed) | api_surfaces(stranger, image) == before
    assert "Taken down" not in owner.get(f"/i/{image.short_id}/").content.decode()
    assert LogEntry.objects.filter(object_id=str(image.pk)).count() == 2


def test_owners_are_told_by_mail_and_in_the_gallery(
    staff, page_client, free_user, other_user, make_image, django_capture_on_commit_callbacks
):
    mine, theirs = [make_image(free_user) for _ in range(2)], make_image(other_user)
    chosen = [str(image.pk) for image in (*mine, theirs)]
    with django_capture_on_commit_callbacks(execute=True):
        staff.post(
            "/admin/generation/generatedimage/",
            {"action": "take_down", "_selected_action": chosen, "reason": "Shows somebody's face."},
        )
    wait_for(lambda: len(mail.outbox) == 2, seconds=5, what="two mails")
    letters = {message.to[0]: message for message in mail.outbox}
    letter = letters[free_user.email]
    assert letter.subject == "2 of your images were taken down" and "Shows somebody's face." in letter.body
    assert all(f"/i/{image.short_id}/" in letter.body for image in mine) and theirs.short_id not in letter.body
    assert page_client(free_user).get("/gallery/").content.decode().count("Taken down") == 2
    page = page_client(other_user).get(f"/i/{theirs.short_id}/").content.decode()
    assert "Taken down" in page and "cannot be published" in page


def test_taking_down_is_for_superusers(staff_with, free_user, make_image):
    image = make_image(free_user, visibility="public")
    helper = staff_with("view_generatedimage", "change_generatedimage", "delete_generatedimage", "view_private_image")
    sent = {"action": "take_down", "_selected_action": [str(image.pk)], "reason": "no"}
    helper.post("/admin/generation/generatedimage/", sent)
    image.refresh_from_db()
    assert image.taken_down_at is None


def test_pictures_of_a_suspended_account_are_gone_for_all_at_once(
    staff, client, api_client, free_user, other_user, make_image, signed_link
):
    image = make_image(free_user, visibility="public")
    signed, stranger = signed_link(image), api_client(other_user)
    staff.post(f"/admin/accounts/user/{free_user.pk}/change/", {"email": free_user.email, "plan": "free"})
    began = time.monotonic()
    after = public_surfaces(client, image, signed) | api_surfaces(stranger, image)
    print(f"{list(after.values())} {time.monotonic() - began:.2f} s after the account was set inactive")
    assert set(after.values()) == {404}, after
