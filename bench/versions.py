"""Two checkouts side by side: the same work by each in turns, over HTTP, so that a noisy machine troubles both alike.

    .venv/bin/python bench/versions.py BEFORE [--rounds 8] [--calls 60] [--only api] >> bench/results.jsonl

BEFORE is the folder of another checkout with a `.venv` of its own. Both run as whole sites (`manage.py up`), with data
of their own; of each pair, the order changes from round to round.

pictures  eight pictures of the built-in model in flight, from the first submit to the last picture
submit    `POST /api/generate` with the fake engine, one after another
status    `GET /api/status/{id}`
history   `GET /api/images/history?perPage=50` over some hundred images

Prints a JSON line for each: what BEFORE takes over what this checkout takes (above 1 this one is faster), by the clock
and by the CPU seconds of the site's processes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import psutil
from compare import print_result, ratio, take_turns

from tests.site import ROOT, Site, wait_for

UNBOUNDED = {"API_CALLS_PER_MINUTE": "1000000", "REQUESTS_PER_HOUR": "1000000", "PRO_DAILY_IMAGES": "1000000"}
FAKE = {"DREAMSKETCH_ENGINE": "fake", "FAKE_SECONDS_PER_STEP": "0.001"}
IN_FLIGHT = 8


class Side:
    """A running site of one checkout, an account on it, and the CPU seconds that its turns took."""

    def __init__(self, site: Site, client: httpx.Client):
        self.site, self.client = site, client
        self.cpu: list[float] = []

    def timed(self, work: Callable[[httpx.Client], object]) -> Callable[[int], float]:
        def turn(_number: int) -> float:
            cpu, began = self._cpu_seconds(), time.perf_counter()
            work(self.client)
            took = time.perf_counter() - began
            self.cpu.append(self._cpu_seconds() - cpu)
            return took

        return turn

    def _cpu_seconds(self) -> float:
        parent = psutil.Process(self.site.process.pid)
        times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
        return sum(each.user + each.system for each in times)


def submit(client: httpx.Client, seed: int = 7, steps: int = 2) -> str:
    response = client.post("/api/generate", json={"prompt": "a red boat at sea", "seed": seed, "steps": steps})
    return response.raise_for_status().json()["id"]


def is_complete(client: httpx.Client, job: str) -> bool:
    return client.get(f"/api/status/{job}").raise_for_status().json()["status"] == "completed"


def draw(client: httpx.Client) -> None:
    jobs = [submit(client, seed, 20) for seed in range(IN_FLIGHT)]
    wait_for(lambda: all(is_complete(client, job) for job in jobs), seconds=120, every=0.05)


def measure(part: str, sides: dict[str, Side], work: Callable[[httpx.Client], object], rounds: int) -> None:
    for side in sides.values():
        work(side.client)
        side.cpu.clear()
    took = take_turns({name: side.timed(work) for name, side in sides.items()}, rounds)
    before, after = sides["before"], sides["after"]
    result = {"before/after": ratio(took["before"], took["after"]), "of_cpu_seconds": ratio(before.cpu, after.cpu)}
    print_result(f"versions-{part}", result)


def measure_api(sides: dict[str, Side], rounds: int, calls: int) -> None:
    jobs = {side.client: submit(side.client) for side in sides.values()}
    page = "/api/images/history?perPage=50"
    parts = {
        "submit": submit,
        "status": lambda client: is_complete(client, jobs[client]),
        "history": lambda client: client.get(page).raise_for_status(),
    }
    for part, call in parts.items():
        measure(part, sides, lambda client, call=call: [call(client) for _ in range(calls)], rounds)


@contextmanager
def running_sides(before: Path, **settings: str) -> Iterator[dict[str, Side]]:
    with ExitStack() as stack:
        sides = {}
        for name, root in (("before", before), ("after", ROOT)):
            var = stack.enter_context(tempfile.TemporaryDirectory(prefix="versions-"))
            site = stack.enter_context(Site(Path(var), root, **UNBOUNDED, **settings))
            sides[name] = Side(site, stack.enter_context(site.user("bench@example.com")))
        yield sides


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two checkouts side by side: the same work by each in turns.")
    parser.add_argument("before", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=("pictures", "api"))
    parser.add_argument("--calls", type=int, default=60)
    options = parser.parse_args()
    checkout = options.before.resolve()
    if options.only != "api":
        with running_sides(checkout) as drawing_sides:
            measure("pictures", drawing_sides, draw, options.rounds)
    if options.only != "pictures":
        with running_sides(checkout, **FAKE) as fake_sides:
            measure_api(fake_sides, options.rounds, options.calls)
