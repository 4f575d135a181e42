"""The report of a suite: its contents, and that it is self-contained."""

import json
import re
from dataclasses import replace

import pytest

from rotvq.studies import ablations, paper
from rotvq.studies.page import _trained, build_page, write_report
from rotvq.studies.plan import make_plan


def write(results_or_plan, out, command=(), suite=paper):
    plan = getattr(results_or_plan, "plan", results_or_plan)
    return write_report(suite.SUITE, suite.contents(), plan, out, command)


@pytest.mark.slow
@pytest.mark.parametrize(("twin", "pictures"), [(paper, 10), (ablations, 5)])
def test_every_study_has_its_section_and_every_picture_its_file(
    make_results, tmp_path, twin, pictures
):
    suite, out = twin.SUITE, tmp_path / "out"
    results = make_results("out", suite=suite, classifier=lambda run: {})
    html = write(results, out, ["--preset", "smoke"], twin)
    markdown = (out / f"{suite.name}.md").read_text()
    assert html == out / f"{suite.name}.html"
    for study in suite.studies.values():
        assert f"## {study.title}" in markdown
        assert f"rotvq {suite.command} {study.name} --preset smoke" in markdown
    linked = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert len(linked) == len(set(linked)) == pictures
    assert {out / path for path in linked} == set((out / "figures").iterdir())
    page = html.read_text()
    assert page.count("<img") == page.count('src="data:image/png;base64,') == len(linked)
    assert not re.search(r'(src|href)="https?:', page)
    assert "not run yet" not in page


def test_the_same_records_make_the_same_page(make_results, tmp_path):
    results = make_results("out", studies=["table3"])
    pages = [write(results, tmp_path / "out").read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]


def test_missing_studies_and_runs_are_named(make_results, tmp_path):
    results = make_results("out", studies=["table3"], variants=["beta_0.1", "beta_2.0"])
    everything = make_plan(paper.SUITE, "smoke", tmp_path / "out")
    write(everything, tmp_path / "out")
    markdown = (tmp_path / "out/reproduction.md").read_text()
    assert "Studies not run yet: training, table2, figures, final, estimators." in markdown
    assert "Runs not finished yet: table3/beta_0.25/seed_0, table3/beta_0.5/seed_0" in markdown
    assert "Gradient estimators" not in markdown
    page = build_page(paper.SUITE, paper.contents(), results)
    assert "3 claims checked" in page.summary


def test_runs_of_different_lengths_are_described_with_each(make_results):
    results = make_results("out", studies=["table2"])
    config = results.all[0].run.config
    longer = replace(config, training=replace(config.training, epochs=99))
    first, *rest = results.all
    runs = [replace(first, run=replace(first.run, config=longer)), *rest]
    assert f"of {config.training.epochs} and 99 epochs, width {config.model.width}," in _trained(
        runs
    )


def test_text_from_records_is_escaped_in_html(make_results, tmp_path):
    results = make_results("out", studies=["training"])
    path = results.all[0].run.folder / "run.json"
    record = json.loads(path.read_text())
    record["data"]["name"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(record))
    page = write(results, tmp_path / "out").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_study_in_a_folder_that_is_not_utf8_is_drawn_with_any_names_of_layers(
    make_results, tmp_path
):
    results = make_results("\udcff", studies=["figures"])
    path = results.all[0].run.folder / "gradients.json"
    path.write_text(path.read_text().replace("encoder.0", "\\udcfe$\\\\x$"))
    page = write(results, tmp_path / "\udcff", ["--out", "\udcff"])
    assert "\\udcff" in page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "\udcff/figures").iterdir())) == 3


def test_the_page_opens_with_figures_and_further_runs_and_shows_each_once(make_results):
    results = make_results("out", studies=["table3", "figures"])
    run = results.of("table3")[0].record
    page = build_page(paper.SUITE, paper.contents(), results, shown=(run,))
    names = [picture.name for picture in page.opening]
    assert names == ["figures-1-5.png", "figures-6-8.png", "table3.png", "shown-1.png"]
    all_names = [picture.name for picture in page.pictures]
    assert len(all_names) == len(set(all_names)) and "gradient-flow.png" in all_names
    assert page.notices and not page.result


def test_the_ablations_open_with_their_result(make_results):
    values = {"paper": 0.02, "wide": 0.01}
    results = make_results(
        "out",
        suite=ablations.SUITE,
        studies=["steps"],
        values=lambda run: {"mse": values.get(run.variant.name, 0.015)},
    )
    page = build_page(ablations.SUITE, ablations.contents(), results)
    assert page.result.endswith("reduce the test MSE from 0.0200 to 0.0100, by 50 %.")
    assert page.opening[0].name == "steps.png"
