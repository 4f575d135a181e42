"""The report on our own studies, from invented records."""

import re

import pytest

from rotvq.studies.ablations import tables, verdicts
from rotvq.studies.ablations.contents import CONTENTS
from rotvq.studies.ablations.studies import BRANCH, STUDIES
from rotvq.studies.paper.page import build_page, write_report
from rotvq.studies.plan import make_plan
from rotvq.studies.suites import ABLATIONS


@pytest.fixture
def made(make_results):
    """Results of some studies, with the validation MSE given by run."""

    def make(studies=None, mse=lambda run: 0.02, seeds=2, **others):
        def values(run):
            return {"reconstruction_loss": mse(run), "mse": mse(run), **others}

        return make_results("out", suite=ABLATIONS, studies=studies, seeds=seeds, values=values)

    return make


def holds(found):
    return {v.claim: v.holds for v in found}


def test_every_study_has_its_section_and_every_picture_its_file(made, tmp_path):
    results, out = made(), tmp_path / "out"
    html = write_report(CONTENTS, results.plan, out, ["--preset", "smoke"])
    markdown = (out / "ablations.md").read_text()
    assert html == out / "ablations.html"
    for study in STUDIES.values():
        assert f"## {study.title}" in markdown
        assert f"rotvq ablate {study.name} --preset smoke" in markdown
    linked = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert linked == [f"figures/{name}.png" for name in ("steps", "options", "codebooks")]
    assert {out / path for path in linked} == set((out / "figures").iterdir())


def test_parts_of_the_studies_make_a_page(made, tmp_path):
    made(["best"], seeds=1)
    everything = make_plan("smoke", tmp_path / "out", suite=ABLATIONS)
    write_report(CONTENTS, everything, tmp_path / "out", ())
    markdown = (tmp_path / "out/ablations.md").read_text()
    assert "Not run yet: steps, options, codebooks, plain." in markdown
    assert re.search(r"\| The best recipe's error is below 0.7 times .+ \| open \|", markdown)


def test_a_rung_says_how_much_less_than_the_one_below(made):
    error = {"paper": 0.04, "revival": 0.03}
    results = made(["steps"], lambda run: error.get(run.variant.name, 0.03) + 0.001 * run.seed)
    table = tables.ladder(results)
    change = table.columns.index("less than the rung below")
    assert table.columns[1] == "validation MSE, ×1000"
    assert [row[change] for row in table.rows[:3]] == ["", "24.7 %", "0.0 %"]
    assert table.rows[0][1] == "40.50 ± 0.71"
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ((0.01, 0.01, 0.01), "confirmed"),
        ((0.01, 0.01), "confirmed in part"),
        ((0.03, 0.03), "not confirmed"),
        ((0.01, 0.021), "confirmed in part"),
        ((0.019, 0.05), "not confirmed"),
    ],
)
def test_a_lever_pays_where_each_of_three_seeds_says_so(made, errors, answer):
    def mse(run):
        return errors[run.seed] if run.variant.name == "rotation" else 0.02

    results = made(["steps", "options"], mse, seeds=len(errors))
    assert holds(verdicts.levers(results))["It pays: rotation."] == answer
    assert results.of("steps", BRANCH)


def test_levers_are_compared_with_their_rung(made):
    results = made(["steps", "options"], lambda run: 0.01 if run.study == "options" else 0.02)
    table = tables.levers(results, results.of("steps", BRANCH))
    assert table.rows[0][:3] == ("none of them", "20.00", "")
    # At smoke size one lever changes nothing: the rung's codes have that length already.
    others = {row[0]: row[2] for row in table.rows[1:]}
    assert others.pop("codes of length 16") == "0.0 %"
    assert set(others.values()) == {"50.0 %"}


@pytest.mark.parametrize(
    ("share", "answers"),
    [
        (0.5, ["confirmed", "confirmed"]),
        (0.6, ["confirmed", "not confirmed"]),
        (0.8, ["not confirmed", "not confirmed"]),
    ],
)
def test_the_best_is_held_to_its_share(made, share, answers):
    results = made(["best", "plain"], lambda run: 0.02)
    for result in results.of("best"):
        result.record.evaluation.metrics["mse"] *= share
    assert [v.holds for v in verdicts.best(results)[:2]] == answers


def test_large_codebooks_are_alive_fall_and_are_bounded(made):
    results = made(["codebooks"], lambda run: 20 / run.config.quantizer.codebook_size, usage=0.98)
    assert [v.holds for v in verdicts.codebooks(results)] == [
        "confirmed in part", "confirmed", "confirmed in part",
    ]  # fmt: skip
    page = build_page(CONTENTS, results)
    assert "0.01230" in page.sections[0].tables[0].rows[0]
