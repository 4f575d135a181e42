"""The model compiled and exported."""

import pytest
import torch
from torch import Tensor, nn

from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer


def small() -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(width=8, dim=8, depth=1, quantizer=VectorQuantizer(32, 8, channel_dim=1))


def images(b: int = 4) -> Tensor:
    return 2 * torch.rand(b, 3, 16, 16, generator=torch.Generator().manual_seed(1)) - 1


class Call(nn.Module):
    """One method of a model as a module, which is what export takes."""

    def __init__(self, model: VQVAE, method: str):
        super().__init__()
        self.model, self.method = model, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.method)(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_encode_and_decode_are_exported_for_any_batch():
    model = small().eval()
    batch = {0: torch.export.Dim("batch")}
    x = images(4)
    indices = model.encode(x)
    exported = [
        torch.export.export(Call(model, method), (example,), dynamic_shapes=(batch,)).module()
        for method, example in (("encode", x), ("decode", indices))
    ]
    for n in (4, 3, 1):
        assert torch.equal(exported[0](x[:n]), model.encode(x[:n]))
        torch.testing.assert_close(exported[1](indices[:n]), model.decode(indices[:n]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_the_model_is_one_graph():
    torch.compiler.reset()
    eager, other = small(), small()
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for model in (eager, compiled):
        out = model(images())
        out.loss().backward()
    for (name, a), b in zip(eager.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda m, n=name: f"{n}: {m}")
    torch.testing.assert_close(
        eager.quantizer.codebook.embeddings, other.quantizer.codebook.embeddings
    )
    torch.compiler.reset()
