"""The bits of tokens under a prior, as a cost that a search for tokens adds to the error.

Symbols: λ, the error that a bit is worth; p, the prior; h_t, the gradient of an image's bits with
respect to the embedding of token t; E_k, the embedding of code k.

Code k at position t costs λ(−log₂ p(k | tokens before t) + h_t·E_k). The first part is exact. The
second one is how the bits of the tokens after t change, to first order.
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
from rotvq.model.objective import Costs


class PriorRate:
    """λ times the bits of tokens under a prior, with no class given.

    Args:
        prior: on the device of the tokens; in evaluation mode during calls.
        weight: λ, in units of the error per bit.

    Raises:
        UserError: the weight is negative or not finite.
    """

    def __init__(self, prior: Prior, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise UserError(f"rate weight: expected a finite number, 0 or more; got {weight}.")
        self.prior, self.weight = prior, weight

    def __call__(self, indices: Int64[Tensor, "b s h w"]) -> tuple[Float[Tensor, " b"], Costs]:
        """The cost of each image, and of each code.

        Raises:
            UserError: the prior was not trained on images of this grid.
        """
        b, s, h, w = indices.shape
        vocabulary = self.prior.vocabulary
        rows = indices.movedim(1, 3).cpu().numpy().reshape(b, h, w, *vocabulary.codec.index_shape)
        sequences = torch.from_numpy(vocabulary.sequences(rows, [None] * b)).to(indices.device)
        with evaluating(self.prior), torch.enable_grad():
            embedded = self.prior.embedded(sequences).detach().requires_grad_()
            scale = -self.weight / math.log(2)
            costs = [scale * F.log_softmax(z.float(), 2) for z in self.prior.logits(embedded)]
            own = indices.flatten(2).unbind(1)
            cost = sum(
                c.gather(2, i.unsqueeze(2)).sum((1, 2)) for c, i in zip(costs, own, strict=True)
            )
            (slope,) = torch.autograd.grad(cost.sum(), embedded)
        # Nothing follows the last index.
        slope = F.pad(slope[:, PREFIX:], (0, 0, 0, 1))
        table = self.prior.network.model.embed_tokens.weight.detach()
        later = (
            slope[:, level::s] @ table[codes.start : codes.stop].T
            for level, codes in enumerate(vocabulary.codes)
        )
        every = (
            (now.detach() + then).view(b, h, w, -1) for now, then in zip(costs, later, strict=True)
        )
        return cost.detach(), tuple(every)
