"""Many clients at once, and ones that speak no HTTP or stop in the middle."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import psutil
import pytest
from PIL import Image

from rotvq.serving.session import Session

pytest.importorskip("starlette", reason="starlette is not installed")

CLIENTS = 50


def ask(address, method, path, body=None):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 8 + 4 * (seed % 5), 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_fifty_clients_get_their_own_responses(served, model):
    expected = [Session(model).encode(picture(seed)) for seed in range(CLIENTS)]
    together = threading.Barrier(CLIENTS)

    def client(seed):
        together.wait(30)
        assert ask(served, "GET", "/")[0] == 200
        status, content = ask(served, "POST", "/encode", picture(seed))
        found = json.loads(content)
        assert (status, found) == (200, expected[seed])
        asked = json.dumps({name: found[name] for name in ("height", "width", "indices")})
        status, content = ask(served, "POST", "/decode", asked)
        with Image.open(io.BytesIO(content)) as image:
            return status, image.size == (found["width"], found["height"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(client, range(CLIENTS))) == [(200, True)] * CLIENTS


BROKEN = {
    "nothing": b"",
    "noise": bytes(range(256)) * 10,
    "half a header": b"GET / HTTP/1.1\r\nHost: 127",
    "no host": b"GET /about HTTP/1.1\r\n\r\n",
    "another host": b"GET /about HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a negative length": b"POST /encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
    "a huge length": b"POST /encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9"
    + b"9" * 30
    + b"\r\n\r\nabc",
    "a body cut off": b"POST /encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nabc",
    "a broken chunk": b"POST /encode HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "a long path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a path of its own": b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a path with a zero": b"GET /%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a: b\r\n" * 50_000 + b"\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_requests_break_nothing(served, kind, capfd):
    where = urlsplit(served)
    with socket.create_connection((where.hostname, where.port), timeout=10) as client:
        try:
            client.sendall(BROKEN[kind])
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(1 << 16)
        except TimeoutError:
            raise
        except OSError:  # the server hung up before all was sent
            answer = b""
    status = answer.split(b" ")[1] if answer else b""
    assert status[:1] in (b"", b"4")
    assert ask(served, "GET", "/about")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "body",
    [
        b'{"height": Infinity, "width": 8, "indices": [1]}',
        b'{"height": 1e999, "width": 8, "indices": [1]}',
        b'{"height": 8, "width": 8, "indices": ' + b"[" * 100_000,
        b'{"height": 8, "width": 8, "indices": {"a": 1}}',
        b'{"height": 8, "width": 8, "indices": [NaN, 1, 1, 1]}',
        b'{"height": 8, "width": 8, "indices": [1' + b"0" * 30 + b", 1, 1, 1]}",
        b'{"height": -8, "width": 8, "indices": []}',
    ],
)
def test_invalid_numbers_get_one_line(served, body):
    status, content = ask(served, "POST", "/decode", body)
    assert status == 400 and "expected" in json.loads(content)["error"]


def test_a_thousand_requests_leak_nothing(served):
    process = psutil.Process()
    photo = picture(0)

    def requests(number):
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda _: ask(served, "POST", "/encode", photo)[0], range(number))
            assert set(answers) == {200}

    requests(200)
    files, memory = process.num_fds(), process.memory_info().rss
    requests(1000)
    assert process.num_fds() <= files + 5
    assert process.memory_info().rss < memory + 50 * 2**20
