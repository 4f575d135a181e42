import math

import pytest

from rotvq.report import metrics, tables
from rotvq.report.tables import MISSING
from rotvq.run_record import load_run, load_runs


def _rows(runs):
    return {row.name: row.cells for row in metrics.metric_rows(runs)}


def _texts(cells):
    return [cell.text for cell in cells]


def test_metrics_are_written_with_their_units(make_run):
    found = {"mse": 0.00912345, "psnr": 26.456, "ssim": 0.91234, "perplexity": 1234.56}
    rows = _rows([load_run(make_run(codes=64, epochs=2, used=0.5, metrics=found))])

    assert {name: cells[0].text for name, cells in rows.items()} == {
        "MSE": "0.009123",
        "PSNR of the mean MSE (dB)": "26.46",
        "PSNR, mean over images (dB)": rows["PSNR, mean over images (dB)"][0].text,
        "SSIM": "0.9123",
        "Perplexity": "1,234.6",
        "Codes used": "32",
        "Codebook size K": "64",
        "Usage, codes used / K": "50.0 %",
        "Codebook loss": rows["Codebook loss"][0].text,
        "Commitment loss": rows["Commitment loss"][0].text,
        "Bits per image": "96",
        "Bits per pixel": "0.375",
        "Parameters": "366,000",
        "Training images/s (mean over epochs)": "552",  # 551 and 552, half to even
        "Training minutes": "3.0",
    }
    assert not any(cell.best for cells in rows.values() for cell in cells)


def test_the_health_of_the_codebook_is_shown_where_it_was_recorded(make_run):
    spread = [0.0, 0.1, 0.52345, 0.9, 1.5, 2.0, 9.0]
    codebook = {"dead": 7, "oldest": 1234, "perplexity": 30.0, "spread": spread}
    rows = _rows(load_runs([make_run("seen", codebook=codebook), make_run("unseen")]))

    assert {name: _texts(cells) for name, cells in rows.items() if MISSING in _texts(cells)} == {
        "Dead codes (used less than the restart threshold, or 3 % of the mean)": ["7", MISSING],
        "Training steps that the longest-idle code has been unused": ["1,234", MISSING],
        "Cluster size, lower quartile / mean": ["0.5234", MISSING],
        "Cluster size, upper quartile / mean": ["1.5", MISSING],
    }


def test_a_record_from_before_the_second_ssim_is_shown_beside_a_later_one(make_run):
    rows = _rows(load_runs([make_run("old"), make_run("new", metrics={"ssim_uniform_7x7": 0.93})]))
    assert _texts(rows["SSIM, uniform 7x7 window"]) == [MISSING, "0.9300"]


def test_the_best_of_several_runs_is_marked_in_its_direction(make_run):
    good = make_run("good", metrics={"mse": 0.01, "psnr": 26.0, "ssim": 0.9})
    bad = make_run("bad", metrics={"mse": 0.02, "psnr": 23.0, "ssim": 0.9})
    rows = _rows(load_runs([bad, good]))

    assert [cell.best for cell in rows["MSE"]] == [False, True]
    assert [cell.best for cell in rows["PSNR of the mean MSE (dB)"]] == [False, True]
    assert [cell.best for cell in rows["SSIM"]] == [False, False]  # equal
    assert not any(cell.best for cell in rows["Codebook loss"])  # not comparable


def test_nan_is_shown_and_never_best(make_run):
    names = ("nan", "inf", "fine")
    values = (math.nan, math.inf, 20.0)
    runs = [make_run(n, metrics={"psnr": v}) for n, v in zip(names, values, strict=True)]
    cells = _rows(load_runs(runs))["PSNR of the mean MSE (dB)"]

    assert _texts(cells) == ["nan", "nan", "20.00"]
    assert [cell.best for cell in cells] == [False, False, True]


def test_runs_tested_on_different_images_have_no_best(make_run):
    one = make_run("one", metrics={"mse": 0.01})
    other = make_run("other", metrics={"mse": 0.02}, fingerprint="beef")
    runs = load_runs([one, other])

    assert not tables.comparable(runs)
    assert not any(cell.best for cells in _rows(runs).values() for cell in cells)


@pytest.mark.parametrize(
    ("forward", "shown"), [(0.01, False), (0.0100000001, False), (0.005, True)]
)
def test_the_forward_pass_has_a_row_only_where_it_leaks(make_run, forward, shown):
    run = load_run(make_run(metrics={"mse": 0.01, "forward_mse": forward}))
    assert ("MSE of the forward pass (leaks ‖z_e‖ past the codebook)" in _rows([run])) == shown


def test_a_run_without_evaluation_shows_what_is_known(make_run):
    rows = _rows([load_run(make_run(evaluated=False))])
    assert "MSE" not in rows
    assert "Training minutes" in rows and "Parameters" in rows

    both = _rows(load_runs([make_run("a", evaluated=False), make_run("b")]))
    assert both["MSE"][0].text == tables.MISSING


def test_runs_are_ranked_by_their_error_and_unknown_ones_come_last(make_run):
    errors = {"b": 0.02, "nan": math.nan, "a": 0.01}
    runs = load_runs([make_run(name, metrics={"mse": mse}) for name, mse in errors.items()])
    assert [run.label for run in metrics.ranked(runs)] == ["a", "b", "nan"]


def test_a_run_without_evaluation_is_ranked_by_its_last_test(make_run):
    run = load_run(make_run(evaluated=False, epochs=3))
    assert metrics.error(run) == run.epochs[-1].test["reconstruction_loss"]
