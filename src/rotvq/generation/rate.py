"""The bits of tokens under a prior, as a cost that a search for tokens lowers with the error.

Symbols: λ, the error that a bit is worth; p, the prior; h_t, the gradient of an image's bits with
respect to the embedding of token t; E_k, the embedding of code k.

Code k at position t costs λ(−log₂ p(k | tokens before t) + h_t·E_k). The first part is exact; the
second is what k changes in the bits of the tokens after t, to first order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.generation.prior import Prior
from rotvq.generation.vocabulary import PREFIX
from rotvq.model import VQVAE
from rotvq.model.objective import Costs
from rotvq.tokens.collection import Tokens
from rotvq.tokens.model_codec import codec


class PriorRate:
    """λ times the bits of tokens under a prior, with no class given.

    Args:
        prior: on the device of the model; in evaluation mode during calls.
        model: of the tokens.
        weight: λ, in units of the error per bit.

    Raises:
        UserError: the prior is of the tokens of another model, or the weight is not a finite
            number, 0 or more.
    """

    def __init__(self, prior: Prior, model: VQVAE, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise UserError(f"rate weight: expected a finite number, 0 or more; got {weight}.")
        own, found = prior.vocabulary.codec, codec(model)
        if own != found:
            raise UserError(
                f"prior: expected one over the tokens of {found}; got one over those of {own}. "
                "Train a prior on tokens of this model."
            )
        self.prior, self.weight = prior, weight

    def bits(self, tokens: Tokens, batch_size: int = 128) -> float:
        """The mean bits of images.

        Args:
            tokens: of the model.
            batch_size: images at a time.

        Raises:
            UserError: the tokens are of another model or lack levels, or the prior was not trained
                on images of their grids.
        """
        own, found = self.prior.vocabulary.codec, tokens.codec
        if own != found:
            raise UserError(
                f"tokens: expected tokens of {own}; got tokens of {found}. Encode the images with "
                "that model and all of its codebooks."
            )
        nats, device = 0.0, next(self.prior.parameters()).device
        with evaluating(self.prior), torch.no_grad():
            for _, indices in tokens.batches(batch_size):
                some = self.prior.vocabulary.sequences(indices, [None] * len(indices))
                nats += self.prior(torch.from_numpy(some).to(device)).double().sum().item()
        return nats / math.log(2) / len(tokens)

    def __call__(self, indices: Int64[Tensor, "b s h w"]) -> tuple[Float[Tensor, " b"], Costs]:
        """The cost of each image, and of each code.

        Raises:
            UserError: the prior was not trained on images of this grid.
        """
        b, s, h, w = indices.shape
        vocabulary = self.prior.vocabulary
        rows = indices.movedim(1, 3).reshape(b, h, w, *vocabulary.codec.index_shape)
        sequences = torch.from_numpy(vocabulary.sequences(rows.cpu().numpy(), [None] * b))
        with evaluating(self.prior), torch.enable_grad():
            embedded = self.prior.embedded(sequences.to(indices.device)).detach().requires_grad_()
            unit = -self.weight / math.log(2)
            now = [unit * F.log_softmax(z.float(), 2) for z in self.prior.logits(embedded)]
            pairs = zip(now, indices.flatten(2).unsqueeze(3).unbind(1), strict=True)
            cost = torch.stack([each.gather(2, k).sum((1, 2)) for each, k in pairs]).sum(0)
            (slope,) = torch.autograd.grad(cost.sum(), embedded)
        # Nothing follows the last index.
        slope = F.pad(slope[:, PREFIX:], (0, 0, 0, 1))
        table = self.prior.network.model.embed_tokens.weight.detach()
        costs = (
            each.detach() + slope[:, level::s] @ table[codes.start : codes.stop].T
            for level, (each, codes) in enumerate(zip(now, vocabulary.codes, strict=True))
        )
        return cost.detach(), tuple(each.view(b, h, w, -1) for each in costs)
