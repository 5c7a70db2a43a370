"""Egress guard against SSRF: which URLs chosen by users this server may call, and an HTTP POST to them.

An address is parsed once, its name is resolved once, every address that the name has must be public, and the
connection goes to one of exactly those. So neither spelling, DNS nor a redirect leads into our own network.
"""

import io
import ipaddress
import re
import socket
import ssl
import time
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPResponse

from django.conf import settings

MAX_URL = 1000
PORTS = (443, 8443)
MAX_ANSWER_BYTES = 16 * 1024
"""Of head and body together; what comes after it is not read."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL = re.compile(
    # No user, no fragment, no backslash, nothing outside ASCII: nothing that two parsers read differently.
    r"(?P<scheme>https?)://(?P<host>[^/?#@:\\\[\]]{1,253}|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$&'()*+,;=:@A-Za-z0-9._~%/-]*)?(?P<query>\?[!$&'()*+,;=:@A-Za-z0-9._~%/?-]*)?",
    re.IGNORECASE | re.ASCII,
)
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_NUMBER_AT_THE_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)

_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        # What `is_global` lets through although it leads elsewhere: protocol assignments, 6to4 relays and
        # tunnels (they carry an IPv4 address of anybody's choice), documentation.
        "192.0.0.0/24",
        "192.88.99.0/24",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
]
_UNICAST = ipaddress.ip_network("2000::/3")
_LOCAL = ipaddress.ip_network("fc00::/7")
_NEVER = [
    ipaddress.ip_network(network)
    for network in (
        # Also not on a private network: link-local with the metadata services of clouds, and their other addresses.
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",
        "100.100.100.200/32",
        "192.0.0.192/32",
        "168.63.129.16/32",
        "0.0.0.0/8",
        "::/128",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "ff00::/8",
    )
]


class AddressRefused(Exception):
    """This server does not call such an address; the text says why."""


class CallFailed(Exception):
    """The call came to nothing; the text says why, in words that tell nothing of our network."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address. `host` is a lower-case name, or an IP address where private networks are allowed."""

    host: str
    port: int
    path: str
    tls: bool

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse(url: str) -> Target:
    """Read an address, without looking its name up. Raises AddressRefused."""
    match = _URL.fullmatch(url) if len(url) <= MAX_URL and url.isascii() else None
    if match is None:
        raise AddressRefused("This is no address like https://example.com/hook, in ASCII and without a user or #.")
    private = settings.WEBHOOK_ALLOW_PRIVATE
    tls = match["scheme"].lower() == "https"
    port = int(match["port"] or (443 if tls else 80))
    if not tls and not private:
        raise AddressRefused("The address must begin with https://.")
    if not (1 <= port <= 65535 if private else port in PORTS):
        raise AddressRefused(f"The port must be one of {', '.join(map(str, PORTS))}.")
    host = match["host"].lower().removesuffix(".")
    if host.startswith("[") or _NUMBER_AT_THE_END.fullmatch(host):
        host = _literal(host.strip("[]"))
    elif not _NAME.fullmatch(host) or ("." not in host and not private):
        raise AddressRefused("The address needs a full host name, such as hooks.example.com.")
    return Target(host, port, (match["path"] or "/") + (match["query"] or ""), tls)


def _literal(host: str) -> str:
    if not settings.WEBHOOK_ALLOW_PRIVATE:
        raise AddressRefused("The address needs a host name, not an IP address.")
    try:
        # Strict: no octal, hexadecimal or shortened spellings.
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise AddressRefused("This is no IP address in its usual spelling.") from None


def may_be_called(address: str) -> bool:
    """Whether a connection to this IP address is allowed."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if any(ip in network for network in _NEVER):
        return False
    if settings.WEBHOOK_ALLOW_PRIVATE and (ip.version == 4 or ip.is_loopback or ip in _LOCAL):
        return True
    if not ip.is_global or ip.is_multicast or any(ip in network for network in _NOT_PUBLIC):
        return False
    # NAT64, IPv4-compatible and all other prefixes that stand for something else lie outside.
    return ip.version == 4 or ip in _UNICAST


def resolve(target: Target) -> list[tuple[socket.AddressFamily, tuple]]:
    """(family, address) for `socket.connect`, for each address of the target. One forbidden address spoils them all.

    Raises AddressRefused or CallFailed.
    """
    name = target.host
    if "." in name and ":" not in name and not _NUMBER_AT_THE_END.fullmatch(name):
        name += "."  # fully qualified, so that no search domain is tried
    try:
        results = socket.getaddrinfo(name, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        raise CallFailed("The host name could not be found.") from None
    if not all(may_be_called(str(address[0])) for *_, address in results):
        raise AddressRefused("The host name leads to an address that is not public.")
    return [(family, address) for family, *_, address in results]


def post(url: str, body: bytes, headers: dict[str, str], *, seconds: float) -> int:
    """POST to `url` and return the status of the answer, within `seconds` in all (looking up the name aside).

    The answer's body is not given back, and redirects are not followed. Raises AddressRefused or CallFailed.
    """
    target = parse(url)
    deadline = time.monotonic() + seconds
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header with a line break")
    try:
        with _connect(target, deadline) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + body)
            return _status(connection, deadline)
    except TimeoutError:
        raise CallFailed("There was no answer in time.") from None
    except ssl.SSLCertVerificationError as error:
        raise CallFailed(f"The certificate is not valid: {error.verify_message or 'refused'}.") from None
    except ssl.SSLError:
        raise CallFailed("No secure connection could be made.") from None
    except OSError:
        raise CallFailed("The connection failed.") from None
    except (HTTPException, ValueError):
        raise CallFailed("The answer was not HTTP.") from None


@cache
def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connect(target: Target, deadline: float) -> socket.socket:
    """A connection to one of the addresses that were checked, never to a name."""
    failure: Exception = CallFailed("The host name could not be found.")
    for family, address in resolve(target):
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(_left(deadline))
            plain.connect(address)
            if not target.tls:
                return plain
            return tls_context().wrap_socket(plain, server_hostname=target.host)
        except OSError as error:
            plain.close()
            failure = error
    raise failure


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _status(connection: socket.socket, deadline: float) -> int:
    with HTTPResponse(_LimitedReader(connection, deadline), method="POST") as response:
        response.begin()
        return response.status


class _LimitedReader(io.RawIOBase):
    """What `HTTPResponse` takes for a socket: ends at the deadline, however slowly bytes drip in, and at a size."""

    def __init__(self, connection: socket.socket, deadline: float):
        self.connection, self.deadline, self.left = connection, deadline, MAX_ANSWER_BYTES

    def makefile(self, mode):
        return io.BufferedReader(self, 1024)

    def readable(self):
        return True

    def readinto(self, buffer):
        if self.left <= 0:
            raise HTTPException("too long")
        self.connection.settimeout(_left(self.deadline))
        size = self.connection.recv_into(memoryview(buffer)[: min(len(buffer), self.left)])
        self.left -= size
        return size
