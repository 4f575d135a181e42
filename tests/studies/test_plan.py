"""Plans: which runs, where, and whose records are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rotvq.errors import UserError
from rotvq.studies.milestones import CODEBOOK, RECONSTRUCTIONS, milestone
from rotvq.studies.paper import SUITE
from rotvq.studies.paper.presets import PRESETS
from rotvq.studies.paper.studies import BETAS, SIZES, STUDIES
from rotvq.studies.plan import check, make_plan

OUT = Path("out")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_study_varies_what_its_table_varies_and_nothing_else(preset):
    base = PRESETS[preset].bases["main"]
    for run, k in zip(make_plan(SUITE, preset, OUT, studies=["table2"]), SIZES, strict=True):
        assert run.config == base.replace(quantizer={"codebook_size": k})
    base = PRESETS[preset].bases["ablation"]
    for run, beta in zip(make_plan(SUITE, preset, OUT, studies=["table3"]), BETAS, strict=True):
        assert run.config == base.replace(training={"beta": beta})
    base = PRESETS[preset].bases["estimators"]
    for run in make_plan(SUITE, preset, OUT, studies=["estimators"]):
        changed = {
            "estimator": run.config.quantizer.estimator,
            "restart": run.config.quantizer.restart,
        }
        assert run.config == base.replace(quantizer=changed, training={"seed": run.seed})


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"].bases
    assert (paper["main"].training.epochs, paper["ablation"].training.epochs) == (100, 50)
    for config in paper.values():
        assert (config.model.dim, config.data.train_images) == (256, None)
        assert (config.training.learning_rate, config.training.batch_size) == (2e-4, 128)
        assert config.quantizer.estimator == "rotation"


def test_estimators_share_seeds_and_are_run_seed_by_seed():
    plan = make_plan(SUITE, "cpu", OUT, studies=["estimators"])
    assert len(plan) == 10 * 3
    assert [run.seed for run in plan] == [0] * 10 + [1] * 10 + [2] * 10
    assert len({run.variant.name for run in plan[:10]}) == 10


def test_one_configuration_has_one_record_whichever_studies_are_chosen():
    everything = {run.name: run.folder for run in make_plan(SUITE, "cpu", OUT)}
    own = OUT / "training/base/seed_0"
    shared = [name for name, folder in everything.items() if folder == own]
    assert shared == ["training/base/seed_0", "table2/k_1024/seed_0", "figures/base/seed_0"]
    for study in STUDIES:
        for run in make_plan(SUITE, "cpu", OUT, studies=[study]):
            assert everything[run.name] == run.folder


def test_every_folder_holds_one_configuration():
    plan = make_plan(SUITE, "paper", OUT, seeds=2)
    assert len({(run.folder, run.config) for run in plan}) == len({run.folder for run in plan})


def test_seeds_variants_and_source_can_be_chosen():
    plan = make_plan(
        SUITE, "cpu", OUT, studies=["table3"], variants=["beta_2.0"], seeds=2, source="photos"
    )
    assert [(run.variant.name, run.seed) for run in plan] == [("beta_2.0", 0), ("beta_2.0", 1)]
    assert {run.config.data.source for run in plan} == {"photos"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"studies": ["table4"]}, "study: .*table2, table3, .*estimators; got 'table4'"),
        ({"studies": ["table2"], "variants": ["k_300"]}, "variant: .*k_256, .*2048; got 'k_300'"),
        ({"studies": ["table2"], "variants": ["beta_2.0"]}, "variant: .*k_256, .*got 'beta_2.0'"),
    ],
)
def test_an_unknown_name_lists_those_that_exist(wrong, named):
    with pytest.raises(UserError, match=named):
        make_plan(SUITE, "cpu", OUT, **wrong)


def test_an_unknown_preset():
    with pytest.raises(UserError, match="smoke, cpu, paper; got 'huge'"):
        make_plan(SUITE, "huge", OUT)


class TestCheck:
    @pytest.fixture
    def run(self, make_results):
        return make_results(studies=["table3"], variants=["beta_0.5"]).all[0].run

    def test_its_own_record_passes_whatever_the_source_of_the_images(self, run):
        check(run)
        config = run.folder / "config.yaml"
        values = yaml.safe_load(config.read_text())
        values["data"]["source"] = "elsewhere"
        config.write_text(yaml.safe_dump(values))
        check(run)

    def test_no_record_passes(self, tmp_path):
        for run in make_plan(SUITE, "smoke", tmp_path):
            check(run)

    def test_another_configuration_is_refused_with_its_fields(self, run):
        values = yaml.safe_load((run.folder / "config.yaml").read_text())
        values["training"].update(learning_rate=0.5, epochs=7)
        (run.folder / "config.yaml").write_text(yaml.safe_dump(values))
        epochs = run.config.training.epochs
        with pytest.raises(UserError, match=r"training\.learning_rate: 0\.5 → 0\.0002") as caught:
            check(run)
        assert f"training.epochs: 7 → {epochs}" in str(caught.value)
        assert "beta_0.5" in str(caught.value)

    @pytest.mark.parametrize(
        ("field", "message"),
        [("rotvq", "rotvq: 0.0.1 →"), ("format", r"run\.json: expected format 2; got '0.0.1'")],
    )
    def test_another_version_is_refused(self, run, field, message):
        path = run.folder / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), field: "0.0.1"}))
        with pytest.raises(UserError, match=message):
            check(run)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2', '{"format": 2}'])
    def test_a_damaged_record_is_refused(self, run, content):
        (run.folder / "run.json").write_text(content)
        with pytest.raises(UserError, match=r"run\.json: expected"):
            check(run)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 20, 50, 100, 101, 1000])
def test_milestones_are_epochs_of_the_run_in_order(epochs):
    shown = [milestone(epoch, epochs) for epoch in RECONSTRUCTIONS]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (1, epochs)


def test_in_the_papers_own_length_milestones_are_the_papers():
    assert [milestone(epoch, 100) - 1 for epoch in RECONSTRUCTIONS] == [0, 25, 50, 75, 99]
    assert [milestone(epoch, 100) - 1 for epoch in CODEBOOK] == [0, 25, 49]


def test_a_run_is_trained_when_its_last_epoch_is_evaluated(tmp_path):
    """Not when somebody evaluates it in between."""
    (run, *_) = make_plan(SUITE, "smoke", tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "evaluation.json").write_text("{}")
    for epochs in range(run.config.training.epochs + 1):
        (run.folder / "epochs.jsonl").write_text("{}\n" * epochs)
        assert run.trained == (epochs == run.config.training.epochs)
