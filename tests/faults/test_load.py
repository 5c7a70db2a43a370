"""One caller with many connections: bombs, half-sent requests, many at once, slow pictures. Others notice little.

`attacks.py` has what the caller does; `bench/load.py` measures the same for longer.
"""

import socket

import pytest

from dreamsketch import connections, limits, turns
from tests.faults import attacks
from tests.faults.attacks import MEGABYTE
from tests.site import wait_for

CONNECTIONS = 200
PAGE_SECONDS = 0.06
"""Of a page while nothing else happens; where other work makes it longer, so may the page be under attack."""
SPARE = 3
"""The caller and other tests share the cores with the site. `bench/load.py` says how long it takes without them."""


def under_attack(site, attack, seconds=5) -> dict:
    """Its figures, once what holds for all attacks is checked: pages, memory, connections, temporary files."""
    figures = attack(site, seconds, CONNECTIONS)
    print(figures)
    busy = SPARE * max(1.0, figures["page_calm"] / PAGE_SECONDS)
    assert figures["page_statuses"] == ["200"]
    assert figures["page_p95"] <= 0.5 * busy and figures["page_worst"] <= 2 * busy
    assert figures["memory_most"] <= 400
    assert figures["memory_after"] <= figures["memory_before"] + 60
    assert figures["database_most"] <= 60
    assert figures["temporary_most"] <= 100
    return figures | {"busy": busy}


def statuses(figures) -> set[str]:
    """How those connections ended that did not last."""
    return {name for name in figures["answers"] if name not in ("seconds", "cpu_seconds", "held")}


def test_json_bombs_are_refused(fault_site):
    figures = under_attack(fault_site, attacks.body_bombs)
    assert statuses(figures) <= {"413", "429", "reset"}
    with fault_site.user(plan="free") as person:
        answer = person.post("/api/generate", content=attacks.bomb(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_bodies_of_strangers_are_not_read(fault_site):
    figures = under_attack(fault_site, attacks.strangers_bodies)
    assert "401" in figures["answers"] and statuses(figures) <= {"401", "429", "reset"}


def test_slow_bodies(fault_site):
    under_attack(fault_site, attacks.slow_bodies)


def test_twelve_hundred_half_sent_requests_leave_room_for_others(fault_site):
    figures = under_attack(fault_site, attacks.half_sent)
    assert figures["descriptors_most"] - figures["descriptors_before"] <= 1400
    wait_for(
        lambda: attacks.Machine(fault_site).web.num_fds() <= figures["descriptors_before"] + 50,
        seconds=connections.HEADER_SECONDS + 5,
        what="all of them closed",
    )


def test_endless_heads_and_requests_without_a_pause(fault_site):
    under_attack(fault_site, attacks.long_heads)


def test_answers_that_nobody_reads_are_not_kept(fault_site):
    under_attack(fault_site, attacks.deaf)


def test_pages_of_a_stranger(fault_site):
    figures = under_attack(fault_site, attacks.pages)
    assert "404" in figures["answers"] and statuses(figures) <= {"200", "404", "429"}


def test_another_wrong_key_each_time(fault_site):
    figures = under_attack(fault_site, attacks.wrong_keys)
    assert "401" in figures["answers"] and statuses(figures) <= {"401", "429"}


def test_refused_submits_of_an_account(fault_site):
    figures = under_attack(fault_site, attacks.refused_submits)
    assert "400" in figures["answers"] and statuses(figures) <= {"400", "429"}


def test_slow_pictures_of_one_account_do_not_hold_up_another(fault_site):
    figures = under_attack(fault_site, attacks.slow_pictures, seconds=8)
    assert statuses(figures) <= {"200", "400", "429"}
    assert figures["upload_statuses"] == [200] and figures["upload_worst"] <= 3 * figures["busy"]


def test_a_thousand_event_streams(fault_site):
    figures = under_attack(fault_site, attacks.streams)
    assert statuses(figures) <= {"200", "429"}


def test_receivers_that_hang_delay_nobody_elses_first_message(fault_site):
    figures = under_attack(fault_site, attacks.hanging_receivers, seconds=2)
    assert figures["webhook_seconds"] <= 1 * figures["busy"]


def test_all_at_once(fault_site):
    figures = under_attack(fault_site, attacks.all_at_once, seconds=8)
    assert figures["upload_statuses"] == [200] and figures["upload_worst"] <= 3 * figures["busy"]
    assert figures["webhook_seconds"] <= 1 * figures["busy"]


@pytest.mark.parametrize(
    "path", ["/api/generate", "/v1/images/edits", "/sdapi/v1/img2img", "/inference/images/generations"]
)
@pytest.mark.parametrize("shown", ["", "Authorization: Bearer dsk_0a1b2c3d_wrong\r\n", "Cookie: sessionid=abc\r\n"])
def test_a_strangers_large_body_is_refused_by_its_head(fault_site, path, shown):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{shown}"
    with socket.create_connection(("127.0.0.1", fault_site.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: 30000000\r\n\r\n".encode())
        assert connection.recv(4096).split()[1] in (b"401", b"403")


def test_bounds_fit_together():
    assert turns.TURNS_PER_CALLER < turns.TURNS_PER_ADDRESS < turns.TURNS < 60
    assert limits.SMALL * connections.PER_ADDRESS < 100 * MEGABYTE
