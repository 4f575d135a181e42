"""Training for perceptual and adversarial losses: resumed, accumulated, recorded, checked."""

from __future__ import annotations

import json
import math
import signal
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation.classifier import Classifier, save_classifier
from rotvq.evaluation.pixels import normalized
from rotvq.training import checkpoint
from rotvq.training.adversarial import PatchDiscriminator
from rotvq.training.interrupt import Stopped
from rotvq.training.objective import Objective, total_loss
from rotvq.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("read_every_step")

NAMES = ["perceptual_loss", "adversarial_loss", "discriminator_loss"]


class Vgg(nn.Module):
    """The pixels themselves, as the network of LPIPS is called."""

    def forward(self, x: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        assert return_lpips and not resize_images
        return x.flatten(1) / 255


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The folder of an untrained classifier."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(3)
    save_classifier(folder, Classifier(2, (4, 4)), {"seed": 3})
    return folder


@pytest.fixture
def sharp(tiny, network):
    """The tiny configuration with both losses, and further options of training."""

    def make(**training):
        losses = {
            "perceptual": str(network), "perceptual_weight": 0.1, "adversarial_weight": 0.1,
            "adversarial_start": 0.1,
        }  # fmt: skip
        return tiny(training={"epochs": 2, **losses, **training})

    return make


@pytest.mark.parametrize(
    "training", [{}, {"optimizer": "muon", "schedule": "cosine", "ema_decay": 0.9}]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    tmp_path, data, sharp, begin, resumed, outcome, uninterrupted, training, interrupt_at
):
    config = sharp(**training)
    trainer = begin(config, data, tmp_path / "parts")
    for seen in (16, 48):
        with pytest.raises(Stopped):
            trainer.run(interrupt_at(images=seen, number=signal.SIGTERM))
        torch.manual_seed(12345)
        trainer = resumed(config, data, tmp_path / "parts")
    trainer.run()
    assert outcome(tmp_path / "parts") == uninterrupted(config)
    assert trainer.state.discriminator is not None


def test_epochs_record_the_losses_and_the_run_its_network(tmp_path, data, sharp, begin):
    begin(sharp(), data, tmp_path / "run").run()
    lines = (tmp_path / "run/epochs.jsonl").read_text().splitlines()
    for line in lines:
        train = json.loads(line)["train"]
        assert all(math.isfinite(train[name]) for name in NAMES)
        assert 0 < train["perceptual_loss"] < 2
    record = json.loads((tmp_path / "run/run.json").read_text())["perceptual"]
    assert (record["seed"], record["widths"]) == (3, [4, 4])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_with_the_file_of_an_lpips_network(tmp_path, make_data, sharp, begin):
    torch.jit.script(Vgg()).save(tmp_path / "vgg.pt")
    config = sharp(epochs=1, perceptual=str(tmp_path / "vgg.pt"), adversarial_weight=0.0)
    trainer = begin(config, make_data(16, 8, height=16, width=16), tmp_path / "run")
    trainer.run()
    train = trainer.position.history[0]["train"]
    # The sum of squares of pixels in [0, 1], of 3·16·16 values in [-1, 1].
    expected = train["reconstruction_loss"] * 3 * 16 * 16 / 4
    assert train["perceptual_loss"] == pytest.approx(expected, rel=1e-2)


def test_micro_batches_equal_one_batch(tmp_path, data, sharp, begin):
    found = []
    for micro in (None, 2):
        options = {"epochs": 1, "precision": "fp32", "micro_batch_size": micro}
        trainer = begin(sharp(**options), data, tmp_path / f"{micro}")
        modules = trainer.state.trained
        # Adam would hide a wrong scale of the gradient and amplify rounding errors.
        parameters = [p for module in modules for p in module.parameters()]
        trainer.state.optimizer = torch.optim.SGD(parameters, lr=0.05)
        trainer.run()
        states = [t for module in modules for t in module.state_dict().values()]
        found.append((states, trainer.position.history[0]["train"]))
    (whole, record), (parts, other) = found
    for one, another in zip(whole, parts, strict=True):
        torch.testing.assert_close(another, one, rtol=1e-4, atol=1e-6)
    for name in NAMES[:2]:
        assert other[name] == pytest.approx(record[name], rel=1e-4, abs=1e-6)


def test_a_bad_gradient_of_the_discriminator_alone_skips_the_step_of_both(
    tmp_path, data, sharp, begin, callback
):
    trainer = begin(sharp(epochs=1, precision="fp32"), data, tmp_path / "run")
    trained = [p for module in trainer.state.trained for p in module.parameters()]
    states, reported = [], []

    def poison(gradient):
        return gradient * math.nan if trainer.position.step == 2 else gradient

    next(trainer.state.discriminator.parameters()).register_hook(poison)
    seen = callback(
        on_images=lambda count, means: states.append([p.detach().clone() for p in trained]),
        on_bad_step=reported.append,
    )
    trainer.run([seen])
    assert len(reported) == 1
    assert "Step 3 was skipped" in reported[0]
    same = [all(map(torch.equal, a, b)) for a, b in pairwise(states)]
    assert same == [False, True, False, False]
    assert trainer.state.is_finite()


def test_the_discriminator_learns_to_tell_reconstructions(tmp_path, make_data, sharp, begin):
    config = sharp(epochs=6, learning_rate=0.01, adversarial_start=0.9, perceptual_weight=0.0)
    trainer = begin(config, make_data(train=48), tmp_path / "run")
    trainer.run()
    losses = [record["train"]["discriminator_loss"] for record in trainer.position.history]
    assert losses[-2] < 0.8 * losses[0]


@pytest.mark.parametrize("options", [{}, {"optimizer": "muon"}])
def test_a_run_without_these_losses_has_no_trace_of_them(tmp_path, data, tiny, begin, options):
    trainer = begin(tiny(training={"epochs": 1, **options}), data, tmp_path / "run")
    trainer.run()
    saved = checkpoint.load(tmp_path / "run/checkpoint.pt")
    assert saved.discriminator is None
    assert saved.totals.keys() == {"sums", "moments", "counts"}
    assert len(trainer.state.optimizer.param_groups) == (2 if options else 1)
    assert "perceptual" not in json.loads((tmp_path / "run/run.json").read_text())
    assert not {*NAMES} & trainer.position.history[0]["train"].keys()


def test_a_checkpoint_without_the_discriminator_is_refused(
    tmp_path, data, tiny, sharp, begin, resumed
):
    begin(sharp(perceptual_weight=0.0), data, tmp_path / "run").run()
    path = tmp_path / "run/checkpoint.pt"
    saved = checkpoint.load(path)
    checkpoint.save(path, checkpoint.Checkpoint(**{**vars(saved), "discriminator": None}))
    with pytest.raises(UserError, match=r"another model or was altered \(discriminator"):
        resumed(sharp(perceptual_weight=0.0), data, tmp_path / "run")


def test_another_network_than_at_the_start_is_refused(
    tmp_path, data, sharp, begin, resumed, interrupt_at
):
    network = tmp_path / "network"
    network.mkdir()
    save_classifier(network, Classifier(2, (4, 4)), {})
    config = sharp(perceptual=str(network))
    with pytest.raises(Stopped):
        begin(config, data, tmp_path / "run").run(interrupt_at(images=8))
    save_classifier(network, Classifier(2, (4, 4)), {})
    with pytest.raises(UserError, match=r"training\.perceptual: expected the network that the run"):
        resumed(config, data, tmp_path / "run")


def test_images_too_small_for_the_network_are_refused(tmp_path, make_data, sharp):
    large = tmp_path / "large"
    large.mkdir()
    save_classifier(large, Classifier(2, (4, 4, 4, 4)), {})
    with pytest.raises(UserError, match="expected images of 16 pixels or more a side; got 8x8"):
        Trainer(sharp(perceptual=str(large)), make_data(), tmp_path / "run")


def test_the_total_is_the_weighted_sum(tiny, make_data):
    from rotvq.training.build import build_model

    torch.manual_seed(0)
    config = tiny(training={"pixel_loss": "l1", "perceptual_weight": 2.0, "perceptual": "x",
                            "adversarial_weight": 3.0, "adversarial_start": 0.5})  # fmt: skip
    x = normalized(torch.from_numpy(make_data().train.images[:4]))
    output, losses = Objective(build_model(config), None, PatchDiscriminator())(x)
    losses["perceptual_loss"] = torch.tensor(0.7)
    error = (output.reconstruction - x).abs().mean()
    base = error + output.codebook_loss + 0.25 * output.commitment_loss
    expected = base + 2 * 0.7 + losses["discriminator_loss"]
    options = config.training
    torch.testing.assert_close(total_loss(output, losses, x, options, 0.4), expected)
    torch.testing.assert_close(
        total_loss(output, losses, x, options, 0.55), expected + 1.5 * losses["adversarial_loss"]
    )
