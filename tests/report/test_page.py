import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rotvq.errors import UserError
from rotvq.report import figures, metrics, sweep_figures, tables, write_report
from rotvq.report.codebook import Looks
from rotvq.report.layouts import build_page
from rotvq.report.templating import markdown
from rotvq.run_record import load_runs

EVIL = "<script>alert(1)</script>"


class Outline(HTMLParser):
    """Headings, images and every address that a page would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.images: list[dict[str, str]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._open = tag
        named = dict(attrs)
        if tag == "img":
            self.images.append(named)
        self.addresses += [
            named[key] for key in ("src", "href", "srcset", "action") if key in named
        ]

    def handle_data(self, data):
        if self._open in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data)


@pytest.fixture
def no_plots(monkeypatch):
    """Leave the plots out, which take most of the time, where a test looks at the text."""
    monkeypatch.setattr(figures, "curves", lambda runs: b"curves")
    monkeypatch.setattr(figures, "usage", lambda runs: b"usage")
    monkeypatch.setattr(figures, "cluster_sizes", lambda run: None)
    monkeypatch.setattr(sweep_figures, "curves", lambda runs: b"curves")
    monkeypatch.setattr(sweep_figures, "over_parameters", lambda runs, parameters: b"dots")


def _report(out: Path, *runs: Path) -> tuple[str, str]:
    html = write_report(runs, out)
    assert html == out / "report.html"
    return html.read_text("utf-8"), (out / "report.md").read_text("utf-8")


FOLDED = ["Protocol", "Configuration", "Provenance", "How to reproduce"]


@pytest.mark.usefixtures("no_plots")
def test_one_run_begins_with_its_result_and_pictures(make_run, tmp_path):
    html, md = _report(tmp_path / "out", make_run("rotation", metrics={"mse": 0.01, "ssim": 0.9}))
    shown = ["Reconstructions", "Metrics", "Curves", "Codebook", "Progress"]

    assert Outline(html).headings == ["rotation", *shown, "All metrics", *FOLDED]
    *folded, commands = ["All metrics", *FOLDED]
    assert re.findall(r"^## (.+)$", md, re.M) == [*shown, commands]
    assert re.findall(r"^<summary>(.+)</summary>$", md, re.M) == folded
    for text in (html, md):
        # 10 log10(4 / 0.01)
        assert (
            "Reconstructions of 9,827 test images reach 26.02 dB and an SSIM of 0.900 at 0.375 "
            "bits per pixel (96 bits an image), with 51 of 64 codes in use."
        ) in text
        assert "rotvq train --quantizer.estimator rotation" in text
        assert "Decoded from the indices alone." in text
        assert "49,152" in text and "AMD EPYC" in text and "0123abc" in text


@pytest.mark.usefixtures("no_plots")
def test_the_model_of_a_run_adds_its_tokens_and_codes(make_run):
    run = load_runs([make_run("a", epochs=1)])
    tokens = [np.full((16, 16, 16, 3), 7, np.uint8)] * 2
    codes = [("Codebook", np.zeros((4, 8, 8, 3), np.uint8))]
    plain, page = build_page(run), build_page(run, Looks(tokens, codes))
    assert {p.name for p in page.pictures} - {p.name for p in plain.pictures} == {"codebook.png"}
    height, higher = (_size(page.pictures[0].png)[1] for page in (plain, page))
    assert higher > height
    assert "Tokens: the code of each" in page.pictures[0].caption
    other = build_page(run, Looks(tokens[:1], codes))
    assert other.pictures[0].png == plain.pictures[0].png, "tokens of other images are left out"


@pytest.mark.usefixtures("no_plots")
def test_searched_tokens_have_a_row_where_they_show_the_same_images(make_run):
    path = make_run("a", epochs=1)
    plain = build_page(load_runs([path])).pictures[0].png
    last = path / "reconstructions/epoch_0001.png"
    (path / "reconstructions/effort_4.png").write_bytes(last.read_bytes())
    assert _size(build_page(load_runs([path])).pictures[0].png)[1] > _size(plain)[1]
    pixels = np.asarray(Image.open(last)).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path / "reconstructions/effort_4.png")
    assert build_page(load_runs([path])).pictures[0].png == plain


@pytest.mark.usefixtures("no_plots")
def test_the_metrics_of_each_effort_are_shown(make_run, tmp_path):
    path = make_run("a", epochs=1, metrics={"mse": 0.01, "ssim": 0.9})
    evaluation = json.loads((path / "evaluation.json").read_text())
    evaluation["metrics"]["mse"] = 0.009
    (path / "evaluation-effort-4.json").write_text(json.dumps(evaluation))
    _, md = _report(tmp_path / "out", path)
    table = md.partition("## Effort")[2].strip().splitlines()
    assert table[0] == "|  | effort 0 | effort 4 |"
    assert table[2:4] == ["| MSE | 0.01 | **0.009** |", ""]
    (path / "evaluation-effort-4.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation-effort-4\.json"):
        build_page(load_runs([path]))


def _size(png: bytes) -> tuple[int, int]:
    return Image.open(BytesIO(png)).size


def test_the_page_needs_no_other_file(make_run, tmp_path):
    html, _ = _report(tmp_path / "out", make_run("a"), make_run("b", codes=32))
    outline = Outline(html)

    assert len(outline.addresses) == len(outline.images) == 5
    assert all(address.startswith("data:image/png;base64,") for address in outline.addresses)
    assert not outline.tags & {"link", "iframe"}
    assert not re.search(r"https?://|@import|url\(", html)


@pytest.mark.usefixtures("no_plots")
def test_the_markdown_refers_to_the_figures_of_the_page(make_run, tmp_path):
    out = tmp_path / "out"
    html, md = _report(out, make_run("a"), make_run("b"))
    images = re.findall(r"^!\[(.+)\]\((.+)\)$", md, re.M)

    assert [file for _, file in images] == [
        "figures/reconstructions-1.png",
        "figures/curves.png",
        "figures/usage.png",
        "figures/progress-1.png",
        "figures/progress-2.png",
    ]
    for (alt, file), image in zip(images, Outline(html).images, strict=True):
        png = base64.b64decode(image["src"].partition(",")[2])
        assert (out / file).read_bytes() == png
        assert len(alt) > 40 and len(image["alt"]) > 40
    assert {p.name for p in out.iterdir()} == {"report.html", "report.md", "figures"}


@pytest.mark.usefixtures("no_plots")
def test_two_runs_are_shown_side_by_side_with_the_change(make_run, tmp_path):
    a = make_run("a", codes=64, metrics={"mse": 0.02, "psnr": 23.01, "usage": 0.5})
    b = make_run("b", codes=32, metrics={"mse": 0.01, "psnr": 26.02, "usage": 0.25})
    html, md = _report(tmp_path / "out", a, b)

    assert "a and b compared" in Outline(html).headings
    assert "b has the smaller error: 26.02 dB, against 23.01 dB of a." in html
    assert "they differ in quantizer.codebook_size." in html
    assert "| quantizer.codebook_size | 64 | 32 |  |" in md
    assert "| MSE | 0.02 | **0.01** | −50.0 % |" in md
    assert "| PSNR of the mean MSE (dB) | 23.01 | **26.02** | +3.01 |" in md
    assert "| Usage, codes used / K | **50.0 %** | 25.0 % | −25.0 points |" in md
    assert "| SSIM | 0.9000 | 0.9000 | same |" in md
    assert '<td>0.02</td><td class="best">0.01</td>' in html
    same = html.partition("<h2>Shared configuration</h2>")[2].partition("</details>")[0]
    assert "training.<wbr>seed" in same
    same = same.replace("<wbr>", "")
    assert "training.seed" in same and "quantizer.codebook_size" not in same


@pytest.mark.usefixtures("no_plots")
def test_many_runs_are_rows_best_first(make_run, tmp_path):
    errors = {"c": 0.03, "a": 0.01, "nan": float("nan"), "b": 0.02, "d": 0.04}
    runs = []
    for n, (name, mse) in enumerate(errors.items()):
        run = make_run(name, estimator="rotation" if n < 3 else "reflection", epochs=2)
        evaluation = json.loads((run / "evaluation.json").read_text())
        evaluation["metrics"] |= {"mse": mse, "forward_mse": mse, "psnr": 20 + n}
        (run / "evaluation.json").write_text(json.dumps(evaluation))
        runs.append(run)
    html, md = _report(tmp_path / "out", *runs)

    shown = ["Reconstructions", "Parameters", "Runs", "Curves"]
    every = "Reconstructions of every run"
    folded = ["Protocol", "Shared configuration", "Provenance", "How to reproduce"]
    assert Outline(html).headings == ["5 runs compared", *shown, every, *folded]
    assert "From best to worst, the runs reach 26.02 dB (a) to an error of nan (nan)." in html
    table = md.partition("## Runs")[2].strip().splitlines()
    assert table[0] == "| run | estimator | MSE | PSNR (dB) |"
    assert [line.split(" | ")[0] for line in table[2:7]] == ["| a", "| b", "| c", "| d", "| nan"]
    assert table[2] == "| a | rotation | **0.01** | 21.00 |"
    assert 'data-sort="0.01"' in html and "sortable" in html
    (first,) = re.findall(r"!\[(.+)\]\(figures/reconstructions-1.png\)", md)
    assert "best: a, middle: c, worst: nan" in first


@pytest.mark.usefixtures("no_plots")
def test_markdown_tables_are_rectangular(make_run, tmp_path):
    _, md = _report(tmp_path / "out", make_run("a|b"), make_run("c", codes=32))
    blocks = re.findall(r"(?:^\|.*\n)+", md, re.M)
    assert len(blocks) == 3
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


@pytest.mark.usefixtures("no_plots")
def test_strings_of_the_records_are_escaped(make_run, tmp_path):
    path = make_run("run")
    evil = path.rename(path.with_name("<script>alert(1)<!--"))
    run = json.loads((evil / "run.json").read_text())
    run |= {"command": f"rotvq train {EVIL} '\"&", "precision": EVIL}
    run["data"]["name"] = EVIL
    (evil / "run.json").write_text(json.dumps(run))
    evaluation = json.loads((evil / "evaluation.json").read_text())
    evaluation["protocol"] = {EVIL: EVIL}
    (evil / "evaluation.json").write_text(json.dumps(evaluation))

    html, md = _report(tmp_path / "out", evil)

    assert "<script>alert" not in html and "<!--" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    prose = [line for line in md.splitlines() if not line.startswith("    ")]  # not in code blocks
    assert "<script" not in "\n".join(prose)


@pytest.mark.usefixtures("no_plots")
def test_a_run_without_evaluation_says_how_to_evaluate_it(make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run("my run", evaluated=False, epochs=3)
    html, md = _report(tmp_path / "out", run)
    last = json.loads((run / "epochs.jsonl").read_text().splitlines()[-1])["test"]["psnr"]
    assert f"After epoch 3, reconstructions of the test images reach {last:.2f} dB." in html
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["validation"] = 6
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "reconstructions of the validation images reach" in _report(tmp_path / "held", run)[0]
    assert "not evaluated yet. Run: rotvq evaluate &#39;my run&#39;" in html
    assert "not evaluated yet. Run: rotvq evaluate 'my run'" in md
    assert "usage.png" not in md and not re.search(r"\bnan\b", md)
    assert "Training minutes" in md


@pytest.mark.usefixtures("no_plots")
def test_an_incomplete_line_is_reported(make_run, tmp_path):
    path = make_run("torn")
    with (path / "epochs.jsonl").open("a") as file:
        file.write('{"epoch":')
    for text in _report(tmp_path / "out", path):
        assert "torn: The last line of epochs.jsonl is incomplete and was ignored." in text


@pytest.mark.usefixtures("no_plots")
def test_a_run_without_pictures_is_reported(make_run, tmp_path):
    path = make_run("a", epochs=2)
    for file in (path / "reconstructions").iterdir():
        file.unlink()
    html, _ = _report(tmp_path / "out", path)
    assert "No reconstructions were recorded." in html
    assert len(Outline(html).images) == 2 and "Progress" not in Outline(html).headings


@pytest.mark.usefixtures("no_plots")
def test_runs_on_different_data_are_not_compared(make_run, tmp_path):
    runs = make_run("a"), make_run("b", side=8, columns=4, fingerprint="beef")
    html, md = _report(tmp_path / "out", *runs)
    assert "their metrics cannot be compared" in html
    assert "reconstructions-2.png" in md
    assert 'class="best"' not in html


def test_an_unfinished_run_beside_a_finished_one_is_named(make_run, tmp_path):
    runs = make_run("a"), make_run("b")
    lines = (runs[1] / "epochs.jsonl").read_text().splitlines(keepends=True)
    (runs[1] / "epochs.jsonl").write_text("".join(lines[:3]))
    html, _ = _report(tmp_path / "out", *runs)
    assert "b: 3 of 8 epochs are done." in html
    assert "a: 8" not in html


@pytest.mark.parametrize("names, told", [("aa", False), ("ab", True), ("a", False)])
def test_runs_measured_with_different_classifiers_are_told(make_run, tmp_path, names, told):
    runs = [make_run(f"at {n}", metrics={"frechet_distance": n}) for n in (1.0, 2.0)]
    for run, name in zip(runs, names, strict=False):
        path = run / "evaluation.json"
        record = json.loads(path.read_text()) | {"classifier": {"weights": name}}
        path.write_text(json.dumps(record))
    html, _ = _report(tmp_path / "out", *runs)
    assert ("measured with different classifiers" in html) is told
    found = metrics.metric_rows(load_runs(runs))
    (judged,) = (row for row in found if row.name.startswith("Fréchet"))
    assert any(cell.best for cell in judged.cells) is not told


def test_several_codebooks_are_counted(make_run):
    path = make_run("residual")
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["quantizer"] |= {"residual": 2, "groups": 3, "scales": "1,2"}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (run,) = load_runs([path])
    assert tables.describe(run) == "rotation, 12 codebooks of 64 codes, 8 epochs"
    named = {row.name: row.cells[0].text for row in metrics.metric_rows([run])}
    assert (named["Codebooks"], named["Codebook size K"]) == ("12", "64")


def test_values_that_are_not_all_numbers_are_not_joined_by_lines(make_run):
    assert sweep_figures.positions(["1", "2", "8"]) == (
        [1, 2, 8],
        {1: "1", 2: "2", 8: "8"},
        True,
        True,
    )
    assert sweep_figures.positions(["2", "auto", "2"]) == (
        [0, 1, 0],
        {0: "2", 1: "auto"},
        False,
        False,
    )


def test_a_diverged_run_is_reported(make_run, tmp_path):
    nan = float("nan")
    path = make_run("nan", metrics={"mse": nan, "forward_mse": nan, "psnr": nan, "usage": nan})
    lines = [json.loads(line) for line in (path / "epochs.jsonl").read_text().splitlines()]
    for line in lines:
        line["test"] = dict.fromkeys(line["test"], nan)
        line["train"] = dict.fromkeys(line["train"], float("inf"))
    (path / "epochs.jsonl").write_text("\n".join(map(json.dumps, lines)))

    _, md = _report(tmp_path / "out", path)

    assert "| MSE | nan |" in md
    assert "ends at nan dB" in md


def test_records_with_little_in_them_are_reported(make_run, tmp_path):
    path = make_run("bare", evaluated=False, epochs=1)
    (path / "run.json").write_text('{"format": 2}')
    (path / "config.yaml").write_text("{quantizer: null}")
    (path / "epochs.jsonl").write_text('{"epoch": 1, "train": {}, "test": {}, "timing": {}}')
    (path / "reconstructions" / "epoch_0001.png").unlink()
    html, _ = _report(tmp_path / "out", path)
    assert Outline(html).headings[0] == "bare"


@pytest.mark.usefixtures("no_plots")
def test_writing_again_replaces_the_report(make_run, tmp_path):
    _report(tmp_path / "out", make_run("first"))
    html, md = _report(tmp_path / "out", make_run("second"))
    assert "first" not in Outline(html).headings and "# second" in md


@pytest.mark.usefixtures("no_plots")
def test_an_output_that_is_a_file_is_refused(make_run, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match=r"out.*expected a writable folder"):
        write_report([make_run()], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_failed_report_writes_nothing(make_run, tmp_path):
    path = make_run()
    (path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json"):
        write_report([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("codebook_size _x_", r"codebook_size \_x\_"),
        ("*b* `c` [d]", r"\*b\* \`c\` \[d\]"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("two\nlines", "two lines"),
        ("\\", r"\\"),
    ],
)
def test_markdown_shows_text_as_it_is(text, escaped):
    assert markdown(text) == escaped


def test_importing_the_report_imports_neither_torch_nor_pyplot():
    code = "import sys, rotvq.report; print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


@pytest.mark.usefixtures("no_plots")
def test_a_collapse_is_reported_at_the_top(make_run, tmp_path):
    codebook = {"dead": 60, "oldest": 900, "warning": "The codebook collapses: try a restart."}
    page = build_page(load_runs([make_run("ill", codebook=codebook), make_run("well")]))
    assert page.notices == ("ill: The codebook collapses: try a restart.",)
