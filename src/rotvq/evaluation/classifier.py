"""A small image classifier, trained by rotvq, whose features measure reconstructions.

A narrow relative of ResNet-9 (Page 2018, "How to train your ResNet"): each stage is a convolution,
a max-pooling and a residual block; a mean over pixels and a linear layer follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import batches, evaluating
from rotvq.evaluation.pixels import normalized
from rotvq.files import write_bytes, write_json
from rotvq.guarded import read_bytes, read_json

FORMAT = 1
WEIGHTS, RECORD = "classifier.safetensors", "classifier.json"
WIDTHS = (32, 64, 128)
CLASSES = 2**16  # at most
LARGEST = 2**26
"""Maximum bytes of weights; the default takes about 2 MB."""
CROP = 4
PEAK_RATE, MOMENTUM, WEIGHT_DECAY, SMOOTHING = 0.2, 0.9, 5e-4, 0.1


class Classifier(nn.Module):
    """Images to classes, by way of one feature vector per image.

    Args:
        classes: number of classes.
        widths: channels of the stages, each of which halves height and width; the last is the
            number of features.

    Raises:
        UserError: a size below 1.
    """

    def __init__(self, classes: int = 10, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        if min(classes, *widths, len(widths)) < 1:
            raise UserError(
                f"classifier: expected classes and widths of 1 or more; got {classes} and "
                f"{tuple(widths)}."
            )
        self.classes, self.widths = classes, tuple(widths)
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in pairwise((3, *widths))))
        self.head = nn.Linear(widths[-1], classes)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Means over pixels of the last stage, float32, each 0 or more.

        Args:
            x: images in [-1, 1], at least 2**len(widths) pixels high and wide.

        Raises:
            UserError: images of another shape.
        """
        smallest = 2 ** len(self.widths)
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < smallest:
            raise UserError(
                f"images: expected (b, 3, h, w) with h and w of {smallest} or more; got "
                f"{tuple(x.shape)}. The classifier is for color images."
            )
        pooled: Tensor = self.stages(x).float().mean((2, 3))
        return pooled

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """Logits. Arguments and errors as in `features`."""
        logits: Tensor = self.head(self.features(x))
        return logits


