"""Clients that only take up a place."""

from __future__ import annotations

import http.client
import json
import socket
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from rotvq.serving import connection
from rotvq.serving.listening import CLIENTS

HEADERS = b"GET /codes.png HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 0.6)


def connect(address):
    where = urlsplit(address)
    return socket.create_connection((where.hostname, where.port), timeout=10)


def status(address, path="/about"):
    asked = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    asked.request("GET", path)
    found = asked.getresponse().status
    asked.close()
    return found


def seconds_until_closed(client):
    began = time.monotonic()
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\nHost: 127", b"G", HEADERS + b"GET / HT"],
    ids=["nothing", "half a header", "a byte", "a request and a half"],
)
def test_an_incomplete_header_times_out(served, said):
    with connect(served) as client:
        client.sendall(said)
        assert seconds_until_closed(client) < 5


def test_a_header_sent_byte_by_byte_times_out(served):
    with connect(served) as client:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            while time.monotonic() - began < 10:
                client.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - began < 5


def test_idle_connections_do_not_block_others(served, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 60.0)
    with ExitStack() as crowd:
        for _ in range(2 * CLIENTS):
            crowd.enter_context(connect(served))
        assert [status(served) for _ in range(5)] == [200] * 5


def test_a_client_that_does_not_read_times_out(served):
    """The answers to many requests at once, more than the system holds for a client."""
    with connect(served) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            while time.monotonic() - began < 20:
                client.sendall(HEADERS.replace(b"codes", b"photographs/china") * 100)
        assert time.monotonic() - began < 15


def test_a_patient_client_is_served(served, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 3.0)
    asked = http.client.HTTPConnection(urlsplit(served).netloc, timeout=10)
    for _ in range(5):
        asked.request("GET", "/about")
        answer = asked.getresponse()
        assert (
            answer.status == 200 and json.loads(answer.read())["models"][0]["codebook_size"] == 30
        )
        time.sleep(0.9)
    asked.close()
