"""A run of a prior: what it learns, how it resumes, what it records."""

from __future__ import annotations

import json
import math
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_tokens import CODECS

from rotvq import VQVAE, run_folder
from rotvq.errors import UserError
from rotvq.generation import trainer as trainer_module
from rotvq.generation.data import load
from rotvq.generation.evaluation import bits, evaluate
from rotvq.generation.prior import Prior
from rotvq.generation.trainer import PriorTrainer
from rotvq.training import checkpoint, monitor
from rotvq.training.callbacks import Callback
from rotvq.training.interrupt import Stopped


@pytest.fixture
def make(tiny, write_tokens, tmp_path, tokenizer):
    """A trainer in a folder, over tokens of two grids."""
    path = write_tokens(grids=((2, 3), (1, 2)))

    def make(name, with_tokenizer=False, **groups):
        config = tiny(**({"tokens": {"train": str(path)}} | groups))
        model = tokenizer if with_tokenizer else None
        return PriorTrainer(config, load(config.tokens), tmp_path / name, model)

    return make


def begun(trainer):
    trainer.begin()
    return trainer


def outcome(folder):
    """Everything that a run leaves, without times."""
    found = {p.name: p.read_bytes() for p in folder.rglob("*") if p.suffix in (".png", ".yaml")}
    found["weights"] = (folder / "model.safetensors").read_bytes()
    saved = checkpoint.load(folder / "checkpoint.pt")
    found["optimizer"] = repr(saved.optimizer)
    found["epochs"] = [
        {k: v for k, v in json.loads(line).items() if k != "timing"}
        for line in (folder / "epochs.jsonl").read_text().splitlines()
    ]
    record = json.loads((folder / "evaluation.json").read_text())
    return found | {"evaluation": record["metrics"]}


def test_it_learns_the_tokens_of_each_class(make):
    """The tokens of a class are uniform over 4 of 16 codes."""
    trainer = begun(make("run", training={"epochs": 12}))
    record = trainer.run()
    first, last = (trainer.position.history[i]["test"]["bits_per_token"] for i in (0, -1))
    assert last == record["metrics"]["bits_per_token"], trainer.position.history
    assert last < 2.6 < first, trainer.position.history
    assert record["metrics"]["fixed_bits_per_token"] == 4
    codes = trainer.test[:, 2:]
    shares = np.bincount(codes[codes >= 0]) / int((codes >= 0).sum())
    entropy = -sum(share * math.log2(share) for share in shares if share)
    assert record["metrics"]["entropy_per_token"] == pytest.approx(entropy)


def test_the_record_says_what_the_bits_are(make):
    trainer = begun(make("run", training={"epochs": 1}))
    record = trainer.run()
    # 2 images of 6 tokens and 2 of 2 are held out, or 4 of either.
    images, indices = (trainer.data.splits["test"][k] for k in ("images", "indices"))
    metrics = record["metrics"]
    assert metrics["bits_per_image"] == pytest.approx(metrics["bits_per_token"] * indices / images)
    assert metrics["fixed_bits_per_image"] == 4 * indices / images
    with torch.no_grad():
        nats = trainer.eval_model(trainer.test.long()).double().sum().item()
    assert metrics["bits_per_token"] == pytest.approx(nats / indices / math.log(2))
    assert set(record["protocol"]) >= {"bits_per_token", "bits_per_image", "without_class"}
    assert json.loads((trainer.folder / "evaluation.json").read_text()) == record


def test_bits_without_class_are_those_of_dropped_labels(make):
    trainer = begun(make("run", training={"epochs": 1}))
    metrics = trainer.run()["metrics"]
    test = trainer.test.clone()
    test[:, 0] = trainer.data.vocabulary.no_class
    assert metrics["bits_per_token_without_class"] == bits(trainer.eval_model, test).bits_per_token
    assert not torch.equal(test, trainer.test)


