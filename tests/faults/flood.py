"""A caller of many connections, cheap enough to leave the processor to the site: one loop over raw sockets.

    python flood.py PORT CONNECTIONS SECONDS [--drip SECONDS] [--count REQUESTS] [--deaf] < requests

Keeps so many connections open, each with one of the requests (a JSON string a line, of latin-1), and opens another one
whenever one ends. `--drip` sends one more byte on each every so many seconds, `--deaf` reads no answers. Ends after
SECONDS, or after so many connections. Prints JSON: how many connections ended how (a status, `reset`, `closed`, `held`
until the end), and the seconds and processor seconds that it took.
"""

import argparse
import collections
import errno
import json
import resource
import select
import socket
import sys
import time


class Connection:
    """One request on its way. `outcome` is what came of it so far."""

    def __init__(self, port: int, request: memoryview, deaf: bool):
        self.rest, self.outcome = request, "held"
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if deaf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        error = self.socket.connect_ex(("127.0.0.1", port))
        if error not in (0, errno.EINPROGRESS):
            raise OSError(error, "connect")

    def go_on(self, events: int) -> bool:
        """Write and read what is possible; returns whether there will be more."""
        try:
            if events & select.EPOLLOUT and self.rest:
                self.rest = self.rest[self.socket.send(self.rest) :]
            if events & ~select.EPOLLOUT:
                data = self.socket.recv(65536)
                if self.outcome == "held":
                    self.outcome = data[9:12].decode("latin-1") if data else "closed"
                return bool(data)
        except BlockingIOError:
            pass
        except OSError:
            self.outcome = self.outcome.replace("held", "reset")
            return False
        return True


class Flood:
    def __init__(self, options: argparse.Namespace, requests: list[bytes]):
        self.options, self.requests = options, [memoryview(request) for request in requests]
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.opened = 0

    def run(self) -> dict:
        began = time.monotonic()
        end, drip_at = began + self.options.seconds, began + self.options.drip
        for _ in range(self.options.connections):
            self.open()
        while self.connections and (now := time.monotonic()) < end:
            for number, events in self.poll.poll(0.05):
                self.serve(number, events)
            if self.options.drip and now > drip_at:
                drip_at += self.options.drip
                for number, connection in list(self.connections.items()):
                    if not connection.rest:
                        connection.rest = memoryview(b"x")
                        self.serve(number, select.EPOLLOUT)
        seconds = time.monotonic() - began
        self.outcomes.update(connection.outcome for connection in self.connections.values())
        return dict(self.outcomes) | {"seconds": round(seconds, 1), "cpu_seconds": round(time.process_time(), 2)}

    def open(self) -> None:
        if self.options.count and self.opened >= self.options.count:
            return
        connection = Connection(self.options.port, self.requests[self.opened % len(self.requests)], self.options.deaf)
        self.opened += 1
        self.connections[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLOUT | self.reading)

    @property
    def reading(self) -> int:
        """What is waited for once the request is sent; a connection that is cut off is told of in any case."""
        return 0 if self.options.deaf else select.EPOLLIN

    def serve(self, number: int, events: int) -> None:
        connection = self.connections[number]
        if connection.go_on(events):
            if not connection.rest and events & select.EPOLLOUT:
                self.poll.modify(number, self.reading)
            return
        self.poll.unregister(number)
        connection.socket.close()
        del self.connections[number]
        self.outcomes[connection.outcome] += 1
        self.open()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--drip", type=float, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--deaf", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    print(json.dumps(Flood(options, [json.loads(line).encode("latin-1") for line in sys.stdin]).run()))


if __name__ == "__main__":
    main()
