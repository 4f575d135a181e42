"""New images from a prior, and the rest of images whose first tokens are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.generation.config import Sampling
from rotvq.generation.prior import Prior
from rotvq.generation.vocabulary import PREFIX, Grid, Vocabulary
from rotvq.tokens.collection import Packer, Size, Tokens


def sample(
    prior: Prior,
    labels: Sequence[int | str | None],
    sampling: Sampling | None = None,
    *,
    grid: Grid | None = None,
    size: Size | None = None,
    given: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    progress: Callable[[int], object] = lambda images: None,
    step: Callable[[], object] = lambda: None,
) -> Tokens:
    """Draw the tokens of new images, one for each label.

    Args:
        prior: on any device; in evaluation mode during the call.
        labels: class of each image, by number or name; None for no given class.
        sampling: how to draw; None for the defaults.
        grid: rows and columns of tokens; None for the most frequent ones in training.
        size: height and width of the images in pixels; None for those that the grid covers.
        given: the first tokens of each image in the order of the prior, integers of shape
            (n, tokens, indices of a token), to be completed; None for none.
        batch_size: images at a time.
        progress: called after each batch with its number of images.
        step: called before each index; an exception of it ends the sampling.

    Returns:
        Tokens of the model that the prior's tokens come from, with the labels.

    Raises:
        UserError: the prior has no such class, grid or given tokens; the size is of another grid;
            guidance without a class, or by a prior that has not learned it; or a batch size below
            1.
    """
    sampling, vocabulary = sampling or Sampling(), prior.vocabulary
    if batch_size < 1:
        raise UserError(f"batch_size: expected 1 or more; got {batch_size}.")
    grid = (*grid,) if grid else vocabulary.grids[0]
    vocabulary.check_grid(grid)
    numbers = [None if label is None else vocabulary.label(label) for label in labels]
    if given is not None:
        given = np.asarray(given)
        _check_given(vocabulary, grid, given, len(labels))
        given = given.astype(np.int64)
    if sampling.guidance != 1:
        _check_guidance(prior, numbers, sampling.guidance)
    packer = Packer(vocabulary.codec, vocabulary.names)
    size = size or (grid[0] * vocabulary.codec.stride, grid[1] * vocabulary.codec.stride)
    vocabulary.codec.check_size(grid, size)
    device = next(prior.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with evaluating(prior), torch.random.fork_rng(devices), torch.no_grad():
        for start in range(0, len(numbers), batch_size):
            these = numbers[start : start + batch_size]
            prefix = None if given is None else given[start : start + batch_size]
            prompt = torch.from_numpy(_prompt(vocabulary, these, grid, prefix)).to(device)
            # Each batch has a seed of its own, so that later images do not depend on earlier ones.
            seed = np.random.SeedSequence([sampling.seed, start]).generate_state(1)
            torch.manual_seed(int(seed[0]))
            drawn = _draw(prior, prompt, grid, sampling, step)
            packer.add(vocabulary.indices(drawn, grid), size, labels=these)
            progress(len(these))
    return packer.tokens()


def _check_given(vocabulary: Vocabulary, grid: Grid, given: NDArray[Any], images: int) -> None:
    most, sizes = vocabulary.codec.tokens_of(grid), vocabulary.codec.codebook_sizes
    fits = given.ndim == 3 and given.shape[0] == images and given.shape[2] == len(sizes)
    if not fits or given.shape[1] > most or given.dtype.kind not in "iu":
        raise UserError(
            f"given: expected integers of shape ({images}, tokens, {len(sizes)}) with at most "
            f"{most} tokens; got {given.dtype} of shape {given.shape}. Repeat the tokens of one "
            f"image with np.repeat(given, {images}, 0)."
        )
    if given.size and not ((given >= 0) & (given < np.array(sizes))).all():
        raise UserError(
            f"given: expected indices from 0 to below {', '.join(map(str, sizes))}; got "
            f"{given.min()} to {given.max()}. Pass tokens of the model that the prior knows."
        )


def _check_guidance(prior: Prior, labels: Sequence[int | None], guidance: float) -> None:
    if all(label is None for label in labels):
        raise UserError(f"guidance: expected 1 where no class is given; got {guidance:g}.")
    if not prior.config.drop_labels:
        raise UserError(
            "guidance: expected 1, because this prior was trained with the label of every image; "
            f"got {guidance:g}. Train one with --prior.drop_labels above 0."
        )


def _prompt(
    vocabulary: Vocabulary,
    labels: Sequence[int | None],
    grid: Grid,
    given: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    """The class, the grid and the given tokens of each image."""
    anything = np.zeros((len(labels), *grid, *vocabulary.codec.index_shape), np.int64)
    prefix = vocabulary.sequences(anything, labels)[:, :PREFIX]
    if given is None:
        return prefix
    starts = np.array([codes.start for codes in vocabulary.codes])
    return np.concatenate([prefix, (given + starts).reshape(len(labels), -1)], 1)


def _draw(
    prior: Prior,
    prompt: Int64[Tensor, "n t"],
    grid: Grid,
    sampling: Sampling,
    step: Callable[[], object],
) -> NDArray[np.int64]:
    """Complete the sequences."""
    left = PREFIX + prior.vocabulary.length(grid) - prompt.shape[1]
    if not left:
        return prompt.cpu().numpy()
    free = prompt.clone()
    free[:, 0] = prior.vocabulary.no_class
    generation = GenerationConfig(
        do_sample=True,
        guidance_scale=float(sampling.guidance),
        temperature=float(sampling.temperature),
        top_k=sampling.top_k,
        top_p=float(sampling.top_p),
        max_new_tokens=left,
        pad_token_id=0,
    )
    drawn = prior.network.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        negative_prompt_ids=free,
        generation_config=generation,
        logits_processor=LogitsProcessorList([_next_code(prior.vocabulary.codes, step)]),
    )
    return drawn.cpu().numpy()


def _next_code(
    codes: Sequence[range], step: Callable[[], object]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Calls `step`, and keeps the logits of the codes of the next index alone."""

    def processor(
        input_ids: Int64[Tensor, "n t"], scores: Float[Tensor, "n v"]
    ) -> Float[Tensor, "n v"]:
        step()
        these = codes[(input_ids.shape[1] - PREFIX) % len(codes)]
        own = slice(these.start, these.stop)
        result = torch.full_like(scores, -torch.inf)
        result[:, own] = scores[:, own]
        return result

    return processor
