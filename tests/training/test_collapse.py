"""The warning of a collapse: when it is given, and that following it helps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import collapse
import pytest

from rotvq.cli.train import parse
from rotvq.data_processing import load
from rotvq.training.collapse import ADVICE, advised, warning
from rotvq.training.config import Config

RECORD = Path(__file__).parents[2] / "results/collapse"


def history(*usages):
    return [{"train": {"usage": usage}} for usage in usages]


@pytest.mark.parametrize(
    "usages", [(), (0.1,), (0.1, 0.2), (0.9, 0.5), (0.4, 0.43), (0.2, 0.1, 0.3)]
)
def test_no_warning_for_a_codebook_whose_usage_is_high_or_rising(usages):
    assert warning(history(*usages), Config()) is None


@pytest.mark.parametrize("usages", [(0.25, 0.25), (0.9, 0.25), (0.5, 0.3, 0.31)])
def test_a_collapse_is_reported_with_its_numbers(usages):
    said = warning(history(*usages), Config())
    assert f"{round(1024 * usages[-1]):,} of 1,024 codes" in said
    assert f"after {round(1024 * usages[-2]):,} an epoch ago" in said


@pytest.mark.parametrize(
    ("several", "said"),
    [({}, ""), ({"residual": 2}, " per codebook"), ({"scales": "1,2,4,8"}, " per codebook")],
)
def test_of_several_codebooks_the_numbers_are_of_each(several, said):
    config = Config().replace(quantizer=several)
    assert f"of 1,024 codes{said} are used" in warning(history(0.25, 0.25), config)


SITUATIONS = {
    "nothing": ({}, {"quantizer.restart": 0.03, "quantizer.decay": 0.9}),
    "a long memory": ({"restart": 0.1}, {"quantizer.decay": 0.9}),
    "no restarts": ({"decay": 0.5}, {"quantizer.restart": 0.03}),
    "both": ({"restart": 0.03, "decay": 0.9, "final_decay": 0.99}, {}),
    "by gradient": ({"update": "gradient"}, {"quantizer.restart": 0.03, "quantizer.decay": 0.9}),
    "one map": (
        {"update": "linear"},
        {"quantizer.update": "ema", "quantizer.restart": 0.03, "quantizer.decay": 0.9},
    ),
    "a fixed grid": (
        {"levels": "4,4", "codebook_size": 16},
        {},
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_advice_lists_the_options_that_are_not_set_yet(name):
    given, wanted = SITUATIONS[name]
    config = Config().replace(quantizer=given)
    assert advised(config) == wanted
    said = warning(history(0.2, 0.2), config)
    options = re.findall(r"(--[a-z_.]+) (\w+(?:\.\d+)?)", said)
    assert {f"--{option}": str(value) for option, value in wanted.items()} == dict(options)
    if not wanted:
        assert said.endswith("No other option is known to help.")


def test_a_run_that_follows_all_advice_gets_no_more():
    for given, _ in SITUATIONS.values():
        words = [w for name, v in given.items() for w in (f"--quantizer.{name}", str(v))]
        config = parse(words)[1]
        words += [w for name, v in advised(config).items() for w in (f"--{name}", str(v))]
        assert advised(parse(words)[1]) == {}


@pytest.fixture(scope="module")
def record():
    return json.loads((RECORD / "matrix.json").read_text())["runs"]


def test_the_table_is_that_of_the_record(record):
    assert collapse.table(record) == (RECORD / "matrix.md").read_text()


def test_in_every_measured_situation_that_is_warned_of_the_advice_helped(record):
    runs = {collapse.configured(run["settings"], run["seed"]): run for run in record}
    pairs = []
    for run in record:
        advice = advised(collapse.configured(run["settings"]))
        if run["warned"] and advice:
            pairs.append((run, runs[collapse.configured(run["settings"] | advice, run["seed"])]))
    assert len(pairs) >= 20
    assert {
        option for run, _ in pairs for option in advised(collapse.configured(run["settings"]))
    } == {each.option for each in ADVICE}
    for before, after in pairs:
        assert after["usage"] > max(0.85, before["usage"])
        assert after["mse"] < 1.05 * before["mse"], "short runs differ by as much by chance"
    lower = [after["train_mse"] < before["train_mse"] for before, after in pairs]
    assert sum(lower) > 0.9 * len(pairs)
    assert fmean(after["mse"] / before["mse"] for before, after in pairs) < 0.95


@pytest.fixture(scope="module")
def patches():
    return load("photos", size=16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"quantizer.restart": 0.03}, {"quantizer.update": "gradient"}]
)
def test_following_the_advice_brings_codes_into_use_and_lowers_the_error(settings, patches):
    settings = {
        "quantizer.codebook_size": 128,
        "quantizer.estimator": "straight_through",
        "training.learning_rate": 2e-3,
        "training.epochs": 6,
        **settings,
    }
    before = collapse.measure(collapse.configured(settings), patches)
    assert before["warned"]
    after = collapse.measure(
        collapse.configured(settings | advised(collapse.configured(settings))), patches
    )
    assert after["usage"] > before["usage"] + 0.2
    assert after["train_mse"] < before["train_mse"]
