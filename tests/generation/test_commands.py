"""What an operator types."""

import datetime as dt
import io
import json
import os
import time

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from PIL import Image

from accounts.models import ApiKey, DailyUsage, User
from generation.models import GeneratedImage
from generation.pruning import prune


def run(*arguments, **options):
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


@pytest.mark.django_db
class TestCreateUser:
    def test_it_prints_the_key_once_and_stores_only_its_hash(self):
        said = run("create_user", "Ada@Example.com", "--plan", "pro", "--password", "correct horse", "--api-key")
        token = said.strip()
        user = User.objects.get(email="ada@example.com")
        assert user.plan == "pro" and user.check_password("correct horse")
        assert ApiKey.find(token).user == user
        assert token.split("_", 2)[2] not in str(ApiKey.objects.values().get())

    def test_staff_may_use_the_admin(self, client):
        run("create_user", "root@example.com", "--staff", "--password", "correct horse")
        client.force_login(User.objects.get(), backend="allauth.account.auth_backends.AuthenticationBackend")
        assert client.get("/admin/").status_code == 200

    @pytest.mark.parametrize("arguments", [["no-address"], ["a@example.com", "--password", "123"]])
    def test_it_refuses_what_the_page_would_refuse(self, arguments):
        with pytest.raises(CommandError):
            run("create_user", *arguments)
        assert not User.objects.exists()

    def test_it_refuses_a_second_account_of_one_address(self, free_user):
        with pytest.raises(CommandError, match="already"):
            run("create_user", "FREE@example.com", "--password", "correct horse")


class TestAudit:
    def test_a_healthy_site_has_only_zeros(self, free_user, make_image):
        make_image(free_user)
        assert set(json.loads(run("audit", "--json", "--contents")).values()) == {0}

    def test_it_finds_a_wrong_counter_a_lost_file_and_a_changed_one(self, free_user, make_image, media_folder):
        lost, changed = make_image(free_user), make_image(free_user)
        DailyUsage.objects.create(user=free_user, day=dt.date(2026, 1, 1), used=3)
        (media_folder / lost.file).unlink()
        (media_folder / changed.file).write_bytes(b"something else")
        out = io.StringIO()
        with pytest.raises(SystemExit):
            call_command("audit", "--json", "--contents", stdout=out)
        found = {what: count for what, count in json.loads(out.getvalue()).items() if count}
        assert found == {"usage that differs from its holds": 1, "pictures without their file": 1,
                         "files that differ from their hash": 1}


class TestPrune:
    def age(self, image, days):
        GeneratedImage.objects.filter(pk=image.pk).update(created_at=timezone.now() - dt.timedelta(days=days))

    def test_it_removes_old_free_pictures_but_no_starred_published_or_paid_ones(self, free_user, pro_user, make_image):
        old, starred, published, recent = (make_image(free_user) for _ in range(4))
        paid = make_image(pro_user)
        for image in (old, starred, published, paid):
            self.age(image, 31)
        GeneratedImage.objects.filter(pk=starred.pk).update(favourite=True)
        GeneratedImage.objects.filter(pk=published.pk).update(visibility="public")
        assert prune(dry_run=True)["past their retention"] == 1
        assert GeneratedImage.objects.count() == 5
        assert prune()["past their retention"] == 1
        assert set(GeneratedImage.objects.all()) == {starred, published, recent, paid}

    def test_it_empties_the_trash_after_thirty_days(self, free_user, make_image):
        old, recent = make_image(free_user), make_image(free_user)
        for image, days in ((old, 31), (recent, 29)):
            GeneratedImage.objects.filter(pk=image.pk).update(deleted_at=timezone.now() - dt.timedelta(days=days))
        assert prune()["in the trash too long"] == 1
        assert GeneratedImage.objects.get() == recent

    def test_it_removes_files_without_a_row_once_they_are_a_day_old(self, free_user, make_image, media_folder):
        image = make_image(free_user)
        folder = (media_folder / image.file).parent
        yesterday = time.time() - 25 * 3600
        for name, when in (("old.png", yesterday), ("half.png.part", yesterday), ("new.png", time.time())):
            (folder / name).write_bytes(b"x")
            os.utime(folder / name, (when, when))
        assert prune()["files without a picture"] == 2
        assert sorted(path.name for path in folder.iterdir()) == sorted(["new.png", image.file.rsplit("/", 1)[1]])


@pytest.mark.django_db
def test_sweep_says_what_it_did():
    assert "0  expired" in run("sweep")


def test_preload_check_says_what_is_there_and_fails_on_what_is_not(tmp_path, settings):
    settings.MODELS_DIR = tmp_path
    assert "dreamsketch-tiny: ready" in run("preload_models", "--models", "dreamsketch-tiny", "--check")
    with pytest.raises(CommandError, match="sdxl-base"):
        run("preload_models", "--models", "sdxl", "--check")
    with pytest.raises(CommandError, match="no model"):
        run("preload_models", "--models", "nonsense")


def test_generate_draws_from_the_shell(tmp_path):
    out = tmp_path / "boat.png"
    said = run("generate", "a red boat at sea", "--steps", "2", "--seed", "7", "--size", "256x128", "--out", str(out))
    with Image.open(out) as picture:
        assert picture.size == (256, 128)
    assert "seed 7" in said


def test_generate_refuses_clearly(tmp_path):
    with pytest.raises(CommandError, match="steps"):
        run("generate", "a boat", "--steps", "1000", "--out", str(tmp_path / "x.png"))
    with pytest.raises(CommandError, match="256x256"):
        run("generate", "a boat", "--size", "large", "--out", str(tmp_path / "x.png"))
