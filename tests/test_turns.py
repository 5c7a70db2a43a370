"""Turns of web requests: few at once, fewer of one caller, and nobody waits behind another caller's many."""

import asyncio

import pytest

from dreamsketch import turns
from dreamsketch.turns import Caller, InTurn, Refused, Turns

MANY, OTHER = Caller("192.0.2.1", "a key"), Caller("192.0.2.2", "")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(turns, "PAUSE_SECONDS", (0, 0))


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


def scope_of(path="/"):
    return {"type": "http", "path": path, "headers": [], "client": ("192.0.2.1", 1)}


def caller_who_waits(hang_up=None):
    """ASGI's `receive` of a request without a body, whose caller hangs up when the event `hang_up` is set."""
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        if (message := next(messages, None)) is not None:
            return message
        await (hang_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    return receive


async def send_nowhere(message):
    pass


def test_a_turn_lasts_until_the_answer_though_its_caller_has_hung_up():
    """The thread that is at work for it goes on too."""

    async def steps():
        hang_up, events = asyncio.Event(), []

        async def application(scope, receive, send):
            await receive()
            listening = asyncio.create_task(receive())
            hang_up.set()
            await let_others_run()
            events.append((listening.done(), turns.turns._at_work.total()))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await listening
            events.append((listening.result()["type"], turns.turns._at_work.total()))

        await InTurn(application)(scope_of(), caller_who_waits(hang_up), send_nowhere)
        return events

    assert run(steps) == [(False, 1), ("http.disconnect", 0)]


def test_who_hangs_up_in_line_leaves_it(monkeypatch):
    monkeypatch.setattr(turns, "TURNS", 0)

    async def steps():
        hang_up, messages = asyncio.Event(), []

        async def application(scope, receive, send):
            messages.append(await receive())

        waiting = asyncio.create_task(InTurn(application)(scope_of(), caller_who_waits(hang_up), send_nowhere))
        await let_others_run()
        assert turns.turns._waiting.total() == 1 and not messages
        hang_up.set()
        await waiting
        return messages, turns.turns._waiting.total()

    assert run(steps) == ([{"type": "http.disconnect"}], 0)


def answer_of(path: str) -> tuple[int, bytes]:
    """Of a request that finds no turn."""

    async def steps():
        sent = []

        async def application(scope, receive, send):
            assert (await receive())["type"] == "http.disconnect"

        async def send(message):
            sent.append(message)

        await InTurn(application)(scope_of(path), caller_who_waits(), send)
        return sent[0]["status"], sent[1]["body"]

    return run(steps)


def test_streams_beyond_a_callers_share_are_refused_before_anything_is_looked_up(monkeypatch):
    monkeypatch.setattr(turns, "STREAMS_PER_CALLER", 0)
    for path in ("/events/", "/api/generate/0b2a6a0e-5f3c-4c53-9f2e-0d6d1c3b8f11/events"):
        assert answer_of(path)[0] == 429


@pytest.mark.parametrize("path", ["/api/generate", "/v1/images/generations", "/sdapi/v1/txt2img", "/gallery/"])
def test_a_refusal_has_the_shape_of_its_dialect(path, monkeypatch):
    monkeypatch.setattr(turns, "WAITING_PER_CALLER", 0)
    monkeypatch.setattr(turns, "TURNS", 0)
    status, body = answer_of(path)
    assert status == 429
    marks = {"/api": b'{"error": {"code"', "/v1/": b'"type": "rate_limit_error"', "/sda": b'"detail"', "/gal": b"<html"}
    assert marks[path[:4]] in body
