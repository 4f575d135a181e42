"""The loop: exact resume, what it learns, micro-batches, crashes, losses that are not finite."""

from __future__ import annotations

import json
import math
import shutil
import signal

import numpy as np
import pytest
import torch

from rotvq import run_folder
from rotvq.data_processing import ImageData, ImageSplit, epoch_order
from rotvq.errors import UserError
from rotvq.evaluation.pixels import normalized
from rotvq.training import bad_steps, checkpoint, environment, loop
from rotvq.training.build import load_model
from rotvq.training.folder import read_config
from rotvq.training.interrupt import Stopped
from rotvq.training.trainer import Trainer

PLAIN = {}
LIVELY = {"restart": 0.3, "init": "data", "decay": 0.5}
MOVING = {
    "ema_decay": 0.9, "flip": True, "schedule": "cosine", "final_beta": 1.0, "entropy_weight": 0.01,
    "gradient_clip": 0.1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def look_at_every_step(monkeypatch):
    monkeypatch.setattr(loop, "LOOK_EVERY", -1.0)


@pytest.mark.parametrize("quantizer", [PLAIN, LIVELY, {"update": "gradient"}])
@pytest.mark.parametrize(
    "moment", [{"images": 8}, {"images": 64}, {"images": 80}, {"epoch": 1}, {"epoch": 2}]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, quantizer, moment, interrupt_at
):
    config = tiny(quantizer=quantizer)
    with pytest.raises(Stopped) as stopped:
        begin(config, data, tmp_path / "parts").run(interrupt_at(**moment))
    assert stopped.value.number == signal.SIGINT
    assert not (tmp_path / "parts/evaluation.json").exists()
    # The state must come from the folder, not from what this process has left lying about.
    torch.manual_seed(12345)
    np.random.seed(12345)
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize("quantizer", [LIVELY | {"final_decay": 0.9}, {"update": "linear"}])
@pytest.mark.parametrize("training", [{}, MOVING])
def test_a_run_may_be_stopped_after_every_step(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, quantizer, training, interrupt_at
):
    config = tiny(quantizer=quantizer, training={"epochs": 2, **training})
    trainer, stops = begin(config, data, tmp_path / "parts"), 0
    for seen in range(8, 80, 8):
        with pytest.raises(Stopped):
            trainer.run(interrupt_at(images=seen, number=signal.SIGTERM))
        assert (trainer.position.images, trainer.position.epoch) == (seen, seen // 40)
        trainer, stops = resumed(config, data, tmp_path / "parts"), stops + 1
    trainer.run()
    assert stops == 9
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def test_a_signal_at_the_very_end_does_not_lose_the_evaluation(
    tmp_path, data, tiny, begin, interrupt_at
):
    config = tiny(training={"epochs": 1})
    with pytest.raises(Stopped, match="finished"):
        begin(config, data, tmp_path / "run").run(interrupt_at(epoch=1))
    record = begin(config, data, tmp_path / "undisturbed").run()
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert written["metrics"].pop("ssim") is None, "nan, as JSON has no nan"
    del record["metrics"]["ssim"]
    assert {**written, "seconds": 0} == {**record, "seconds": 0}


def test_handlers_of_before_are_back_after_a_run(tmp_path, data, tiny, begin, interrupt_at):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        begin(tiny(), data, tmp_path / "run").run(interrupt_at(images=16))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def crash_once(monkeypatch, module, name, call):
    """Let the call-th call of module.name fail as a lost machine would."""
    original, calls = getattr(module, name), []

    def failing(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            raise SystemError("lost")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        (checkpoint, "save"),
        (checkpoint, "save_weights"),
        (run_folder, "write_epochs"),
        (loop, "save_reconstructions"),
    ],
)
def test_a_crash_between_any_two_writes_costs_nothing(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, module, name, epoch
):
    config = tiny(quantizer={"restart": 0.3})
    with monkeypatch.context() as patch:
        crash_once(patch, module, name, epoch)
        with pytest.raises(SystemError, match="lost"):
            begin(config, data, tmp_path / "parts").run()
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def test_checkpoints_may_be_rarer_than_epochs(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, callback
):
    config = tiny(training={"checkpoint_every": 2})
    begun = begin(config, data, tmp_path / "parts")
    with pytest.raises(SystemError, match="lost"):
        begun.run([callback(on_epoch_end=lambda record: crash_after(record, 1))])
    assert not (tmp_path / "parts/checkpoint.pt").exists()
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def crash_after(record, epoch):
    if record["epoch"] == epoch:
        raise SystemError("lost")


def test_more_epochs_continue_a_finished_run(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    long = tiny(training={"epochs": 3})
    begin(tiny(training={"epochs": 1}), data, tmp_path / "parts").run()
    resumed(long, data, tmp_path / "parts").run()
    ours = outcome(tmp_path / "parts")
    assert {**ours, "config": None} == {**uninterrupted(long), "config": None}


def test_two_runs_of_one_seed_are_equal_and_of_two_seeds_are_not(
    tmp_path, data, tiny, begin, outcome
):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        begin(tiny(training={"epochs": 1, "seed": seed}), data, tmp_path / name).run()
    a, b, c = (outcome(tmp_path / name) for name in "abc")
    assert a == b
    assert a["weights"] != c["weights"]


@pytest.mark.parametrize("quantizer", [PLAIN, {"init": "data"}, {"update": "gradient"}])
def test_micro_batches_equal_one_batch(tmp_path, data, tiny, begin, quantizer):
    states, records = [], []
    for micro in (None, 2, 8):
        options = {
            "epochs": 1, "precision": "fp32", "micro_batch_size": micro, "learning_rate": 0.5
        }  # fmt: skip
        trainer = begin(tiny(quantizer=quantizer, training=options), data, tmp_path / f"{micro}")
        # Adam would hide a wrong scale of the gradient and blow up rounding errors.
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


def test_limits_take_images_spread_over_the_split(tmp_path, data, tiny, begin):
    config = tiny(data={"train_images": 16, "test_images": 5}, training={"epochs": 1})
    record = begin(config, data, tmp_path / "run").run()
    assert record["images"] == 5
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["data"]["train"] == {
        "images": 16,
        "channels": 3,
        "height": 8,
        "width": 8,
        "fingerprint": ImageSplit(data.train.images[np.arange(16) * 40 // 16]).fingerprint(),
    }


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 16), (1, 20, 12)])
def test_grey_and_oblong_images_train(tmp_path, make_data, tiny, begin, channels, height, width):
    data = make_data(train=16, channels=channels, height=height, width=width)
    config = tiny(model={"channels": channels}, training={"epochs": 1})
    record = begin(config, data, tmp_path / "run").run()
    tokens = (height // 4) * (width // 4)
    assert sum(record["counts"]) == 12 * tokens
    assert record["metrics"]["bits_per_image"] == tokens * 4
    assert record["metrics"]["bits_per_pixel"] == tokens * 4 / (height * width)
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["model"]["tokens"] == tokens
    assert run["model"]["bits_per_image"] == tokens * 4


def test_run_json_says_what_ran(tmp_path, data, tiny):
    trainer = Trainer(tiny(), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    trainer.begin("rotvq train --out run")
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["format"] == run_folder.FORMAT
    assert run["command"] == "rotvq train --out run"
    assert run["hardware"]["device"] == "cpu"
    assert run["precision"] == environment.resolve_precision("auto", torch.device("cpu"))
    assert run["data"]["name"] == "smooth"
    assert run["data"]["test"]["fingerprint"] == data.test.fingerprint()
    assert run["model"]["parameters"] == sum(p.numel() for p in trainer.model.parameters())
    assert run["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__


def test_images_that_do_not_halve_are_refused(tmp_path, make_data, tiny, begin):
    with pytest.raises(UserError, match=r"divisible by 4 .*; got 10x8") as error:
        begin(tiny(), make_data(height=10), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("images", [1, 5, 7])
def test_fewer_images_than_a_batch_are_shown_more_than_once_and_it_is_said(
    tmp_path, make_data, tiny, begin, images
):
    trainer = begin(tiny(training={"epochs": 1}), make_data(train=images), tmp_path / "run")
    trainer.run()
    assert trainer.position.images >= 8
    (note,) = json.loads((tmp_path / "run/run.json").read_text())["data"]["notes"]
    times = -(-8 // images)
    assert note == f"{images} images do not fill a batch: an epoch shows each {times} times."


def test_other_images_are_refused_on_resume(tmp_path, make_data, tiny, begin, resumed):
    begin(tiny(training={"epochs": 1}), make_data(), tmp_path / "run").run()
    before = (tmp_path / "run/run.json").read_bytes()
    good = make_data()
    bad = good.test.images.copy()
    bad[0, 0, 0, 0] ^= 1
    for other, split in (
        (ImageData("smooth", good.train, ImageSplit(bad)), "test"),
        (make_data(train=41), "train"),
    ):
        with pytest.raises(UserError, match=f"expected the run's own {split} images"):
            resumed(tiny(training={"epochs": 1}), other, tmp_path / "run")
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_resume_without_a_checkpoint_starts_from_the_beginning(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    config = tiny()
    begin(tiny(), data, tmp_path / "parts")
    resumed(tiny(), data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


def spoil(trainer):
    """Make the model's next outputs nan, as an exploded step would."""
    with torch.no_grad():
        trainer.model.decoder[0].first.weight.fill_(math.nan)


def test_gradients_that_stay_bad_stop_the_run(
    monkeypatch, tmp_path, data, tiny, begin, resumed, outcome, uninterrupted, callback
):
    monkeypatch.setattr(bad_steps, "PATIENCE", 3)
    config = tiny()
    trainer = begin(tiny(), data, tmp_path / "parts")
    saved, told = [], []

    def seen(images, means):
        if images == 48:
            saved.append((tmp_path / "parts/checkpoint.pt").read_bytes())
            spoil(trainer)

    with pytest.raises(UserError, match=r"not finite in 3 steps in a row after 72 im") as error:
        trainer.run([callback(on_images=seen, on_bad_step=told.append)])
    assert "\n" not in str(error.value)
    assert "learning_rate" in str(error.value)
    assert [sentence.split(" was")[0] for sentence in told] == ["Step 7", "Step 8", "Step 9"]
    assert (tmp_path / "parts/checkpoint.pt").read_bytes() == saved[0]
    shutil.rmtree(tmp_path / "parts/bad_steps")
    resumed(tiny(), data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize("where", ["forward", "gradient"])
@pytest.mark.parametrize("looks", [-1.0, 3600.0])
def test_a_bad_step_is_left_out_and_reported(
    monkeypatch, tmp_path, data, tiny, begin, where, looks, callback
):
    monkeypatch.setattr(loop, "LOOK_EVERY", looks)
    trainer = begin(tiny(training={"epochs": 1}), data, tmp_path / "run")
    layer, kept, told = trainer.model.decoder[0].first, {}, []
    steps = []

    def forward(module, inputs):
        steps.append(None)
        if len(steps) == 3:
            kept.update(images=trainer.position.images, weight=layer.weight.detach().clone())
            if where == "forward":
                return (inputs[0] * math.nan,)

    def backward(gradient):
        return gradient * math.inf if len(steps) == 3 else gradient

    def after(module, inputs, output):
        if len(steps) == 4:
            kept["after"] = layer.weight.detach().clone()

    layer.register_forward_pre_hook(forward)
    layer.register_forward_hook(after)
    if where == "gradient":
        layer.weight.register_hook(backward)
    trainer.run([callback(on_bad_step=told.append)])
    assert torch.equal(kept["weight"], kept["after"])
    assert len(told) == 1 and told[0].startswith("Step 3 was left out")
    report = json.loads((tmp_path / "run/bad_steps/step_00000003.json").read_text())
    saved = np.load(tmp_path / "run/bad_steps/step_00000003.npz")["images"]
    order = epoch_order(len(data.train.images), 0, 0)[16:24]
    assert report["images"] == order.tolist() and report["weights_finite"]
    assert np.array_equal(saved, data.train.images[order])
    record = json.loads((tmp_path / "run/epochs.jsonl").read_text())
    assert record["bad_steps"] == 1
    assert all(math.isfinite(value) for value in record["train"].values())


def test_without_one_good_step_an_epoch_does_not_end(tmp_path, data, tiny, begin):
    trainer = begin(tiny(), data, tmp_path / "run")
    spoil(trainer)
    with pytest.raises(UserError, match="the loss is nan after 40 images"):
        trainer.run()
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_an_absurd_learning_rate_is_told(tmp_path, data, tiny, begin):
    config = tiny(training={"learning_rate": 1e30, "precision": "fp32"})
    with pytest.raises(UserError, match=r"the loss over the images tested on is (nan|inf)"):
        begin(config, data, tmp_path / "run").run()
    assert not (tmp_path / "run/checkpoint.pt").exists()


def test_weights_that_break_in_an_epochs_last_step_do_not_reach_the_checkpoint(
    tmp_path, data, tiny, begin, callback
):
    trainer = begin(tiny(), data, tmp_path / "run")

    def seen(images, means):
        if images == 80:
            spoil(trainer)

    with pytest.raises(UserError, match="the loss over the images tested on is nan after 80 i"):
        trainer.run([callback(on_images=seen)])
    state = checkpoint.load(tmp_path / "run/checkpoint.pt")
    assert state.position.epoch == 1
    assert all(t.isfinite().all() for t in state.model.values() if t.is_floating_point())


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


def test_another_precision_is_refused_on_resume(tmp_path, data, tiny, begin, monkeypatch):
    begin(tiny(training={"epochs": 1, "precision": "auto"}), data, tmp_path / "run").run()
    ours = environment.resolve_precision("auto", torch.device("cpu"))
    other = {"fp32": "bf16", "bf16": "fp32"}[ours]
    monkeypatch.setattr(environment, "resolve_precision", lambda *arguments: other)
    trainer = Trainer(tiny(training={"epochs": 1}), data, tmp_path / "run")
    with pytest.raises(UserError, match=f"own precision {ours}; got {other}"):
        trainer.resume()


def test_half_written_files_of_a_killed_process_are_removed(
    tmp_path, data, tiny, begin, resumed, outcome, uninterrupted
):
    config = tiny()
    begin(config, data, tmp_path / "parts")
    (tmp_path / "parts/.rotvq-0123456789abcdef.part").write_bytes(b"half")
    resumed(config, data, tmp_path / "parts").run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)


@pytest.mark.parametrize(("done", "step", "allowed"), [(2, 0, 2), (2, 1, 3), (3, 0, 3)])
def test_epochs_that_are_done_cannot_be_undone(
    tmp_path, data, tiny, begin, done, step, allowed, interrupt_at
):
    """Otherwise the configuration would be one that the weights were never trained with."""
    folder = tmp_path / "run"
    trainer = begin(tiny(training={"epochs": 4}), data, folder)
    with pytest.raises(Stopped, match="saved"):
        images = 8 * (done * trainer.steps + step)
        trainer.run(interrupt_at(images=images) if step else interrupt_at(epoch=done))
    for epochs in range(1, allowed):
        config = (folder / "config.yaml").read_bytes()
        with pytest.raises(UserError, match=f"expected {allowed} or more.* got {epochs}") as error:
            Trainer(tiny(training={"epochs": epochs}), data, folder).resume()
        assert "\n" not in str(error.value)
        assert (folder / "config.yaml").read_bytes() == config
    for epochs in range(allowed, 6):
        Trainer(tiny(training={"epochs": epochs}), data, folder).resume()
        assert read_config(folder).training.epochs == epochs
