"""The questions over HTTP, and what is refused there."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from PIL import Image

from rotvq.serving.pictures import LARGEST, photograph

pytest.importorskip("starlette", reason="starlette is not installed")


def ask(address, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_the_page_and_its_parts(served):
    parts = [("/", "html"), ("/style.css", "css"), ("/app.js", "javascript")]
    for path, kind in [*parts, ("/stroke.js", "javascript")]:
        response, content = ask(served, "GET", path)
        assert response.status == 200 and kind in response.headers["Content-Type"]
        assert content
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    page = ask(served, "GET", "/")[1].decode()
    assert "<script>" not in page and "style=" not in page, "the security policy forbids it"
    assert not re.search(r"https?://", page), "everything comes from this machine"


def test_an_image_is_encoded_and_decoded(served, model):
    _, photo = ask(served, "GET", "/photographs/china.png")
    assert photo == photograph("china") == ask(served, "POST", "/open", photo)[1]
    response, content = ask(served, "POST", "/encode", photo)
    answer = json.loads(content)
    assert response.status == 200 and len(answer["indices"]) == 32 * 48
    asked = json.dumps({key: answer[key] for key in ("height", "width", "indices")})
    response, content = ask(served, "POST", "/decode", asked)
    assert response.status == 200 and content.startswith(b"\x89PNG")
    assert ask(served, "GET", "/codes.png")[1].startswith(b"\x89PNG")
    response, content = ask(served, "POST", "/tokens", asked)
    assert response.status == 200 and content.startswith(b"PK")
    response, content = ask(served, "POST", "/open-tokens", content)
    assert response.status == 200
    assert json.loads(content) == {**answer, "number": 0, "pictures": 1}
    assert json.loads(ask(served, "GET", "/progress?search=7")[1]) == {"share": 0}
    about = json.loads(ask(served, "GET", "/about")[1])
    assert [model["codebook_size"] for model in about["models"]] == [30]
    assert about["photographs"] == ["china", "flower"]
    assert {".tiff", ".npz"} <= {*about["accepted"]}


def test_each_model_has_its_own_tokens(served_all):
    _, photo = ask(served_all, "GET", "/photographs/flower.png")
    paths = ("/encode", "/encode?model=0", "/encode?model=1", "/encode?model=1&effort=1")
    default, *answers = (json.loads(ask(served_all, "POST", path, photo)[1]) for path in paths)
    assert default == answers[0]
    assert len({str(answer["indices"]) for answer in answers}) == 3
    about = json.loads(ask(served_all, "GET", "/about")[1])
    assert [model["name"] for model in about["models"]] == ["first", "second"]
    prior = {"classes": ["cat", "dog"], "grids": [[3, 4]], "guided": True}
    assert about["models"][0]["prior"] == prior


WISHES = {
    "rows": 3, "columns": 4, "labels": [0, None], "given": [1, 2], "temperature": 1,
    "guidance": 1.5, "seed": 0,
}  # fmt: skip


def test_a_prior_draws_and_counts_bits(served_all):
    response, content = ask(served_all, "POST", "/draw", json.dumps(WISHES))
    pictures = json.loads(content)["pictures"]
    assert response.status == 200 and [len(indices) for indices in pictures] == [12, 12]
    asked = json.dumps({"height": 12, "width": 16, "indices": pictures[0]})
    assert 0 < json.loads(ask(served_all, "POST", "/bits", asked)[1])["bits"] < 12 * 30


@pytest.mark.parametrize(
    "path, body, message",
    [
        ("/encode", b"no picture", "expected an image"),
        ("/encode", bytes(10 * 2**20 + 1), "expected at most 10 MiB; got more"),
        ("/decode", bytes(2**20 + 1), "expected at most 1 MiB; got more"),
        ("/decode", b"no json", "expected JSON"),
        ("/decode", b"[]", "expected JSON"),
        ("/decode", b'{"height": 8, "width": 8, "indices": ["a"]}', "expected JSON"),
        ("/decode", b'{"height": 8, "width": 8, "indices": [1]}', "expected 4 indices; got 1"),
        ("/decode", b"\xff", "expected JSON"),
        ("/open", b"no picture", "expected an image"),
        ("/open-tokens", b"no tokens", "tokens: expected a token file written by rotvq encode"),
        ("/encode?search=-1", b"", "search: expected an integer from 0 to"),
        ("/tokens", b"{}", "expected JSON with height, width and indices"),
        ("/encode?model=1", b"", "model: expected an integer from 0 to 0; got 1"),
        ("/encode?effort=10", b"", "effort: expected an integer from 0 to 9; got 10"),
        ("/encode?effort=x", b"", "effort: expected an integer from 0 to 9; got x"),
        ("/bits", b'{"height": 4, "width": 4, "indices": [1]}', "expected a prior; there is none"),
        ("/draw", b"{}", "expected JSON with rows, columns, labels"),
        ("/draw", json.dumps(WISHES).encode(), "expected a prior; there is none"),
        ("/draw", json.dumps(WISHES | {"temperature": 0}).encode(), "temperature: expected above"),
        ("/draw", json.dumps(WISHES | {"seed": -1}).encode(), "seed: expected 0 to"),
    ],
)
def test_bad_requests_get_one_line(served, path, body, message):
    response, content = ask(served, "POST", path, body)
    assert response.status == 400
    assert message in json.loads(content)["error"]


@pytest.mark.parametrize(
    "path",
    ["/app.py", "/../session.py", "/page/app.js", "/%2e%2e/app.py", "/photographs/..%2fapp.js"],
)
def test_nothing_else_is_served(served, path):
    assert ask(served, "GET", path)[0].status == 404


def test_other_host_names_are_refused(served):
    assert ask(served, "GET", "/about", Host="evil.example")[0].status == 400


@pytest.mark.parametrize("path", ["/encode", "/about"])
def test_requests_from_other_sites_are_refused(served, path):
    method = "POST" if path == "/encode" else "GET"
    response, content = ask(served, method, path, **{"Sec-Fetch-Site": "cross-site"})
    assert response.status == 400 and "expected a request from this page" in content.decode()


@pytest.mark.parametrize(
    "words, message",
    [
        (("--host", "0"), "--name too"),
        (("--host", "::1"), "IPv4"),
        (("--name", "a b"), "--name: expected"),
    ],
)
def test_an_unusable_address_is_one_line(capsys, tmp_path, words, message):
    from rotvq.cli.main import main

    assert main(["serve", str(tmp_path), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_an_endless_request_times_out(model, monkeypatch):
    from rotvq.serving import app, requests
    from rotvq.serving.session import Session

    monkeypatch.setattr(requests, "PATIENCE", 0.05)

    async def receive():
        await asyncio.sleep(5)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/encode", "headers": [(b"host", b"a")],
        "query_string": b"", "root_path": "",
    }  # fmt: skip
    asyncio.run(app.make([Session(model)], ["a"])(scope, receive, send))
    assert sent[0]["status"] == 400 and b"within" in sent[1]["body"]


def test_a_search_is_told_when_the_client_has_left():
    from rotvq.serving.app import _while_connected

    class Request:
        async def is_disconnected(self):
            return True

    left = threading.Event()

    async def call():
        return await asyncio.to_thread(left.wait, 10)

    assert asyncio.run(_while_connected(Request(), call(), left))


@pytest.fixture
def command(model, tmp_path):
    """`rotvq serve` in a process, and its address."""
    model.save_pretrained(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "rotvq", "serve", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started in the background, the tests ignore it, and hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        said += line
    yield process, found[0]
    process.kill()
    process.wait()


def test_ctrl_c_stops_the_command(command):
    process, address = command
    assert ask(address, "GET", "/about")[0].status == 200
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err


def slow_picture(seconds):
    """A PNG of about so many seconds of decoding, within the pixels that are accepted."""
    rows = min(int(seconds * 1000), LARGEST // 16_384)
    content = BytesIO()
    Image.effect_noise((16_384, rows), 99).convert("1").save(content, "PNG", compress_level=1)
    return content.getvalue()


def test_ctrl_c_stops_the_command_during_a_computation(command):
    process, address = command
    where = urlsplit(address)
    photo = slow_picture(3)
    head = f"POST /encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(photo)}\r\n\r\n"
    with ExitStack() as stack:
        clients = []
        for _ in range(24):  # half a minute of work, or more
            client = socket.create_connection((where.hostname, where.port), timeout=10)
            stack.enter_context(client).sendall(head.encode() + photo)
            clients.append(client)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert not all(map(answered, clients)), "it does not finish its work first"
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in err


def answered(client):
    try:
        return client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    except ConnectionResetError:
        return False


def test_an_address_in_use_is_one_line(served, model, tmp_path, capsys):
    from rotvq.cli.main import main

    model.save_pretrained(tmp_path)
    status = main(["serve", str(tmp_path), "--port", str(urlsplit(served).port)])
    assert status == 2 and "expected an unused address" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--port", "70000"]) == 2


def test_a_page_of_other_models_is_told_to_reload(served):
    _, photo = ask(served, "GET", "/photographs/flower.png")
    model = json.loads(ask(served, "GET", "/about")[1])["models"][0]["model"]
    assert ask(served, "POST", f"/encode?model=0&of={model}", photo)[0].status == 200
    response, content = ask(served, "POST", "/encode?model=0&of=0123456789abcdef", photo)
    assert response.status == 400 and "reload the page" in json.loads(content)["error"]
