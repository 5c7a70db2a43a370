"""A server that takes webhooks, well-behaved or not, and remembers what it was sent."""

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass
class Message:
    path: str
    headers: dict[str, str]
    body: bytes


def read_message(reader: BinaryIO) -> Message | None:
    """The request on the connection; None if its sender was gone (killed, timed out) before it was whole."""
    head = []
    while line := reader.readline():
        if line == b"\r\n":
            break
        head.append(line.decode().removesuffix("\r\n"))
    else:
        return None
    _, path, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
    length = int(headers["content-length"])
    body = reader.read(length)
    return Message(path, headers, body) if len(body) == length else None


@dataclass
class Receiver:
    """Answers `answer` (raw bytes) to every request, or does `behave(connection)` instead if that is set."""

    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"
    behave: object = None
    tls: ssl.SSLContext | None = None
    messages: list[Message] = field(default_factory=list)
    connections: int = 0

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/hook"
        self.released = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.released.set()
        self._listener.close()

    def status(self, number: int, *headers: str) -> None:
        self.answer = "\r\n".join([f"HTTP/1.1 {number} X", *headers, "Content-Length: 0", "", ""]).encode()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection):
        with contextlib.suppress(OSError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reader:
                message = read_message(reader)
                if message is None:
                    return
                self.messages.append(message)
                if self.behave:
                    self.behave(connection)
                else:
                    connection.sendall(self.answer)
