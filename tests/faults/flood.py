"""Many requests at once from a process of its own, so that who looks at the site from the tests is not slowed by it.

python flood.py PORT CONNECTIONS REQUESTS < requests    (one JSON string per request head and body; prints the statuses)
"""

import asyncio
import collections
import json
import sys


async def ask(port: int, request: bytes) -> str:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        line = await asyncio.wait_for(reader.readline(), 60)
        await reader.read()
        writer.close()
        return line.split()[1].decode()
    except (OSError, IndexError, TimeoutError) as error:
        return type(error).__name__


async def flood(port: int, connections: int, count: int, requests: list[bytes]) -> dict[str, int]:
    numbers = iter(range(count))
    statuses: collections.Counter[str] = collections.Counter()

    async def go_on() -> None:
        for number in numbers:
            statuses[await ask(port, requests[number % len(requests)])] += 1

    await asyncio.gather(*(go_on() for _ in range(connections)))
    return dict(statuses)


if __name__ == "__main__":
    lines = [json.loads(line).encode("latin-1") for line in sys.stdin]
    print(json.dumps(asyncio.run(flood(*map(int, sys.argv[1:4]), lines))))
