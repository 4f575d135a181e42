"""The training of a tokenizer, from its start to its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rotvq import run_folder
from rotvq.data_processing import ImageData, skipped
from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluate
from rotvq.evaluation.metrics import Means
from rotvq.evaluation.pixels import normalized
from rotvq.files import write_json
from rotvq.model import VQVAE, pretrained
from rotvq.model.levels import number_of_bits, number_of_tokens
from rotvq.training import codebooks, starting_point
from rotvq.training.adversarial import PENALIZE_EVERY
from rotvq.training.build import build_model
from rotvq.training.codebooks import health_of
from rotvq.training.config import Config
from rotvq.training.epoch import epoch_record
from rotvq.training.folder import read_config
from rotvq.training.images import limited, load_images, sizes
from rotvq.training.lifecycle import Lifecycle
from rotvq.training.objective import build_objective, total_loss
from rotvq.training.pictures import fixed_images, save_reconstructions
from rotvq.training.record import facts
from rotvq.training.samples import Samples
from rotvq.training.schedule import linear
from rotvq.training.totals import TrainingTotals


class Trainer(Lifecycle[VQVAE, TrainingTotals]):
    """A run that trains a tokenizer: `begin` or `resume` it, then `run` it to the end.

    Args:
        config: configuration of the run.
        data: images in memory.
        folder: the run folder. Nothing is written before `begin` or `resume`.

    Raises:
        UserError: configuration, data and processes do not fit together.
    """

    def __init__(self, config: Config, data: ImageData, folder: str | Path) -> None:
        _check_effort(config)
        super().__init__(config, folder)
        options = config.training
        self.data = data
        self.images = load_images(config, data, self.device)
        split = limited(data.train, config.data.train_images)
        self.samples = Samples(
            self.images.train, split, options.batch_size, options.seed, config.data.random_flip
        )
        self.steps = len(self.samples) // options.batch_size
        torch.manual_seed(options.seed)
        model = build_model(config).to(self.device)
        # One codebook update per optimizer step, however many micro-batches there are.
        model.quantizer.defer_update = True
        objective, self.perceptual = build_objective(model, config, self.samples.sides)
        quantizer = model.quantizer
        totals = TrainingTotals(
            objective.names, quantizer.codebook_sizes, quantizer.dim, self.device
        )
        parts = [model.encoder, model.decoder]
        self._start(model, parts, totals, objective, objective.discriminator)

    def order(self, epoch: int) -> Tensor:
        """The numbers of an epoch's samples, shuffled."""
        return self.samples.order(epoch)

    def batch(self, order: Tensor, step: int, own: slice = slice(None)) -> Tensor:
        """The images of a step of the current epoch, or this process's own part of them."""
        size = self.options.batch_size
        numbers = order[step * size : (step + 1) * size][own]
        return self.samples.take(numbers, self.position.epoch).to(self.device)

    def before_step(self, order: Tensor, progress: float) -> None:
        """Set the decay of the codebooks, and initialize their codes from data if requested."""
        decay = self.config.quantizer
        for codebook in self.model.quantizer.codebooks:
            codebook.decay = linear(decay.decay, decay.final_decay, progress)
        if not self._placed:
            self.place_codes(order)

    def place_codes(self, order: Tensor) -> None:
        """Initialize the codes from the first images of an epoch in this order."""
        options = self.config.training
        number = codebooks.images_to_start_from(self.model, self.samples, options.batch_size)
        images = self.samples.take(order[:number], self.position.epoch).to(self.device)
        size = options.micro_batch_size or self.share
        codebooks.place_codes(self.model, images, size, self.accelerator, self.autocast)

    def loss(self, samples: Tensor) -> Tensor:
        """The mean loss of images: eq. 7 plus the additional losses."""
        options, images = self.config.training, self.position.images
        progress = images / (options.epochs * self.images_per_epoch)
        x = normalized(samples)
        tokens = self.model.encode(x, effort=options.effort) if options.effort else None
        penalize = images // options.batch_size % PENALIZE_EVERY == 0
        with self.autocast():
            output, losses = self.wrapped(x, tokens, penalize)
        loss = total_loss(output, losses, x, options, progress)
        self.state.totals.add_all(output, losses, loss.isfinite())
        return loss

    def after_step(self) -> None:
        """Update the codebooks from all micro-batches of the step."""
        if not self.config.training.effort:  # only the gradient moves codes that were searched for
            self.model.quantizer.update_codebook()

    @property
    def repeatable(self) -> bool:
        """Whether all steps launch the same kernels, and never wait for the device."""
        if self.device.type != "cuda" or self.accelerator.num_processes > 1:
            return False
        options = self.config.training
        varies = options.effort or options.adversarial_weight or self.config.quantizer.dropout
        # LPIPS is a TorchScript program, which compiles itself as it runs.
        scripted = any(isinstance(m, torch.jit.ScriptModule) for m in self.wrapped.modules())
        return not varies and not scripted and self._placed

    @property
    def _placed(self) -> bool:
        return all(codebook.ready for codebook in self.model.quantizer.codebooks)

    def means(self) -> Means:
        """Means over the images of the epoch so far."""
        return self.state.totals.means(self.config.training.beta)

    def epoch_record(self) -> dict[str, Any]:
        """The record of the epoch that ends now."""
        return epoch_record(self.state, self.config, self.images.val)

    def draw(self) -> None:
        """Write the picture of the epoch's reconstructions."""
        picture = self.folder / run_folder.reconstruction(self.position.epoch)
        save_reconstructions(picture, self.eval_model, fixed_images(self.images.val))

    def facts(self) -> dict[str, Any]:
        """The health of the codebook."""
        return {"codebook": health_of(self.model)}

    def _read_config(self) -> Config:
        return read_config(self.folder)

    def _load_start(self) -> dict[str, str] | None:
        name = self.config.training.init_from
        if name is None:
            return None
        start = starting_point.load(name, self.config)
        for model in (self.model, self.eval_model):
            model.load_state_dict(start.weights)
        return start.record

    def _describe(self, command: str, start: dict[str, str] | None = None) -> None:
        if self.config.quantizer.final_decay is not None:  # the model is described as trained
            for codebook in self.model.quantizer.codebooks:
                codebook.decay = self.config.quantizer.final_decay
        model = self.model
        height, width = self.images.test.shape[2:]
        grid = height // model.stride, width // model.stride
        bits = number_of_bits(model.quantizer, grid)
        notes = [*self.data.notes, self.samples.note] if self.samples.note else [*self.data.notes]
        record = facts(self.device, self.precision, command) | {
            "from": start,
            "data": {
                "name": self.data.name,
                "source": self.config.data.source,
                "notes": notes,
                **self._splits(),
            },
            "model": {
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens": number_of_tokens(model.quantizer, grid),
                "bits_per_image": bits,
                "bits_per_pixel": bits / (height * width),
            },
        }
        if self.perceptual:
            record["perceptual"] = dict(self.perceptual)
        # The folder of a run can be loaded as a saved model too.
        write_json(self.folder / run_folder.MODEL, pretrained.describe(model))
        write_json(self.folder / run_folder.RUN, record)
        skipped.write(self.folder / run_folder.SKIPPED, self.data.skipped)

    def _check_resumed(self) -> None:
        if self.perceptual is None:
            return
        before = run_folder.read_record(self.folder, run_folder.RUN).get("perceptual")
        weights = before.get("weights") if isinstance(before, dict) else None
        if weights != self.perceptual["weights"]:
            raise UserError(
                f"training.perceptual: expected the network that the run in {self.folder} started "
                f"with (SHA-256 {str(weights)[:12]}); got {self.perceptual['weights'][:12]} in "
                f"{self.perceptual['source']}. Restore that network, or pass --overwrite."
            )

    def _splits(self) -> dict[str, Any]:
        return sizes(self.images.splits) | self.samples.record

    def _evaluate(self) -> dict[str, Any]:
        options = self.config.training
        size = min(128, options.micro_batch_size or self.share)
        return evaluate(self.eval_model, self.images.test, beta=options.beta, batch_size=size)


def _check_effort(config: Config) -> None:
    """Check that codes can learn from tokens that are searched for.

    Raises:
        UserError: they are means of the vectors nearest to them, or quantizer dropout is on.
    """
    effort, codes = config.training.effort, config.quantizer
    if effort and codes.dropout:
        raise UserError(
            "training.effort: expected 0 with --quantizer.dropout, because the search finds tokens "
            f"of all levels; got {effort}. Pass --quantizer.dropout 0."
        )
    learned = codes.levels is None and codes.codes == "learned"
    if effort and learned and codes.update == "ema":
        raise UserError(
            f"training.effort: expected 0 with --quantizer.update ema, whose codes are means of "
            f"the vectors nearest to them; got {effort}. Pass --quantizer.update gradient."
        )
