"""Turns of web requests: few at once, fewer of one caller, and nobody waits behind another caller's many."""

import asyncio

import pytest

from dreamsketch import turns
from dreamsketch.turns import Caller, InTurn, Refused, Turns

MANY, OTHER = Caller("192.0.2.1", "a key"), Caller("192.0.2.2", "")


def run(steps):
    """What the coroutine function returns."""
    return asyncio.run(asyncio.wait_for(steps(), 20))


async def let_others_run():
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_sends_few_comes_before_those_who_wait_behind_a_caller_of_many():
    async def steps():
        line, order = Turns(), []

        async def ask(caller, name):
            turn = await line.take(caller)
            order.append(name)
            return turn

        many = [asyncio.create_task(ask(MANY, "many")) for _ in range(50)]
        await let_others_run()
        assert order == ["many"] * turns.TURNS_PER_CALLER
        await (other := asyncio.create_task(ask(OTHER, "other")))
        assert order[-1] == "other"
        for task in many:
            (await task).give_back()
        other.result().give_back()
        assert order.count("many") == 50
        return line

    line = run(steps)
    assert not line._line and not line._at_work and not line._by_address and not line._waiting


def test_other_credentials_each_time_do_not_get_an_address_all_turns():
    async def steps():
        line = Turns()
        liars = [asyncio.create_task(line.take(Caller("192.0.2.1", str(number)))) for number in range(100)]
        await let_others_run()
        assert sum(task.done() for task in liars) == turns.TURNS_PER_ADDRESS
        (await line.take(OTHER)).give_back()
        for task in liars:
            task.cancel()

    run(steps)


def test_who_shows_another_credential_each_time_waits_behind_another_address(monkeypatch):
    monkeypatch.setattr(turns, "TURNS", turns.TURNS_PER_ADDRESS)

    async def steps():
        line = Turns()
        liars = [asyncio.create_task(line.take(Caller("192.0.2.1", str(number)))) for number in range(100)]
        await let_others_run()
        other = asyncio.create_task(line.take(OTHER))
        await let_others_run()
        liars[0].result().give_back()
        await let_others_run()
        assert other.done()
        for task in liars:
            task.cancel()

    run(steps)


def test_one_address_does_not_fill_the_line():
    async def steps():
        line = Turns()
        count = turns.TURNS_PER_ADDRESS + turns.WAITING_PER_ADDRESS
        liars = [asyncio.create_task(line.take(Caller("192.0.2.1", str(number)))) for number in range(count)]
        await let_others_run()
        with pytest.raises(Refused) as refusal:
            await line.take(Caller("192.0.2.1", "another"))
        assert refusal.value.problem.status == 429
        (await line.take(OTHER)).give_back()
        for task in liars:
            task.cancel()

    run(steps)


def test_too_many_in_line_are_told_so_at_once():
    async def steps():
        line = Turns()
        waiting = [
            asyncio.create_task(line.take(MANY)) for _ in range(turns.TURNS_PER_CALLER + turns.WAITING_PER_CALLER)
        ]
        await let_others_run()
        with pytest.raises(Refused) as refusal:
            await line.take(MANY)
        assert (refusal.value.problem.status, refusal.value.problem.headers["Retry-After"]) == (429, "2")
        (await line.take(OTHER)).give_back()
        for task in waiting:
            task.cancel()

    run(steps)


@pytest.mark.parametrize("busy", [MANY, OTHER])
def test_waiting_ends(busy, monkeypatch):
    """429 for who has all their turns already; 503 for who found those of others taken."""
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(turns, "TURNS", turns.TURNS_PER_CALLER)

    async def steps():
        line = Turns()
        for _ in range(turns.TURNS_PER_CALLER):
            await line.take(busy)
        with pytest.raises(Refused) as refusal:
            await line.take(MANY)
        assert not line._line
        return refusal.value.problem.status

    assert run(steps) == (429 if busy is MANY else 503)


def test_who_stops_waiting_takes_no_turn_with_them():
    async def steps():
        line = Turns()
        taken = [await line.take(MANY) for _ in range(turns.TURNS_PER_CALLER)]
        waiting = asyncio.create_task(line.take(MANY))
        await let_others_run()
        taken[0].give_back()  # the waiting one has it now, and is ended before it can know
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        taken[0].give_back()
        for turn in taken:
            turn.give_back()
        return line

    assert not run(steps)._at_work


def answer_of(path: str) -> tuple[int, bytes]:
    """Of a request that finds no turn."""

    async def steps():
        sent = []

        async def application(scope, receive, send):
            assert (await receive())["type"] == "http.disconnect"

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "path": path, "headers": [], "client": ("192.0.2.1", 1)}
        await InTurn(application)(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]

    return run(steps)


@pytest.mark.parametrize("path", ["/api/generate", "/v1/images/generations", "/sdapi/v1/txt2img", "/gallery/"])
def test_a_refusal_has_the_shape_of_its_dialect(path, monkeypatch):
    monkeypatch.setattr(turns, "WAITING_PER_CALLER", 0)
    monkeypatch.setattr(turns, "TURNS", 0)
    status, body = answer_of(path)
    assert status == 429
    marks = {"/api": b'{"error": {"code"', "/v1/": b'"type": "rate_limit_error"', "/sda": b'"detail"', "/gal": b"<html"}
    assert marks[path[:4]] in body
