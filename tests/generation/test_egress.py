"""Which addresses are called: every spelling of a private one, names that lead there, and bad receivers (W1, W3)."""

import socket
import ssl
import threading

import pytest
import trustme

from generation.webhooks import egress
from generation.webhooks.egress import AddressRefused, CallFailed, may_be_called, parse, post
from tests.receiver import Receiver

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:192.168.0.1",
]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "ff02::1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    # Prefixes that stand for another address: NAT64, 6to4, Teredo, IPv4-compatible, site-local.
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "::127.0.0.1",
    "fec0::1",
]
ODD = [
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "2001:db8::1",
    "3fff::1",
    "100::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address):
    assert may_be_called(address)


@pytest.mark.parametrize("address", PRIVATE + NEVER + ODD)
def test_others_are_not(address):
    assert not may_be_called(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ones_are_where_it_is_allowed(address, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    assert may_be_called(address)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_the_like_never_are(address, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    assert not may_be_called(address)


BAD_URLS = [
    "",
    " ",
    "hooks.example.com",
    "//hooks.example.com",
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "javascript:alert(1)",
    "https://",
    "https:///x",
    "https:/hooks.example.com",
    "https:hooks.example.com",
    "https://hooks.example.com:80/",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:0/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:/",
    "https://user@hooks.example.com/",
    "https://user:word@hooks.example.com/",
    "https://hooks.example.com@127.0.0.1/",
    "https://127.0.0.1#@hooks.example.com/",
    "https://hooks.example.com\\@127.0.0.1/",
    "https://hooks.example.com/#x",
    "https://hooks.example.com /",
    "https://hooks.example.com/ x",
    "https://hooks.example.com/\r\nX: y",
    "https://hooks.example.com/\x00",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://1.1.1.1/",
    "https://[2606:4700::1111]/",
    "https://localhost/",
    "https://localhost./",
    "https://redis/",
    "https://１２７.0.0.1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://hooks。example。com/",
    "https://höoks.example.com/",
    "https://\u212aooks.example.com/",
    "https://-x.example.com/",
    "https://x-.example.com/",
    "https://a..example.com/",
    "https://.example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://hooks.example.com/" + "x" * 1000,
    "https://a_b.example.com/",
    "https://hooks.example.com/é",
    "https://hooks.example.com/<script>",
    'https://hooks.example.com/"',
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_addresses(url):
    with pytest.raises(AddressRefused):
        parse(url)


def test_good_addresses():
    target = parse("HTTPS://Hooks.Example.com:8443/a/b?c=d&e=%20")
    assert (target.host, target.port, target.path) == ("hooks.example.com", 8443, "/a/b?c=d&e=%20")
    assert target.authority == "hooks.example.com:8443"
    assert parse("https://hooks.example.com.").authority == "hooks.example.com"
    assert parse("https://hooks.example.com?x=1").path == "/?x=1"
    assert parse("https://xn--hks-rna.example.com/").host == "xn--hks-rna.example.com"


def test_where_private_ones_are_allowed_they_are_still_read_strictly(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    assert parse("http://app:9000/hook").authority == "app:9000"
    assert parse("http://127.0.0.1:9000/").host == "127.0.0.1"
    assert parse("http://[::1]:9000/").authority == "[::1]:9000"
    for url in ("http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://[::1", "http://a@b/"):
        with pytest.raises(AddressRefused):
            parse(url)


@pytest.fixture
def names(monkeypatch):
    """A resolver that says what the test tells it, and counts how often it is asked."""
    real = socket.getaddrinfo
    answers, lookups = {}, []

    def resolve(host, port, *arguments, **options):
        lookups.append(host)
        if host not in answers:
            return real(host, port, *arguments, **options)
        addresses = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [info for address in addresses for info in real(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    answers["lookups"] = lookups
    return answers


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["10.0.0.1"]])
def test_a_name_that_leads_inside_is_not_called(addresses, names, monkeypatch):
    with Receiver() as receiver:
        monkeypatch.setattr(egress, "PORTS", (receiver.port,))
        names["hooks.example.com."] = [addresses]
        with pytest.raises(AddressRefused, match="not public"):
            post(f"https://hooks.example.com:{receiver.port}/", b"x", {}, seconds=5)
        assert receiver.connections == 0


def test_the_address_that_is_called_is_the_one_that_was_checked(names, monkeypatch):
    """A name that is public when it is checked and private a moment later: it is looked up once."""
    called = []
    names["hooks.example.com."] = [["1.1.1.1"], ["127.0.0.1"]]

    class Recording(socket.socket):
        def connect(self, where):
            called.append(where)
            raise ConnectionRefusedError

    monkeypatch.setattr(socket, "socket", Recording)
    with pytest.raises(CallFailed):
        post("https://hooks.example.com/", b"x", {}, seconds=5)
    assert called == [("1.1.1.1", 443)]
    assert names["lookups"] == ["hooks.example.com."], "fully qualified, once"


def test_what_the_environment_says_about_proxies_does_not_count(settings, monkeypatch):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver() as receiver:
        assert post(receiver.url, b"x", {}, seconds=5) == 204


def test_the_certificate_is_checked_against_the_name(settings, names, monkeypatch):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    names["hooks.example.com."] = names["other.example.com."] = [["127.0.0.1"]]
    authority, server_names = trustme.CA(), []
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com").configure_cert(served)
    served.sni_callback = lambda connection, name, context: server_names.append(name)
    with Receiver(tls=served) as receiver:
        with pytest.raises(CallFailed, match="certificate is not valid"):
            post(f"https://hooks.example.com:{receiver.port}/hook", b"x", {}, seconds=5)
        ours = ssl.create_default_context()
        authority.configure_trust(ours)
        monkeypatch.setattr(egress, "tls_context", lambda: ours)
        assert post(f"https://hooks.example.com:{receiver.port}/hook", b"x", {}, seconds=5) == 204
        with pytest.raises(CallFailed, match="certificate is not valid"):
            post(f"https://other.example.com:{receiver.port}/hook", b"x", {}, seconds=5)
        assert len(receiver.messages) == 1
        assert receiver.messages[0].headers["host"] == f"hooks.example.com:{receiver.port}"
    assert set(server_names) == {"hooks.example.com", "other.example.com"}


def never(connection):
    threading.Event().wait(20)


def drip(connection):
    stop = threading.Event()
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X")
        stop.wait(0.05)


def flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")


def hang_up(connection):
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (never, "no answer in time"),
        (drip, "no answer in time"),
        (flood, "not HTTP"),
        (hang_up, "connection failed"),
        (lambda connection: connection.sendall(b"SSH-2.0-x\r\n"), "not HTTP"),
    ],
)
def test_bad_receivers_end_the_call(behave, message, settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with Receiver(behave=behave) as receiver, pytest.raises(CallFailed, match=message):
        post(receiver.url, b"x", {}, seconds=0.5)


def test_a_large_answer_is_not_read(settings):
    settings.WEBHOOK_ALLOW_PRIVATE = True
    with Receiver(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n" + b"x" * 100_000) as receiver:
        assert post(receiver.url, b"x", {}, seconds=5) == 200


def test_headers_cannot_be_broken_into():
    with pytest.raises(ValueError):
        post("https://hooks.example.com/", b"x", {"webhook-id": "a\r\nX-Evil: 1"}, seconds=1)
