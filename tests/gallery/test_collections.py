"""Collections: making, filling, ordering, and what nobody else may do."""

import pytest

from gallery import collections as rules
from gallery.models import Collection, CollectionItem
from generation.models import GeneratedImage
from generation.services.images import delete_images, trash_images

ALL, BULK = "/gallery/collections/", "/gallery/bulk/"


@pytest.fixture
def four(pro_user, make_image):
    return [make_image(pro_user) for _ in range(4)]


@pytest.fixture
def boats(pro_user, four):
    collection = rules.create_collection(pro_user, "Boats")
    rules.add_images(collection, four)
    return collection


def order(collection) -> list[int]:
    return list(collection.items.order_by("position").values_list("image_id", flat=True))


def shown(response) -> list[int]:
    return [image.number for day in response.context["days"] for image in day["images"]]


def test_one_is_made_filled_from_the_gallery_and_shown_in_its_order(anna, four):
    assert anna.post(ALL, {"title": " Paper  boats "})["Location"] == f"{ALL}paper-boats/"
    anna.post(BULK, {"action": "collect:paper-boats", "ids": [four[2].number, four[0].number]})
    page = anna.post(BULK, {"action": "collect:paper-boats", "ids": [four[0].number, four[1].number]}, follow=True)
    assert "1 image added to “Paper boats”." in page.content.decode()
    assert shown(anna.get(f"{ALL}paper-boats/")) == [four[0].number, four[2].number, four[1].number]
    assert "3 images" in anna.get(ALL).content.decode()


def test_a_new_one_is_made_of_a_selection(anna, four):
    anna.post(BULK, {"action": "collect:", "title": "Größe 東京", "scope": "all", "next": "/gallery/"})
    collection = Collection.objects.get()
    assert collection.title == "Größe 東京" and len(order(collection)) == 4
    assert anna.get(f"{ALL}{collection.slug}/").status_code == 200
    assert (
        "Give the collection a name"
        in anna.post(BULK, {"action": "collect:", "ids": [four[0].number]}, follow=True).content.decode()
    )


def test_images_are_taken_out_and_stay_in_the_gallery(anna, boats, four):
    anna.post(BULK, {"action": "uncollect:boats", "ids": [four[1].number], "next": f"{ALL}boats/"})
    assert four[1].number not in order(boats)
    assert len(shown(anna.get("/gallery/"))) == 4


def test_filters_and_orders_work_inside(anna, boats, four):
    assert shown(anna.get(f"{ALL}boats/", {"sort": "newest"})) == [image.number for image in reversed(four)]
    assert shown(anna.get(f"{ALL}boats/", {"q": "boat"})) == [image.number for image in four]
    assert shown(anna.get(f"{ALL}boats/", {"q": "elephant"})) == []


@pytest.mark.parametrize(
    ("which", "step", "expected"),
    [
        (2, "earlier", [0, 2, 1, 3]),
        (0, "earlier", [0, 1, 2, 3]),
        (0, "later", [1, 0, 2, 3]),
        (2, "later", [0, 1, 3, 2]),
        (3, "later", [0, 1, 2, 3]),
        (3, "first", [3, 0, 1, 2]),
        (0, "last", [1, 2, 3, 0]),
    ],
)
def test_buttons_move_an_image(anna, boats, four, which, step, expected):
    answer = anna.post(f"{ALL}boats/move/", {"image": four[which].number, "step": step})
    assert answer["Location"] == f"{ALL}boats/arrange/"
    assert order(boats) == [four[n].number for n in expected]


def test_dragging_moves_an_image_before_another_or_to_the_end(anna, boats, four, htmx):
    move = f"{ALL}boats/move/"
    answer = anna.post(move, {"image": four[3].number, "before": four[1].number}, headers=htmx)
    assert [image.number for image in answer.context["rows"]] == order(boats) == [four[n].number for n in (0, 3, 1, 2)]
    anna.post(move, {"image": four[0].number, "before": ""})
    assert order(boats) == [four[n].number for n in (3, 1, 2, 0)]


