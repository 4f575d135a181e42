"""The loop: what it learns from, micro-batches, precision, options that reach the step."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from rotvq.data_processing import epoch_order
from rotvq.errors import UserError
from rotvq.evaluation import evaluate as evaluation
from rotvq.evaluation.pixels import normalized
from rotvq.training.build import load_model


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(
    tmp_path, data, tiny, begin, outcome
):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        begin(tiny(training={"epochs": 1, "seed": seed}), data, tmp_path / name).run()
    a, b, c = (outcome(tmp_path / name) for name in "abc")
    assert a == b
    assert a["weights"] != c["weights"]


@pytest.mark.parametrize("quantizer", [{}, {"init": "data"}, {"update": "gradient"}])
def test_micro_batches_equal_one_batch(tmp_path, data, tiny, begin, quantizer):
    states, records = [], []
    for micro in (None, 2, 8):
        options = {
            "epochs": 1, "precision": "fp32", "micro_batch_size": micro, "learning_rate": 0.5
        }  # fmt: skip
        trainer = begin(tiny(quantizer=quantizer, training=options), data, tmp_path / f"{micro}")
        # Adam would hide a wrong scale of the gradient and amplify rounding errors.
        trainer.state.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.5)
        start = {name: t.clone() for name, t in trainer.model.state_dict().items()}
        trainer.run()
        states.append(trainer.model.state_dict())
        records.append(trainer.position.history[0]["train"])
    whole, parts, same = states
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-6)
        assert torch.equal(same[name], expected)
    moved = (whole["encoder.0.weight"] - start["encoder.0.weight"]).abs().max()
    assert moved > 1e-4
    for name in ("loss", "reconstruction_loss", "codebook_loss", "perplexity", "usage"):
        assert records[1][name] == pytest.approx(records[0][name], rel=1e-4)


def test_a_step_sees_the_images_that_the_epochs_order_names(tmp_path, data, tiny, begin):
    trainer = begin(tiny(training={"epochs": 2, "seed": 5}), data, tmp_path / "run")
    seen = []
    trainer.model.encoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone()) if module.training else None
    )
    trainer.run()
    order = np.concatenate([epoch_order(40, 5, 0), epoch_order(40, 5, 1)])
    expected = normalized(torch.from_numpy(data.train.images[order]))
    assert torch.equal(torch.cat(seen), expected)


def test_images_beyond_the_last_whole_batch_wait_for_another_epoch(
    tmp_path, make_data, tiny, begin
):
    trainer = begin(tiny(training={"epochs": 2}), make_data(train=43), tmp_path / "run")
    trainer.run()
    assert [record["images"] for record in trainer.position.history] == [40, 80]


def test_a_run_learns_and_records_it(tmp_path, make_data, tiny, begin):
    config = tiny(quantizer={"init": "data"}, training={"epochs": 15, "learning_rate": 5e-3})
    data = make_data(train=64)
    record = begin(config, data, tmp_path / "run").run()
    lines = (tmp_path / "run/epochs.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["epoch"] for r in records] == list(range(1, 16))
    first, last = records[0], records[-1]
    assert last["train"]["reconstruction_loss"] < 0.9 * first["train"]["reconstruction_loss"]
    assert last["test"]["reconstruction_loss"] < 0.9 * first["test"]["reconstruction_loss"]
    assert set(last["train"]) == {
        "loss", "reconstruction_loss", "codebook_loss", "commitment_loss",
        "relative_error", "perplexity", "batch_perplexity", "usage",
    }  # fmt: skip
    assert set(last["test"]) == set(last["train"]) - {"batch_perplexity"} | {"psnr"}
    assert set(last["timing"]) == {"train_seconds", "test_seconds", "images_per_second"}
    # The last epoch's test and the evaluation look at the same weights.
    assert record["metrics"]["forward_mse"] == pytest.approx(last["test"]["reconstruction_loss"])
    assert record["metrics"]["perplexity"] == pytest.approx(last["test"]["perplexity"])
    assert last["test"]["psnr"] == pytest.approx(
        10 * math.log10(4 / last["test"]["reconstruction_loss"])
    )


def test_beta_and_learning_rate_and_estimator_reach_the_step(tmp_path, data, tiny, begin):
    weights = {}
    for name, groups in {
        "base": {},
        "beta": {"training": {"epochs": 1, "beta": 2.0}},
        "rate": {"training": {"epochs": 1, "learning_rate": 2e-3}},
        "estimator": {"quantizer": {"estimator": "straight_through"}},
        "decay": {"quantizer": {"decay": 0.5}},
    }.items():
        config = tiny(**{"training": {"epochs": 1}, **groups})
        trainer = begin(config, data, tmp_path / name)
        trainer.run()
        state = trainer.model.state_dict()
        parts = (state["encoder.0.weight"], state["quantizer.codebook.embeddings"])
        weights[name] = torch.cat([part.flatten() for part in parts])
    for name in ("beta", "rate", "estimator", "decay"):
        assert not torch.equal(weights[name], weights["base"]), name


def test_fp16_on_a_processor_is_refused(tmp_path, data, tiny, begin):
    with pytest.raises(UserError, match="fp32 or bf16 on a CPU; got fp16"):
        begin(tiny(training={"precision": "fp16"}), data, tmp_path / "run")


def test_bf16_trains_in_another_precision_than_fp32(tmp_path, data, tiny, begin):
    runs = {}
    for precision in ("fp32", "bf16"):
        trainer = begin(
            tiny(training={"epochs": 1, "precision": precision}), data, tmp_path / precision
        )
        dtypes = set()
        trainer.model.encoder.register_forward_hook(
            lambda module, inputs, output, dtypes=dtypes: (
                dtypes.add(output.dtype) if module.training else None
            )
        )
        trainer.run()
        runs[precision] = dtypes
    assert runs == {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}


def test_the_trained_model_loads_back(tmp_path, data, tiny, begin):
    trainer = begin(tiny(quantizer={"init": "data"}, training={"epochs": 1}), data, tmp_path / "r")
    trainer.run()
    model = load_model(tmp_path / "r")
    x = normalized(torch.from_numpy(data.test.images))
    trainer.model.eval()
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(x).reconstruction, trainer.model(x).reconstruction)


def test_a_model_is_fine_tuned_on_tokens_that_are_searched_for(tmp_path, data, tiny, begin):
    begin(tiny(training={"epochs": 1}), data, tmp_path / "start").run()
    effort = {"epochs": 1, "effort": 1, "init_from": str(tmp_path / "start")}
    with pytest.raises(UserError, match=r"training.effort: expected 0 with --quantizer.update ema"):
        begin(tiny(training=effort), data, tmp_path / "refused")
    dropping = {"update": "gradient", "residual": 2, "dropout": 0.5}
    with pytest.raises(UserError, match=r"effort: expected 0 with --quantizer.dropout.*; got 1\."):
        begin(tiny(quantizer=dropping, training=effort), data, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    trainer = begin(tiny(quantizer={"update": "gradient"}, training=effort), data, tmp_path / "run")
    first = trainer.batch(trainer.samples.order(0), 0)
    searched = trainer.model.encode(normalized(first), effort=1)
    assert not torch.equal(searched, trainer.model.encode(normalized(first)))
    before = trainer.model.quantizer.codebook.embeddings.detach().clone()
    trainer.run()
    moved = (trainer.model.quantizer.codebook.embeddings != before).any(1)
    assert moved[searched.unique()].all()
    assert trainer.position.history[0]["codebook"] == {}, "nothing counts the uses of codes"


@pytest.mark.parametrize(("micro", "most"), [(2, 2), (None, 8)])
def test_no_pass_takes_more_images_than_training(
    tmp_path, data, tiny, begin, monkeypatch, micro, most
):
    sizes = []
    original = evaluation.batches

    def counted(images, batch_size, model):
        sizes.append(batch_size)
        return original(images, batch_size, model)

    monkeypatch.setattr(evaluation, "batches", counted)
    config = tiny(training={"epochs": 1, "batch_size": 8, "micro_batch_size": micro})
    begin(config, data, tmp_path / "run").run()
    assert sizes == [most, most]  # the test of the epoch, and the evaluation