@pytest.mark.parametrize("seen", [8, 24, 32, 48])
def test_a_stopped_run_ends_like_an_uninterrupted_one(make, tmp_path, monkeypatch, seen):
    monkeypatch.setattr(monitor, "READ_EVERY", -1.0)
    begun(make("whole", True)).run()

    class Stop(Callback):
        def on_images(self, images, means):
            if images == seen:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match=r"Continue with: rotvq prior --out .*parts --resume"):
        begun(make("parts", True)).run([Stop()])
    resumed = make("parts", True)
    assert resumed.resume() == ""
    resumed.run()
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (checkpoint, "save"),
        (checkpoint, "save_weights"),
        (run_folder, "write_epochs"),
        (trainer_module, "save_grid"),
    ],
)
def test_a_crash_between_any_two_writes_costs_nothing(make, tmp_path, monkeypatch, module, name):
    begun(make("whole", True)).run()

    def lost(*args, **kwargs):
        raise SystemError("lost")

    trainer = begun(make("parts", True))
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lost)
        with pytest.raises(SystemError, match="lost"):
            trainer.run()
    again = make("parts", True)
    again.resume()
    again.run()
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


def test_micro_batches_of_different_grids_give_the_step_of_the_whole_batch(make):
    steps = []
    for name, size in (("one", None), ("parts", 2)):
        trainer = make(name, training={"micro_batch_size": size, "precision": "fp32"})
        batch = trainer.batch(trainer.order(0), 0)
        parts = batch.split(size or len(batch))
        for part in parts:
            (trainer.loss(part) / len(parts)).backward()
        steps.append([p.grad for p in trainer.model.parameters()])
    for one, other in zip(*steps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_labels_are_dropped_in_training_alone_as_often_as_asked(make):
    trainer = make("run", prior={"drop_labels": 0.25})
    no_class = trainer.data.vocabulary.no_class
    dropped = []
    for epoch in range(40):
        trainer.position.epoch = epoch
        order = trainer.order(epoch)
        steps = [trainer.batch(order, step) for step in range(trainer.steps)]
        dropped.append(torch.cat([step[:, 0] for step in steps]) == no_class)
    assert 0.2 < torch.cat(dropped).double().mean() < 0.3
    assert not torch.equal(dropped[0], dropped[1])
    assert (trainer.train[:, 0] != no_class).all() and (trainer.test[:, 0] != no_class).all()


def test_fewer_images_than_a_batch_are_repeated(make):
    trainer = make("run", training={"batch_size": 64})
    order = trainer.order(0)
    assert trainer.steps == 1 and len(order) == 72
    assert np.bincount(order % 36).tolist() == [2] * 36


def test_sequences_are_as_long_as_those_beside_them(make):
    """Padding that no image of a batch needs takes no time and no memory."""
    trainer = make("run", training={"batch_size": 2, "precision": "fp32"})
    lengths = set()
    for step in range(trainer.steps):
        batch = trainer.batch(trainer.order(0), step)
        lengths.add(batch.shape[1])
        assert (batch >= 0).any(0).all()
        padded = F.pad(batch, (0, 8 - batch.shape[1]), value=-1)
        torch.testing.assert_close(trainer.loss(batch), trainer.loss(padded))
    assert lengths == {4, 8}


@pytest.mark.parametrize(("micro", "largest"), [(None, 8), (2, 2)])
def test_a_test_takes_no_more_images_at_a_time_than_a_step(make, monkeypatch, micro, largest):
    trainer, sizes = begun(make("run", training={"micro_batch_size": micro})), []
    monkeypatch.setattr(Prior, "forward", seen_by(sizes, Prior.forward))
    trainer.run()
    assert max(sizes) <= largest


def seen_by(sizes, forward):
    def counted(self, sequences):
        sizes.append(len(sequences))
        return forward(self, sequences)

    return counted


def test_each_scale_has_an_entropy_of_its_own(make_prior):
    """A coder of one code for each scale needs no bits; of two equally likely ones, one."""
    prior = make_prior(CODECS["multi-scale"], ((2, 2), (1, 1)))
    assert prior.vocabulary.codec.tokens_of((2, 2)) == 5
    for second, expected in (([3, 3, 3, 3], 0.0), ([3, 3, 4, 4], 4 / 5)):
        indices = prior.vocabulary.codec.in_grid(
            np.array([[[6], *([k] for k in second)]] * 3), (2, 2)
        )
        sequences = torch.from_numpy(prior.vocabulary.sequences(indices, [None] * 3))
        metrics = evaluate(prior, sequences)["metrics"]
        assert metrics["entropy_per_token"] == pytest.approx(expected)


def test_a_tokenizer_is_complete_or_saved_again(make, tmp_path, monkeypatch):
    whole = begun(make("whole", True)).folder / "tokenizer"
    for name in ("config.json", "model.safetensors"):
        trainer = begun(make(f"without {name}", True))
        trainer.lock.release()
        saved = trainer.folder / "tokenizer"
        (saved / "config.json").unlink()  # written last
        (saved / name).unlink(missing_ok=True)
        again = make(trainer.folder.name, True)
        with monkeypatch.context() as patch:
            patch.setattr(VQVAE, "save_pretrained", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                again.resume()
        again.resume()  # the folder is not locked
        assert {p.name: p.read_bytes() for p in saved.iterdir()} == {
            p.name: p.read_bytes() for p in whole.iterdir()
        }


@pytest.mark.parametrize("damage", ["link", "checkpoint"])
def test_a_refused_resume_writes_no_tokenizer(make, tmp_path, damage):
    trainer = begun(make("run"))
    trainer.run()
    other = tmp_path / "other"
    if damage == "link":
        other.mkdir()
        (other / "model.safetensors").write_text("mine")
        (trainer.folder / "tokenizer").symlink_to(other)
    else:
        (trainer.folder / "checkpoint.pt").write_bytes(b"damaged")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError):
        make("run", True).resume()
    assert sorted(tmp_path.rglob("*")) == before
    assert damage != "link" or (other / "model.safetensors").read_text() == "mine"


def test_the_folder_alone_can_be_opened(make, tokenizer):
    trainer = begun(make("run", True, training={"epochs": 1}))
    trainer.run()
    loaded = Prior.from_pretrained(trainer.folder)
    with torch.no_grad():
        assert torch.equal(
            loaded(trainer.test.long()), trainer.eval_model.eval()(trainer.test.long())
        )
    picture = trainer.folder / "samples/epoch_0001.png"
    with Image.open(picture) as opened:
        size = opened.size
    assert size == (8 * 6 + 7 * 2, 8 * 4 + 7 * 2), "8x8 samples of 4x6 pixels"
    assert (trainer.folder / "tokenizer/config.json").is_file()
    record = json.loads((trainer.folder / "run.json").read_text())
    assert record["model"]["tokens_of"] == trainer.data.vocabulary.codec.model


def test_another_models_tokens_are_refused(make, residual_tokenizer, tmp_path):
    config = make("run").config
    with pytest.raises(UserError, match=r"--model: expected the model of these tokens"):
        PriorTrainer(config, load(config.tokens), tmp_path / "run", residual_tokenizer)


def test_other_tokens_do_not_resume_a_run(make, write_tokens):
    trainer = begun(make("run", training={"epochs": 1}))
    trainer.run()
    write_tokens(grids=((2, 3), (1, 2)), seed=1)
    with pytest.raises(UserError, match="expected the run's own train images"):
        make("run").resume()


def test_evaluation_of_an_unconditional_prior_says_nothing_of_classes(make, write_tokens):
    path = write_tokens("free.npz", labels=False)
    trainer = make("run", tokens={"train": str(path)})
    record = evaluate(trainer.model, trainer.test)
    assert "bits_per_token_without_class" not in record["metrics"]
    assert "without_class" not in record["protocol"]
