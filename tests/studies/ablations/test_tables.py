"""Tables of the ablations against numbers worked out by hand."""

from rotvq.studies.ablations import SUITE, claims, figures, tables
from rotvq.studies.ablations.studies import STUDIES


def test_a_step_shows_its_improvement_over_the_step_before(made):
    error = {"paper": 0.04, "restarts": 0.03}
    results = made(["steps"], lambda run: error.get(run.variant.name, 0.03) + 0.001 * run.seed)
    table = tables.steps(results)
    assert table.columns[1:3] == ("validation MSE, ×1000", "improvement")
    assert [row[2] for row in table.rows[:3]] == ["", "24.7 %", "0.0 %"]
    assert table.rows[0][1] == "40.50 ± 0.71"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_missing_step_is_not_skipped(make_results):
    chosen = [STUDIES["steps"].variants[at] for at in (1, 3, 4)]
    results = make_results(suite=SUITE, studies=["steps"], variants=[v.name for v in chosen])
    rows = tables.steps(results).rows
    assert [row[0] for row in rows] == [f"+ {v.label}" for v in chosen]
    assert [bool(row[2]) for row in rows] == [False, False, True]
    verdicts = [claim.verdict for claim in claims.steps(results)]
    assert verdicts[:2] == ["open", "open"] and verdicts[2] != "open"
    assert figures.opening(results).result == ""


def test_options_are_compared_with_the_baseline(made):
    results = made(["steps", "options"], lambda run: 0.01 if run.study == "options" else 0.02)
    table = tables.options(results)
    assert table.rows[0][:3] == ("none", "20.00", "")
    # At smoke size one option changes nothing: the codes of the baseline have that dimension.
    others = {row[0]: row[2] for row in table.rows[1:]}
    assert others.pop("codes of dimension 16") == "0.0 %"
    assert set(others.values()) == {"50.0 %"}


def test_psnr_per_image_stands_next_to_that_of_the_mean_mse(made):
    results = made(["steps", "best", "codebooks"], psnr=25.0, psnr_per_image=25.5)
    for table in (tables.steps(results), tables.best(results), tables.codebooks(results)):
        at = table.columns.index("PSNR, dB")
        assert table.columns[at + 1] == "per-image PSNR, dB"
        assert {row[at : at + 2] for row in table.rows} == {("25.00", "25.50")}


def test_codebooks_show_the_gaussian_bound(made):
    table = tables.codebooks(made(["codebooks"]))
    assert {row[table.columns.index("Gaussian bound")] for row in table.rows} == {"0.01230"}
