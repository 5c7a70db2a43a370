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
from generation.storage.image_requests import request_of


def store(make_generation, user, **fields):
    generation = make_generation(user, width=640, height=480, **fields)
    pixels = Image.new("RGB", (640, 480), (10, 120, 200))
    return files.store_image(EngineImage(0, 7, pixels, {"dtype": "fp32"}, 1), request_of(generation))


def test_a_picture_is_stored_with_its_recipe_and_a_thumbnail(make_generation, free_user):
    stored = store(make_generation, free_user)
    with default_storage.open(stored.file) as handle:
        content = handle.read()
    assert hashlib.sha256(content).hexdigest() == stored.sha256 and len(content) == stored.file_size
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG" and picture.size == (640, 480)
    metadata = read_png(content)
    assert metadata["recipe"]["seed"] == 7 and metadata["recipe"]["prompt"] == "a red boat at sea"
    assert metadata["machine_made"]
    with default_storage.open(stored.thumbnail) as handle, Image.open(handle) as picture:
        assert picture.format == "WEBP" and picture.size == (256, 192)
    assert stored.colour == "#0a78c8"
    assert stored.file.startswith("generated_images/") and stored.thumbnail.startswith("thumbnails/")


def test_thumbnails_come_in_three_widths_and_say_what_they_are(make_generation, free_user, media_folder):
    stored = store(make_generation, free_user)
    assert stored.thumbnail_size == 1024
    sizes = {}
    for path in (media_folder / "thumbnails").rglob("*.webp"):
        with Image.open(path) as picture:
            sizes[path.stem[len(str(stored.id)) :]] = picture.size
            assert "trainedAlgorithmicMedia" in picture.info["xmp"].decode()
    assert sizes == {"": (256, 192), "-512": (512, 384), "-1024": (640, 480)}


def test_a_small_picture_has_no_wider_thumbnails_than_pixels(make_image, free_user, media_folder):
    image = make_image(free_user)
    assert image.thumbnail_size == 0 and len(list((media_folder / "thumbnails").rglob("*.webp"))) == 1


class TestWideThumbnails:
    @pytest.fixture
    def image(self, make_image, free_user):
        return make_image(free_user, generation_fields={"width": 640, "height": 480})

    def get(self, client, image, size):
        return client.get(f"/media/thumbnails/{image.id}-{size}.webp")

    def width(self, response):
        return Image.open(io.BytesIO(response.content)).width

    def test_each_is_served_to_its_owner_and_to_nobody_else(self, page_client, image, free_user, other_user, client):
        owner = page_client(free_user)
        assert [self.width(self.get(owner, image, size)) for size in (512, 1024)] == [512, 640]
        assert len({self.get(owner, image, size)["ETag"] for size in (512, 1024)}) == 2
        for visitor in (client, page_client(other_user)):
            assert self.get(visitor, image, 512).status_code == 404
        set_visibility(image, "public")
        assert self.get(client, image, 512).status_code == 200

    def test_other_sizes_are_no_addresses(self, page_client, image, free_user):
        for size in (0, 256, 513, 99999999999):
            assert self.get(page_client(free_user), image, size).status_code == 404

    def test_a_picture_from_before_them_answers_with_what_it_has(self, page_client, image, free_user):
        GeneratedImage.objects.update(thumbnail_size=0)
        owner = page_client(free_user)
        assert self.width(self.get(owner, image, 1024)) == 256
        page = owner.get("/gallery/").content.decode()
        assert f"{image.id}.webp 256w" in page and f"{image.id}-512.webp" not in page

    def test_all_go_with_the_picture(self, image, free_user, media_folder, django_capture_on_commit_callbacks):
        trash_images(free_user, [image])
        with django_capture_on_commit_callbacks(execute=True):
            delete_images(free_user, [image])
        assert [path for path in media_folder.rglob("*") if path.is_file()] == []


def test_nothing_half_written_stays_when_the_disk_fails(make_generation, free_user, media_folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(files.StorageUnavailable):
        store(make_generation, free_user)
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
