"""Pictures on disk: written whole or not at all, served only to those who may see them."""

import hashlib
import io

import pytest
from django.core.files.storage import default_storage
from PIL import Image

from generation.engine.protocol import EngineImage
from generation.engine.request.metadata import read_png
from generation.models import GeneratedImage
from generation.services.images import delete_images, restore_images, set_visibility, trash_images
from generation.storage import files


def stored(make_generation, user, **fields):
    generation = make_generation(user, width=640, height=480, **fields)
    pixels = Image.new("RGB", (640, 480), (10, 120, 200))
    return files.store_image(generation, EngineImage(0, 7, pixels, {"dtype": "fp32"}, 1))


def test_a_picture_is_stored_with_its_recipe_and_a_thumbnail(make_generation, free_user):
    one = stored(make_generation, free_user)
    with default_storage.open(one.file) as handle:
        content = handle.read()
    assert hashlib.sha256(content).hexdigest() == one.sha256 and len(content) == one.file_size
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG" and picture.size == (640, 480)
    said = read_png(content)
    assert said["recipe"]["seed"] == 7 and said["recipe"]["prompt"] == "a red boat at sea"
    assert said["machine_made"]
    with default_storage.open(one.thumbnail) as handle, Image.open(handle) as picture:
        assert picture.format == "WEBP" and picture.size == (256, 192)
    assert one.colour == "#0a78c8"
    assert one.file.startswith("generated_images/") and one.thumbnail.startswith("thumbnails/")


def test_nothing_half_written_stays_when_the_disk_fails(make_generation, free_user, media_folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(files.StorageUnavailable):
        stored(make_generation, free_user)
    assert [path for path in media_folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_noticed(settings):
    settings.MIN_FREE_DISK_BYTES = 2**60
    assert files.disk_is_full()
    settings.MIN_FREE_DISK_BYTES = 0
    assert not files.disk_is_full()


class TestServing:
    def get(self, client, image, variant="images"):
        extension = {"images": "png", "thumbnails": "webp"}[variant]
        return client.get(f"/media/{variant}/{image.id}.{extension}")

    def test_the_owner_gets_the_bytes(self, page_client, free_user, make_image):
        image = make_image(free_user)
        response = self.get(page_client(free_user), image)
        assert response.status_code == 200 and response["Content-Type"] == "image/png"
        assert hashlib.sha256(response.content).hexdigest() == image.sha256
        assert response["X-Content-Type-Options"] == "nosniff" and "private" in response["Cache-Control"]
        assert self.get(page_client(free_user), image, "thumbnails")["Content-Type"] == "image/webp"

    def test_a_program_gets_them_with_its_key(self, api_client, free_user, make_image):
        assert self.get(api_client(free_user), make_image(free_user)).status_code == 200

    def test_nobody_else_does(self, client, page_client, api_client, free_user, other_user, staff_user, make_image):
        image = make_image(free_user)
        for caller in (client, page_client(other_user), api_client(other_user), page_client(staff_user)):
            for variant in ("images", "thumbnails"):
                assert self.get(caller, image, variant).status_code == 404

    def test_a_revoked_key_opens_nothing(self, api_client, free_user, make_image):
        caller, image = api_client(free_user), make_image(free_user)
        free_user.api_keys.get().revoke()
        assert self.get(caller, image).status_code == 404

    def test_a_published_picture_is_for_everybody_until_it_is_withdrawn(self, client, free_user, make_image):
        image = make_image(free_user)
        set_visibility(image, "public")
        assert self.get(client, image).status_code == 200
        set_visibility(image, "private")
        assert self.get(client, image).status_code == 404

    def test_a_published_picture_in_the_trash_is_for_its_owner_only(self, client, page_client, free_user, make_image):
        image = make_image(free_user, visibility="public")
        trash_images(free_user, [image])
        assert self.get(client, image).status_code == 404
        assert self.get(page_client(free_user), image).status_code == 200

    def test_a_known_picture_is_not_sent_again(self, page_client, free_user, make_image):
        image, caller = make_image(free_user), page_client(free_user)
        etag = self.get(caller, image)["ETag"]
        assert caller.get(f"/media/images/{image.id}.png", headers={"If-None-Match": etag}).status_code == 304

    def test_a_proxy_is_told_which_file_to_hand_out(self, settings, page_client, other_user, free_user, make_image):
        settings.MEDIA_ACCEL_REDIRECT = "/_media/"
        image, owner = make_image(free_user), page_client(free_user)
        response = self.get(owner, image)
        assert response["X-Accel-Redirect"] == f"/_media/{image.file}" and response.content == b""
        assert response["Content-Type"] == "image/png" and "private" in response["Cache-Control"]
        assert self.get(owner, image, "thumbnails")["X-Accel-Redirect"] == f"/_media/{image.thumbnail}"
        known = owner.get(f"/media/images/{image.id}.png", headers={"If-None-Match": response["ETag"]})
        refused = self.get(page_client(other_user), image)
        default_storage.delete(image.file)
        gone = self.get(owner, image)
        assert (known.status_code, refused.status_code, gone.status_code) == (304, 404, 404)
        assert not any(answer.has_header("X-Accel-Redirect") for answer in (known, refused, gone))

    def test_there_is_no_other_way_to_a_file(self, client, page_client, free_user, make_image):
        image = make_image(free_user)
        for path in (image.file, image.thumbnail, f"media/{image.file}", f"static/{image.file}"):
            assert page_client(free_user).get(f"/{path}").status_code == 404


class TestDeleting:
    def test_the_trash_keeps_it_and_gives_it_back(self, free_user, make_image):
        image = make_image(free_user)
        assert trash_images(free_user, [image]) == [image]
        assert not GeneratedImage.objects.kept().exists()
        assert restore_images(free_user, [image]) == [image]
        assert GeneratedImage.objects.kept().get() == image

    @pytest.mark.django_db(transaction=True)
    def test_for_good_removes_row_and_files(self, free_user, make_image, media_folder):
        image = make_image(free_user)
        assert delete_images(free_user, [image]) == 1
        assert not GeneratedImage.objects.exists()
        assert [path for path in media_folder.rglob("*") if path.is_file()] == []

    def test_nobody_deletes_anothers(self, free_user, other_user, make_image):
        image = make_image(free_user, visibility="public")
        assert trash_images(other_user, [image]) == []
        assert delete_images(other_user, [image]) == 0
        assert default_storage.exists(image.file)