class _Stage(nn.Module):
    """Convolution, max-pooling, and two convolutions with a skip connection."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.down = nn.Sequential(*_convolution(before, after), nn.MaxPool2d(2))
        self.residual = nn.Sequential(*_convolution(after, after), *_convolution(after, after))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.residual(x)


def _convolution(before: int, after: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)


def train_classifier(
    images: UInt8[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"],
    *,
    seed: int,
    epochs: int = 8,
    widths: Sequence[int] = WIDTHS,
    batch_size: int = 256,
    precision: torch.dtype = torch.float32,
    device: torch.device | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> Classifier:
    """Train a classifier on the given images alone; no epoch is selected.

    SGD with Nesterov momentum, a one-cycle learning rate (Smith & Topin 2017), label smoothing,
    flips and shifts of up to 4 pixels. On a CPU the same arguments, versions and number of
    threads give the same weights bit for bit. Each epoch drops an incomplete last batch, of
    different images each time.

    Args:
        images: uint8, at least 2.
        labels: int64 in [0, classes); the largest decides `classes`.
        seed: seed of weights, order and augmentation; the global generator does not change.
        epochs: passes over the images, 1 or more.
        widths: as in `Classifier`.
        batch_size: images per step, 2 or more.
        precision: autocast precision (float32 disables it); the weights are always float32.
        device: to train on; None for that of the images.
        progress: called after each step with its number of images.

    Raises:
        UserError: too few images, labels that do not fit them, epochs or batch_size too small.
    """
    if not (len(images) == len(labels) > 1 and 0 <= labels.min() <= labels.max() < CLASSES):
        raise UserError(
            f"labels: expected one of 0 to {CLASSES - 1} for each of at least 2 images; got "
            f"{len(labels)} labels for {len(images)} images. Use a dataset with labels."
        )
    if epochs < 1 or batch_size < 2:
        raise UserError(
            f"classifier: expected epochs >= 1 and batch_size >= 2; got {epochs} and {batch_size}."
        )
    device = device or images.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier(int(labels.max()) + 1, widths)
    classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch_size = min(batch_size, len(images))
    steps = epochs * (len(images) // batch_size)
    optimizer = _optimizer(classifier, batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cycle(step, steps))
    generator = torch.Generator().manual_seed(seed)
    for chosen in _order(len(images), batch_size, epochs, generator):
        some = images[chosen.to(images.device)]
        x = normalized(augmented(some, generator).to(device))
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = classifier(x)
        own = labels[chosen.to(labels.device)].to(device)
        loss = F.cross_entropy(logits.float(), own, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        progress(len(chosen))
    return classifier.eval()


def augmented(images: UInt8[Tensor, "b c h w"], generator: torch.Generator) -> Tensor:
    """Each image shifted by up to 4 pixels, borders mirrored, and flipped with probability 1/2.

    Args:
        images: uint8.
        generator: a generator on the CPU.
    """
    n, _, height, width = images.shape
    rows, columns = (_shifted(n, size, generator) for size in (height, width))
    flips = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flips, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    each = torch.arange(n, device=images.device)[:, None, None]
    return images.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(
    classifier: Classifier,
    images: UInt8[Tensor, "n 3 h w"],
    labels: Int64[Tensor, " n"],
    batch_size: int = 256,
) -> float:
    """Share of the images whose class is predicted correctly, in float32 and evaluation mode."""
    with evaluating(classifier):
        each = batches(images, batch_size, classifier)
        predicted = torch.cat([classifier(x).argmax(1) for x in each])
    return (predicted == labels.to(predicted.device)).double().mean().item()


def save_classifier(folder: Path, classifier: Classifier, record: Mapping[str, Any]) -> None:
    """Write `classifier.safetensors` and `classifier.json` into an existing folder.

    Args:
        folder: folder to write to.
        classifier: its classes, widths and the SHA-256 of its weights are added to the record.
        record: how it was trained: seed, epochs, test accuracy, fingerprint of the data, seconds.
    """
    state = {name: t.detach().cpu().contiguous() for name, t in classifier.state_dict().items()}
    weights = save_tensors(state)
    own = {
        "format": FORMAT,
        "classes": classifier.classes,
        "widths": list(classifier.widths),
        "weights": hashlib.sha256(weights).hexdigest(),
    }
    write_bytes(folder / WEIGHTS, weights)
    write_json(folder / RECORD, {**record, **own})


def load_classifier(folder: Path) -> Classifier:
    """Load a classifier, on the CPU and in evaluation mode.

    Raises:
        UserError: a file is missing or damaged, the files do not belong together, or they have
            another version or architecture.
    """
    try:
        record = read_json(folder / RECORD)
        weights = read_bytes(folder / WEIGHTS, LARGEST)
        if record["format"] != FORMAT or hashlib.sha256(weights).hexdigest() != record["weights"]:
            raise ValueError("of another version, or changed since")
        described = record["classes"], record["widths"]
        with torch.device("meta"):  # takes no memory, whatever the record says
            parameters = sum(p.numel() for p in Classifier(*described).parameters())
        if 4 * parameters > len(weights):
            raise ValueError("of another architecture")
        classifier = Classifier(*described)
        classifier.load_state_dict(load_tensors(weights))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise UserError(
            f"{folder}: expected {WEIGHTS} and {RECORD} of one classifier of this version; "
            f"{'one is missing' if missing else 'they are damaged or of another'}. Train the "
            "classifier again."
        ) from None
    return classifier.eval()


def has_classes(folder: Path, number: int, names: Sequence[str]) -> bool:
    """Whether a saved classifier has these classes: as many, with the same names if both have any.

    Args:
        folder: the saved classifier.
        number: number of classes.
        names: their names; empty if they have none.
    """
    record = read_json(folder / RECORD)
    own = record.get("class_names")
    return bool(record["classes"] == number and (not own or not names or own == [*names]))


def describe_classifier(folder: Path) -> dict[str, Any]:
    """How records describe a classifier: its weights, and how it was trained."""
    kept = ("weights", "widths", "seed", "epochs", "accuracy", "data", "train_fingerprint")
    record = read_json(folder / RECORD)
    return {key: record[key] for key in kept if key in record}


def _optimizer(classifier: Classifier, batch_size: int) -> torch.optim.Optimizer:
    """SGD with a learning rate proportional to the batch; biases and norms do not decay."""
    parameters = list(classifier.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=PEAK_RATE * batch_size / 256, momentum=MOMENTUM, nesterov=True
    )


def _cycle(step: int, steps: int) -> float:
    """Linear warmup over the first quarter of the steps, then linear decay to 0."""
    done = (step + 0.5) / steps
    return done / 0.25 if done < 0.25 else max(0.0, (1 - done) / 0.75)


def _order(n: int, batch_size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of each step's images: a new permutation each epoch, whole batches only."""
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)
        yield from order[: n - n % batch_size].split(batch_size)


def _shifted(n: int, size: int, generator: torch.Generator) -> Int64[Tensor, "n size"]:
    """The source of each pixel along one axis, for each of n images."""
    reach = min(CROP, size - 1)
    offset = torch.randint(-reach, reach + 1, (n, 1), generator=generator)
    source = (offset + torch.arange(size)).abs()
    return torch.where(source < size, source, 2 * (size - 1) - source)