def test_what_is_in_the_trash_is_passed_over(anna, boats, four, pro_user):
    trash_images(pro_user, [four[1]])
    anna.post(f"{ALL}boats/move/", {"image": four[2].number, "step": "earlier"})
    assert shown(anna.get(f"{ALL}boats/")) == [four[n].number for n in (2, 0, 3)]


def test_the_cover_is_chosen_and_the_first_image_stands_in_for_a_lost_one(anna, boats, four, pro_user):
    def front():
        [(_, image)] = anna.get(ALL).context["shelf"]
        return image.number

    assert front() == four[0].number
    anna.post(f"{ALL}boats/cover/", {"image": four[2].number})
    assert front() == four[2].number
    trash_images(pro_user, [four[2]])
    assert front() == four[0].number
    delete_images(pro_user, [GeneratedImage.objects.get(pk=four[2].pk)])
    assert front() == four[0].number and CollectionItem.objects.count() == 3


def test_deleting_keeps_the_images_and_can_be_undone(anna, boats, four):
    page = anna.post(f"{ALL}boats/delete/", follow=True).content.decode()
    assert anna.get(f"{ALL}boats/").status_code == 404 and len(shown(anna.get("/gallery/"))) == 4
    assert rules.create_collection(boats.owner, "Boats").slug == "boats-2", "its address is not given away meanwhile"
    back = anna.post("/gallery/undo/" + page.partition('action="/gallery/undo/')[2].partition('"')[0])
    assert back["Location"] == f"{ALL}boats/" and len(shown(anna.get(f"{ALL}boats/"))) == 4


def test_a_new_name_keeps_the_address(anna, boats):
    anna.post(f"{ALL}boats/rename/", {"title": "Ships"})
    assert "Ships" in anna.get(f"{ALL}boats/").content.decode()
    for title in ("", "   ", "x" * 81):
        assert anna.post(f"{ALL}boats/rename/", {"title": title}).status_code == 422
        assert anna.post(ALL, {"title": title}).status_code == 422


def test_limits_are_told_and_nothing_changes(anna, boats, four, pro_user, make_image, monkeypatch):
    monkeypatch.setattr(rules, "MOST_COLLECTIONS", 1)
    answer = anna.post(ALL, {"title": "Another"})
    assert answer.status_code == 422 and "which is the most" in answer.content.decode()
    monkeypatch.setattr(rules, "MOST_IMAGES", 4)
    more = make_image(pro_user)
    page = anna.post(BULK, {"action": "collect:boats", "ids": [more.number]}, follow=True)
    assert "holds up to 4 images" in page.content.decode() and len(order(boats)) == 4


def test_nobody_else_reaches_it(stranger, boats, four, other_user, make_image):
    for path in ("", "arrange/", "rename/"):
        assert stranger.get(f"{ALL}boats/{path}").status_code == 404
    for path in ("rename/", "delete/", "move/", "cover/"):
        assert stranger.post(f"{ALL}boats/{path}", {"image": four[0].number, "title": "x"}).status_code == 404
    theirs = make_image(other_user)
    assert stranger.post(BULK, {"action": "collect:boats", "ids": [theirs.number]}).status_code == 404
    stranger.post(BULK, {"action": "collect:", "title": "Mine", "ids": [image.number for image in four]})
    assert order(boats) == [image.number for image in four] and not Collection.objects.filter(owner=other_user).exists()


def test_only_images_of_the_collection_are_moved_or_shown_on_its_cover(anna, boats, pro_user, make_image):
    outside = make_image(pro_user)
    for path in ("move/", "cover/"):
        assert anna.post(f"{ALL}boats/{path}", {"image": outside.number, "step": "first"}).status_code == 404
        assert anna.post(f"{ALL}boats/{path}", {"image": "x" * 30}).status_code == 404
