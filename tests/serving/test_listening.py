"""Where the page listens: judged by the address, not by its spelling."""

import socket

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from rotvq.errors import UserError
from rotvq.serving import listening
from rotvq.serving.listening import LOCAL, listen, resolve

EVERYWHERE = ["0.0.0.0", "0", "00.0.0.0", "000.0.0.0", "0x0", "0.0", "0x0.0.0.0", "everywhere"]


@pytest.fixture(autouse=True)
def known_names(monkeypatch):
    """Names that stand for all addresses, for one of a network and for one of this machine."""
    known = {"everywhere": "0.0.0.0", "Lab-7": "192.0.2.7", "here": "127.0.0.1"}
    system = socket.getaddrinfo

    def found(host, *rest):
        return system(known.get(host, host), *rest)

    monkeypatch.setattr(listening.socket, "getaddrinfo", found)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_every_spelling_of_the_unspecified_address_needs_a_name(host):
    with pytest.raises(
        UserError, match=r"expected --name too, as this host stands for every address"
    ):
        resolve(host)
    found = resolve(host, ["Lab-7", "10.0.0.7"])
    assert found == ("0.0.0.0", ("lab-7", "10.0.0.7", *LOCAL)) and not found.local


@pytest.mark.parametrize(
    "host, ip, names, local",
    [
        ("127.0.0.1", "127.0.0.1", ("127.0.0.1", "localhost"), True),
        ("127.1", "127.0.0.1", ("127.1", "127.0.0.1", "localhost"), True),
        ("127.0.0.2", "127.0.0.2", ("127.0.0.2", *LOCAL), True),
        ("here", "127.0.0.1", ("here", *LOCAL), True),
        ("Lab-7", "192.0.2.7", ("lab-7", "192.0.2.7", *LOCAL), False),
        ("192.0.2.7", "192.0.2.7", ("192.0.2.7", *LOCAL), False),
    ],
)
def test_an_address_has_its_names(host, ip, names, local):
    found = resolve(host)
    assert found == (ip, names) and found.local is local


@pytest.mark.parametrize("host", ["::", "[::]", "::1", "", "a b", "x" * 300, "é" * 70, "1.2.3.4.5"])
def test_a_host_without_an_ipv4_address_is_one_line(host):
    with pytest.raises(UserError, match="expected a host name or an IPv4 address") as error:
        resolve(host)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "*", "a*b", "a/b", "a b", "http://a", "[::1]"])
def test_invalid_names_are_refused(name):
    with pytest.raises(UserError, match="--name: expected a host name or an IPv4 address; got"):
        resolve("127.0.0.1", [name])


def test_the_server_listens_on_the_resolved_address():
    with listen(resolve("127.1"), 0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        with pytest.raises(UserError, match="expected an unused address"):
            listen(resolve("127.0.0.1"), bound.getsockname()[1])
