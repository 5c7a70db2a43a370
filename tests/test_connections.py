"""Connections whose callers do not read, send heads without an end, or ask on and on without waiting."""

import asyncio

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from dreamsketch import connections
from dreamsketch.connections import Protocol


class Wire(asyncio.Transport):
    """What a connection is written to. `waiting` bytes have not been read."""

    def __init__(self):
        super().__init__({"peername": ("192.0.2.1", 1), "sockname": ("192.0.2.2", 80)})
        self.waiting, self.written, self.cut_off = 100_000, b"", False

    def get_write_buffer_size(self):
        return self.waiting

    def write(self, data):
        self.written += data

    def abort(self):
        self.cut_off = True

    def is_closing(self):
        return self.cut_off

    close = abort

    def pause_reading(self):
        pass

    resume_reading = pause_reading


async def never(scope, receive, send):
    """An application that does not answer."""
    await asyncio.Event().wait()


def on_a_connection(steps, application=never):
    """What the coroutine function returns for a new connection and its wire."""

    async def run():
        config = Config(application, lifespan="off", log_config=None, interface="asgi3")
        config.load()
        protocol, wire = Protocol(config, ServerState(), {}, asyncio.get_running_loop()), Wire()
        protocol.connection_made(wire)
        try:
            return await steps(protocol, wire)
        finally:
            protocol.connection_lost(None)
            for task in protocol.tasks:
                task.cancel()

    return asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.parametrize("read", [0, 10])
def test_whoever_reads_some_of_a_large_answer_goes_on(read, monkeypatch):
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.05)

    async def steps(protocol, wire):
        protocol.pause_writing()
        for _ in range(10):
            wire.waiting -= read
            await asyncio.sleep(0.02)
        return wire.cut_off

    assert on_a_connection(steps) is (read == 0)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"GET /" + b"x" * 20_000])
def test_a_head_has_a_bound(head):
    async def steps(protocol, wire):
        protocol.data_received(head)
        before = wire.cut_off
        for _ in range(3):
            protocol.data_received(b"x" * 20_000)
        return before, wire.cut_off, wire.written

    before, after, written = on_a_connection(steps)
    assert (before, after) == (False, True) and written.startswith(b"HTTP/1.1 400")


def test_requests_that_wait_for_no_answer_have_a_bound():
    ask = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def steps(protocol, wire):
        protocol.data_received(ask * (1 + connections.PIPELINED))
        before = wire.cut_off
        protocol.data_received(ask)
        return before, wire.cut_off

    assert on_a_connection(steps) == (False, True)


def test_a_request_at_work_hears_that_its_caller_is_gone_though_others_wait_behind_it():
    messages = []

    async def listening(scope, receive, send):
        messages.append(await receive())
        messages.append(await receive())

    async def steps(protocol, wire):
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)

    on_a_connection(steps, listening)
    assert [message["type"] for message in messages] == ["http.request", "http.disconnect"]
