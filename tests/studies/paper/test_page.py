"""The page of all studies: what is on it, and that it stands alone."""

import json
import re

from rotvq.studies.paper.contents import CONTENTS
from rotvq.studies.paper.page import build_page, write_report
from rotvq.studies.paper.studies import STUDIES
from rotvq.studies.plan import make_plan


def test_every_study_has_its_section_and_every_picture_its_file(make_results, tmp_path):
    results = make_results("out", yardstick=lambda run: {})
    out = tmp_path / "out"
    html = write_report(CONTENTS, results.plan, out, ["--preset", "smoke"])
    markdown = (out / "reproduction.md").read_text()
    assert html == out / "reproduction.html"
    for study in STUDIES.values():
        assert f"## {study.title}" in markdown
        assert f"rotvq reproduce {study.name} --preset smoke" in markdown
    linked = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert len(linked) == len(set(linked)) == 10
    assert {out / path for path in linked} == set((out / "figures").iterdir())
    page = html.read_text()
    assert page.count("<img") == page.count('src="data:image/png;base64,') == len(linked)
    assert not re.search(r'(src|href)="https?:', page)
    assert "Not run yet" not in page


def test_the_same_records_make_the_same_page(make_results, tmp_path):
    results = make_results("out", studies=["table3"])
    pages = [
        write_report(CONTENTS, results.plan, tmp_path / "out", ()).read_bytes() for _ in range(2)
    ]
    assert pages[0] == pages[1]


def test_what_is_missing_is_named(make_results, tmp_path):
    results = make_results("out", studies=["table3"], variants=["beta_0.1", "beta_2.0"])
    everything = make_plan("smoke", tmp_path / "out")
    write_report(CONTENTS, everything, tmp_path / "out", ())
    markdown = (tmp_path / "out/reproduction.md").read_text()
    assert "Not run yet: training, table2, figures, final, estimators." in markdown
    assert "Runs not done yet: table3/beta_0.25/seed_0, table3/beta_0.5/seed_0" in markdown
    assert "Estimators" not in markdown
    page = build_page(CONTENTS, results)
    assert "3 claims weighed" in page.summary


def test_words_from_records_are_no_markup(make_results, tmp_path):
    results = make_results("out", studies=["training"])
    path = results.all[0].run.folder / "run.json"
    record = json.loads(path.read_text())
    record["data"]["name"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(record))
    page = write_report(CONTENTS, results.plan, tmp_path / "out", ()).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_a_study_in_a_folder_that_is_not_utf8_is_drawn_with_any_names_of_layers(
    make_results, tmp_path
):
    results = make_results("\udcff", studies=["figures"])
    path = results.all[0].run.folder / "gradients.json"
    path.write_text(path.read_text().replace("encoder.0", "\\udcfe$\\\\x$"))
    page = write_report(CONTENTS, results.plan, tmp_path / "\udcff", ["--out", "\udcff"])
    assert "\\udcff" in page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "\udcff/figures").iterdir())) == 3
