"""The training of a prior, from its start to its evaluation."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rotvq import run_folder
from rotvq.data_processing import epoch_order
from rotvq.files import write_json
from rotvq.generation.config import PriorConfig
from rotvq.generation.data import PriorData
from rotvq.generation.evaluation import bits, evaluate, trimmed
from rotvq.generation.folder import picture, read_config
from rotvq.generation.pictures import save_grid
from rotvq.generation.prior import Prior
from rotvq.generation.sampling import sample
from rotvq.generation.totals import Means, Totals
from rotvq.generation.vocabulary import PREFIX
from rotvq.guarded import check_not_linked
from rotvq.model import VQVAE
from rotvq.tokens.coding import decode
from rotvq.tokens.model_codec import check_model
from rotvq.training.epoch import is_due
from rotvq.training.lifecycle import Lifecycle
from rotvq.training.record import facts
from rotvq.training.samples import drawn

SAMPLES = 64
"""Images in the picture of an epoch."""


class PriorTrainer(Lifecycle[Prior, Totals]):
    """A run that trains a prior: `begin` or `resume` it, then `run` it to the end.

    Args:
        config: of the run.
        data: tokens in memory.
        folder: of the run. Nothing is written before `begin` or `resume`.
        tokenizer: the model of the tokens, on any device. It is saved with the run, and draws
            samples after each epoch; None for neither.

    Raises:
        UserError: configuration and processes do not fit together, or the tokens are not the
            tokenizer's.
    """

    command = "prior"

    def __init__(
        self,
        config: PriorConfig,
        data: PriorData,
        folder: str | Path,
        tokenizer: VQVAE | None = None,
    ) -> None:
        super().__init__(config, folder)
        if tokenizer is not None:
            check_model(tokenizer, data.vocabulary.codec, "--model")
        self.data, self.tokenizer = data, tokenizer
        self.train, self.test = torch.from_numpy(data.train), torch.from_numpy(data.test)
        options = config.training
        # Fewer images than a batch are repeated.
        self.samples = len(self.train) * -(-options.batch_size // len(self.train))
        self.steps = self.samples // options.batch_size
        torch.manual_seed(options.seed)
        prior = Prior(data.vocabulary, config.prior).to(self.device)
        totals = Totals(data.vocabulary.indices_of_token, self.device)
        self._start(prior, [prior.layers], totals)

    def order(self, epoch: int) -> Tensor:
        """The numbers of an epoch's images, shuffled."""
        return torch.from_numpy(epoch_order(self.samples, self.options.seed, epoch))

    def batch(self, order: Tensor, step: int, own: slice = slice(None)) -> Tensor:
        """The sequences of a step, some without their class, or this process's own part of them."""
        size = self.options.batch_size
        numbers = order[step * size : (step + 1) * size][own]
        sequences = trimmed(self.train[numbers % len(self.train)]).long()
        share, seed = self.config.prior.drop_labels, self.options.seed
        dropped = drawn(share, self.samples, seed, self.position.epoch)[numbers]
        sequences[dropped, 0] = self.data.vocabulary.no_class
        return sequences.to(self.device)

    def loss(self, samples: Tensor) -> Tensor:
        """The negative log-likelihood in nats over the number of tokens, all images padded.

        Each token therefore counts the same, however the batch is split.
        """
        with self.autocast():
            nats = self.wrapped(samples)
        longest = self.train.shape[1] - PREFIX
        tokens = len(samples) * longest // self.data.vocabulary.indices_of_token
        loss: Tensor = nats.sum() / tokens
        self.state.totals.add(nats, samples[:, PREFIX:] >= 0, loss.isfinite())
        return loss

    def means(self) -> Means:
        """Means over the images of the epoch so far."""
        return self.state.totals.means()

    def epoch_record(self) -> dict[str, Any]:
        """Means over the epoch, the test pass if it is due, and timing."""
        options, at = self.options, self.position
        since = time.perf_counter()
        tested = is_due(options.test_every, at.epoch + 1, options.epochs)
        record: dict[str, Any] = {
            "epoch": at.epoch + 1,
            "images": at.images,
            "train": asdict(self.means()),
            "test": asdict(bits(self.eval_model, self.test, self._test_batch)) if tested else {},
            "timing": {
                "train_seconds": round(at.seconds, 3),
                "test_seconds": round(time.perf_counter() - since, 3),
                "images_per_second": round(at.step * options.batch_size / at.seconds, 1),
            },
        }
        return record | ({"bad_steps": at.bad.total} if at.bad.total else {})

    def draw(self) -> None:
        """Write the picture of the epoch's samples, of one class after the other."""
        if self.tokenizer is None:
            return
        classes = len(self.data.vocabulary.classes)
        labels = [i % classes if classes else None for i in range(SAMPLES)]
        tokens = sample(self.eval_model, labels)
        path = self.folder / picture(self.position.epoch)
        path.parent.mkdir(exist_ok=True)
        save_grid(path, [pixels for _, pixels in decode(self.tokenizer, tokens)])

    def _read_config(self) -> PriorConfig:
        return read_config(self.folder)

    def _complete(self) -> None:
        folder = self.folder / run_folder.TOKENIZER
        check_not_linked(folder)
        if self.tokenizer is not None and not run_folder.has_tokenizer(self.folder):
            self.tokenizer.save_pretrained(folder)

    def _describe(self, command: str, start: dict[str, str] | None = None) -> None:
        write_json(self.folder / run_folder.MODEL, self.model.describe())
        self._complete()
        record = facts(self.device, self.precision, command) | {
            "data": {
                "name": Path(self.config.tokens.train).name,
                "train_tokens": self.config.tokens.train,
                "test_tokens": self.config.tokens.test,
                "notes": [*self.data.notes],
                **self.data.splits,
            },
            "model": {
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "tokens_of": self.data.vocabulary.codec.model,
            },
        }
        write_json(self.folder / run_folder.RUN, record)

    def _splits(self) -> dict[str, Any]:
        return self.data.splits

    def _evaluate(self) -> dict[str, Any]:
        return evaluate(self.eval_model, self.test, batch_size=self._test_batch)

    @property
    def _test_batch(self) -> int:
        """Images that fit into memory, as they do in training."""
        return min(256, self.options.micro_batch_size or self.share)
