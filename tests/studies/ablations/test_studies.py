"""Steps and options: each row makes its changes and no others."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rotvq.studies.ablations import SUITE
from rotvq.studies.ablations.presets import PRESETS
from rotvq.studies.ablations.studies import BASELINE, LARGE, OPTIONS, STEPS, STUDIES, merged
from rotvq.studies.plan import make_plan
from rotvq.training.build import build_model
from rotvq.training.presets import PRESETS as RUNS

OUT = Path("out")


def plan(preset, study, seeds=1):
    return make_plan(SUITE, preset, OUT, studies=[study], seeds=seeds)


def test_merging_keeps_unchanged_values_and_leaves_its_arguments_alone():
    first, second = {"a": {"x": 1, "y": 2}}, {"a": {"y": 3}, "b": {"z": 4}}
    assert merged(first, second) == {"a": {"x": 1, "y": 3}, "b": {"z": 4}}
    assert first == {"a": {"x": 1, "y": 2}}


@pytest.mark.parametrize("preset", PRESETS)
def test_steps_begin_with_the_papers_recipe_and_keep_earlier_changes(preset):
    runs = plan(preset, "steps")
    assert runs[0].config == PRESETS[preset].bases["steps"]
    for (before, run), (_, _, changes) in zip(pairwise(runs[:-1]), STEPS[1:], strict=True):
        assert run.config == before.config.replace(**changes)
        assert changes


@pytest.mark.parametrize("preset", ["cpu", "paper"])
def test_an_option_changes_the_baseline(preset):
    baseline = next(r for r in plan(preset, "steps") if r.variant.name == BASELINE)
    for run, (name, _, changes) in zip(plan(preset, "options"), OPTIONS, strict=True):
        assert run.variant.name == name
        assert run.config == baseline.config.replace(**merged(*changes)) != baseline.config


@pytest.mark.parametrize("study", STUDIES)
def test_every_row_can_be_built_and_is_repeated_where_it_is_compared(study):
    for run in plan("smoke", study):
        if run.config.quantizer.codebook_size <= 16384:
            build_model(run.config)
    repeated = {run.seed for run in make_plan(SUITE, "cpu", OUT, studies=[study])}
    assert repeated == ({0} if study in ("codebooks", "priors") else {0, 1, 2})


def test_large_codebooks_differ_in_size_and_decay_alone():
    first, *others = plan("cpu", "codebooks")
    assert [r.config.quantizer.codebook_size for r in (first, *others)] == list(LARGE)
    for run in others:
        quantizer = {
            name: getattr(run.config.quantizer, name)
            for name in ("codebook_size", "decay", "final_decay")
        }
        assert run.config == first.config.replace(quantizer=quantizer)


@pytest.mark.parametrize("preset", PRESETS)
def test_choices_are_made_on_images_held_out(preset):
    assert all(config.data.validation for config in PRESETS[preset].bases.values())


def test_the_last_step_changes_the_network_and_its_learning_rate_alone():
    for preset in ("cpu", "paper"):
        *_, before, top = (run.config for run in plan(preset, "steps"))
        assert (top.data, top.quantizer) == (before.data, before.quantizer)
        assert top.training == replace(before.training, learning_rate=top.training.learning_rate)
        assert top.model != before.model


@pytest.mark.parametrize(("preset", "name"), [("cpu", "best"), ("paper", "best_gpu")])
def test_all_steps_together_are_the_last_step_at_the_length_of_the_preset(preset, name):
    (run,) = plan(preset, "best")
    *_, last = plan(preset, "steps")
    length = {"epochs": RUNS[name].training.epochs, "test_every": 1}
    assert run.config == last.config.replace(training=length)


@pytest.mark.parametrize("preset", PRESETS)
def test_sharp_pictures_combine_every_codebook_loss_and_estimator(preset):
    configs = {run.variant.name: run.config for run in plan(preset, "sharp")}
    assert len(set(configs.values())) == len(configs) == 2 * 3 * 3
    for name, config in configs.items():
        codebook, losses, estimator = name.split("_", 2)
        training, quantizer = config.training, config.quantizer
        assert (quantizer.restart > 0) is (quantizer.init == "data") is (codebook == "restarts")
        assert (training.perceptual == "out/perceptual") is (losses != "mse")
        assert (training.perceptual_weight > 0) is (losses != "mse")
        assert (training.adversarial_weight > 0) is (losses == "adversarial")
        straight = estimator == "straight_through"
        assert quantizer.estimator == ("straight_through" if straight else "rotation")
        assert config.model.normalized_latents is (estimator == "normalized")
