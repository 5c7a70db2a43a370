"""What an operator types."""

import datetime as dt
import io
import json
import os
import time

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone
from PIL import Image

from accounts.models import ApiKey, DailyUsage, User
from generation.models import GeneratedImage, LoraRule
from generation.operations.audit import audit
from generation.operations.pruning import prune
from generation.services.generations import create_generation
from generation.storage.image_requests import request_of


def run(*arguments, **options):
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


@pytest.mark.django_db
class TestCreateUser:
    def test_it_prints_the_key_once_and_stores_only_its_hash(self):
        output = run("create_user", "Ada@Example.com", "--plan", "pro", "--password", "correct horse", "--api-key")
        token = output.strip()
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
        counts = {what: count for what, count in json.loads(out.getvalue()).items() if count}
        assert counts == {
            "usage that differs from its holds": 1,
            "pictures without their file": 1,
            "files that differ from their hash": 1,
        }


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

    def test_wide_thumbnails_belong_to_their_picture_and_go_without_it(self, free_user, make_image, media_folder):
        image = make_image(free_user, generation_fields={"width": 640, "height": 480})
        there = sorted((media_folder / "thumbnails").rglob("*.webp"))
        assert len(there) == 3
        yesterday = time.time() - 25 * 3600
        for path in there:
            os.utime(path, (yesterday, yesterday))
        assert prune()["files without a picture"] == 0
        GeneratedImage.objects.filter(pk=image.pk).delete()
        assert prune()["files without a picture"] == 3, "the PNG is young"
        assert list((media_folder / "thumbnails").rglob("*.webp")) == []


@pytest.mark.django_db
class TestMakeThumbnails:
    @pytest.fixture
    def old(self, free_user, make_image, media_folder):
        """A picture as earlier versions left it."""
        image = make_image(free_user, generation_fields={"width": 640, "height": 480})
        GeneratedImage.objects.filter(pk=image.pk).update(thumbnail_size=0)
        for path in [
            *(media_folder / "thumbnails").rglob("*-512.webp"),
            *(media_folder / "thumbnails").rglob("*-1024.webp"),
        ]:
            path.unlink()
        return image

    def test_it_makes_what_older_pictures_lack(self, old, free_user, make_image, media_folder):
        make_image(free_user)
        assert "1 pictures have all their thumbnails now" in run("make_thumbnails")
        old.refresh_from_db()
        assert old.thumbnail_size == 1024 and len(list((media_folder / "thumbnails").rglob("*.webp"))) == 4
        assert "No picture lacked any" in run("make_thumbnails")
        assert audit()["pictures without all their thumbnails"] == 0

    def test_a_lost_file_does_not_stop_the_others(self, old, free_user, make_image, media_folder):
        other = make_image(free_user, generation_fields={"width": 640, "height": 480})
        GeneratedImage.objects.filter(pk=other.pk).update(thumbnail_size=0)
        (media_folder / other.file).unlink()
        assert "1 pictures have all" in run("make_thumbnails")

    def test_the_audit_counts_what_is_missing(self, old):
        GeneratedImage.objects.filter(pk=old.pk).update(thumbnail_size=1024)
        assert audit()["pictures without all their thumbnails"] == 1


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


@pytest.fixture
def drawn(settings, tmp_path, monkeypatch):
    """What the engine is asked for by `generate`, with one LoRA installed."""
    from safetensors.numpy import save_file

    from generation.catalog import model_named
    from generation.engine.catalog.addons import text_width
    from generation.engine.fake import FakeEngine

    settings.DREAMSKETCH_ENGINE, settings.MODELS_DIR = "fake", tmp_path / "models"
    (settings.MODELS_DIR / "loras").mkdir(parents=True)
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    width = text_width(model_named("dreamsketch-tiny"))
    for key in ("ink", "chalk", "lcm-lora-tiny"):
        save_file({name: np.zeros((4, width), np.float32)}, settings.MODELS_DIR / "loras" / f"{key}.safetensors")
    requests = []
    submit = FakeEngine.submit
    monkeypatch.setattr(
        FakeEngine, "submit", lambda self, request, **how: requests.append(request) or submit(self, request, **how)
    )

    def draw(*arguments):
        run("generate", *arguments, "--steps", "2", "--out", str(tmp_path / "x.png"))
        return requests[-1]

    return draw


@pytest.mark.django_db
def test_generate_asks_for_what_the_site_asks_for(drawn, pro_user):
    LoraRule.objects.create(keyword="chalk drawing", lora="chalk", weight=0.4)
    prompt = "a cat, chalk drawing <lora:ink:0.6>"
    request = drawn(prompt, "--seed", "3", "--style", "anime", "--quality", "fast", "--negative-prompt", "grey")
    generation, _ = create_generation(
        user=pro_user, prompt=prompt, seed=3, style="anime", quality="fast", steps=2, negative_prompt="grey"
    )
    assert request == request_of(generation)
    assert {lora.key: lora.weight for lora in request.loras} == {"ink": 0.6, "chalk": 0.4, "lcm-lora-tiny": 1.0}
    assert (request.sampler, request.prompt.startswith("a cat, chalk drawing")) == ("LCM", True)


@pytest.mark.django_db
def test_generate_takes_loras_as_options(drawn, tmp_path):
    request = drawn("a cat <lora:ink:0.1>", "--lora", "ink:-0.5", "--lora", "chalk")
    assert {lora.key: lora.weight for lora in request.loras} == {"ink": -0.5, "chalk": 1.0}
    for wrong, message in (("ink:much", "ink:0.8"), ("absent", "loras: .*absent"), ("ink:99", "loras: ")):
        with pytest.raises(CommandError, match=message):
            drawn("a cat", "--lora", wrong)


def test_generate_needs_no_database(drawn, monkeypatch):
    def away(*_, **__):
        raise OperationalError

    monkeypatch.setattr(LoraRule.objects, "filter", away)
    assert [lora.key for lora in drawn("a chalk drawing <lora:ink>").loras] == ["ink"]


@pytest.mark.django_db
def test_generate_draws_from_the_shell(tmp_path):
    out = tmp_path / "boat.png"
    output = run("generate", "a red boat at sea", "--steps", "2", "--seed", "7", "--size", "256x128", "--out", str(out))
    with Image.open(out) as picture:
        assert picture.size == (256, 128)
    assert "seed 7" in output


@pytest.mark.django_db
def test_generate_refuses_clearly(tmp_path):
    with pytest.raises(CommandError, match="steps"):
        run("generate", "a boat", "--steps", "1000", "--out", str(tmp_path / "x.png"))
    with pytest.raises(CommandError, match="256x256"):
        run("generate", "a boat", "--size", "large", "--out", str(tmp_path / "x.png"))
