"""Studies with untrusted records: their text stays text, their faults are one line."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from rotvq.errors import UserError
from rotvq.report import style
from rotvq.report.templating import render
from rotvq.studies import paper
from rotvq.studies import results as module
from rotvq.studies.page import build_page
from rotvq.studies.recorder import read_codebook

EVIL = "a\r\r<script>alert(1)</script>\n\n| b [c](javascript:d) `e` {: onclick=f}"
NONE = object()


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    monkeypatch.setattr(style, "png", lambda figure: b"")


def change(path, at, new):
    """Replace what is at some keys of a record; of epochs.jsonl, of its last line."""
    *before, last = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    record = json.loads(last)
    node = record
    for key in at[:-1]:
        node = node[key]
    if new is NONE:
        del node[at[-1]]
    else:
        node[at[-1]] = new
    path.write_text("\n".join([*before, json.dumps(record)]))


def pages(results):
    page = build_page(paper.SUITE, paper.contents(), module.read(results.plan))
    return {kind: render(page, f"studies.{kind}.j2") for kind in ("html", "md")}


def test_text_of_the_records_is_escaped(make_results, parse_html, markdown_renderers):
    found = {}
    for name, text in (("plain", "words"), ("evil", EVIL)):
        results = make_results(name, studies=["training"])
        run = results.all[0].run.folder / "run.json"
        for at in (["precision"], ["data", "name"], ["hardware", "name"], ["git", "commit"]):
            change(run, at, text)
        change(run, ["versions"], {"torch": text, text.replace(" ", ""): "1"})
        found[name] = pages(results)
        found[name]["html"].encode()
    for render_markdown in markdown_renderers.values():
        plain, evil = (render_markdown(found[name]["md"]) for name in ("plain", "evil"))
        assert parse_html(evil).elements == parse_html(plain).elements
    plain, evil = (parse_html(found[name]["html"]) for name in ("plain", "evil"))
    assert evil.elements == plain.elements


REFUSED = [
    ("training", "epochs.jsonl", ["epoch"], 7, "expected 4 epochs"),
    ("training", "epochs.jsonl", ["test"], {}, "the last one tested"),
    ("training", "epochs.jsonl", ["train", "loss"], "low", "expected a number"),
    ("training", "epochs.jsonl", ["train", "loss"], 1e300, "expected a number"),
    ("final", "best.json", ["metrics"], [], "expected a mapping"),
    ("final", "best.json", ["metrics", "mse"], "low", "metrics.mse: expected a number"),
    ("final", "best.json", ["metrics", "mse"], 1e300, "metrics.mse: expected a number"),
    ("figures", "tsne.json", ["epochs"], [], "no list of 1 to 3 epochs"),
    ("figures", "tsne.json", ["epochs"], {"a": 1}, "no list of 1 to 3 epochs"),
    ("figures", "tsne.json", ["epochs", 0], 3, "lacks epoch, points or uses"),
    ("figures", "tsne.json", ["epochs", 0, "uses"], NONE, "lacks epoch, points or uses"),
    ("figures", "tsne.json", ["epochs", 0, "uses", 0], -1, "a count for every code"),
    ("figures", "tsne.json", ["epochs", 0, "uses"], [], "a count for every code"),
    ("figures", "tsne.json", ["epochs", 0, "points", 0], [1], "lacks epoch, points or uses"),
    ("figures", "tsne.json", ["epochs", 0, "points", 0, 0], None, "two finite numbers"),
    ("figures", "tsne.json", ["epochs", 0, "points", 0, 0], "x", "lacks epoch, points or uses"),
    ("figures", "tsne.json", ["epochs", 0, "epoch"], "x", "a count for every code"),
    ("figures", "gradients.json", ["epochs"], {}, "gradient norms of epochs 1 to 4"),
    ("figures", "gradients.json", ["epochs", "1000000000"], {"a.b": 1}, "of epochs 1 to 4"),
    ("figures", "gradients.json", ["epochs", "x"], {"a.b": 1}, "invalid literal"),
    ("figures", "gradients.json", ["epochs", "1"], 3, "expected a mapping"),
    ("figures", "gradients.json", ["epochs", "1", "encoder.0.weight"], [], "expected a number"),
]  # fmt: skip


@pytest.mark.parametrize("study, name, at, new, message", REFUSED)
def test_a_malformed_record_is_reported_in_one_line(make_results, study, name, at, new, message):
    results = make_results(studies=[study])
    path = results.all[0].run.folder / name
    change(path, at, new)
    with pytest.raises(UserError, match=message) as error:
        pages(results)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


READ = [
    ("training", "run.json", ["data", "train", "fingerprint"], ["a", {}]),
    ("training", "run.json", ["data", "train"], 3),
    ("training", "epochs.jsonl", ["timing", "train_seconds"], NONE),
    ("training", "epochs.jsonl", ["test"], {"psnr": 1}),
    ("table2", "run.json", ["data", "train", "images"], "many"),
    ("table2", "epochs.jsonl", ["train", "reconstruction_loss"], 0),
    ("table3", "evaluation.json", ["metrics"], {}),
    ("final", "epochs.jsonl", ["test"], {"psnr": None}),
    ("final", "best.json", ["metrics"], {}),
    ("figures", "epochs.jsonl", ["test"], {"psnr": 1}),
    ("figures", "gradients.json", ["epochs", "1", "encoder.0.weight"], None),
    ("estimators", "evaluation.json", ["metrics", "forward_mse"], 0),
    ("estimators", "evaluation.json", ["metrics", "mse"], 1e38),
]  # fmt: skip


@pytest.mark.parametrize("study, name, at, new", READ)
def test_an_incomplete_record_is_read(make_results, study, name, at, new):
    results = make_results(studies=[study], seeds=1)
    for result in results.all:
        change(result.run.folder / name, at, new)
    assert "## Claims" in pages(results)["md"]


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"e": np.zeros((4, 2), np.float64), "uses": np.zeros(4, np.int64)},
        {"e": np.full((4, 2), np.nan, np.float32), "uses": np.zeros(4, np.int64)},
        {"e": np.zeros((4, 2), np.float32), "uses": np.zeros(5, np.int64)},
        {"e": np.zeros((0, 2), np.float32), "uses": np.zeros(0, np.int64)},
        {"e": np.zeros(4, np.float32), "uses": np.zeros(4, np.int64)},
    ],
)
def test_a_malformed_codebook_is_reported_in_one_line(tmp_path, arrays):
    (tmp_path / "a").write_bytes(save(arrays))
    with pytest.raises(UserError, match="expected the codebook of an epoch; ") as error:
        read_codebook(tmp_path / "a")
    assert "\n" not in str(error.value)
