"""Every quantizer under torch.func, torch.compile and torch.export."""

import io

import pytest
import torch
from every_quantizer import OF_EACH_KIND, assert_same_state, each, made, state, vectors
from torch import Tensor, nn

ALIKE = ("entropy_weight", "restart", "2 levels", "groups")
COMPILED = {k: make for k, make in OF_EACH_KIND.items() if not any(word in k for word in ALIKE)}
"""Without those whose parts have graphs already: the compiler takes its time."""


@each(OF_EACH_KIND)
def test_transforms_of_torch_func(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 3, 5)

    def loss(z):
        out = quantizer(z)
        return out.z_q.sin().sum() + out.commitment_loss

    assert torch.equal(torch.func.vmap(lambda z: quantizer(z).z_q)(z), quantizer(z).z_q)
    indices = quantizer.encode(z)
    assert torch.equal(torch.func.vmap(quantizer.encode)(z), indices)
    assert torch.equal(torch.func.vmap(quantizer.lookup)(indices), quantizer.lookup(indices))
    found = torch.func.vmap(torch.func.grad(loss))(z)
    for part, gradient in zip(z, found, strict=True):
        leaf = part.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        torch.testing.assert_close(gradient, expected)
    assert torch.func.jacrev(lambda z: quantizer(z).z_q)(z[0]).isfinite().all()


@pytest.mark.slow
@each(COMPILED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_and_evaluation_are_one_graph(make):
    torch.compiler.reset()
    eager, other = made(make), made(make)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for mode in (True, False):
        results = []
        for quantizer, call in ((eager, eager), (other, compiled)):
            quantizer.train(mode)
            z = vectors(eager, 2, 15).requires_grad_()
            torch.manual_seed(3)
            out = call(z)
            (out.z_q.square().sum() + out.commitment_loss).backward()
            results.append((*(t.detach() for t in vars(out).values()), z.grad))
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b)
    assert_same_state(eager, state(other))
    torch.compiler.reset()


class Program(nn.Module):
    """One method of a quantizer as a module, which is what export takes."""

    def __init__(self, quantizer, method):
        super().__init__()
        self.quantizer, self.method = quantizer, method

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.quantizer, self.method)(x)


@each({k: make for k, make in COMPILED.items() if "vq" not in k or "rotation " in k})
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_for_any_batch_are_exported_and_saved(make):
    quantizer = made(make).eval()
    z = vectors(quantizer, 9)
    indices = quantizer.encode(z)
    for method, given in (("encode", z), ("lookup", indices)):
        batch = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(Program(quantizer, method), (given,), dynamic_shapes=batch)
        content = io.BytesIO()
        torch.export.save(program, content)
        content.seek(0)
        call = torch.export.load(content).module()
        for n in (9, 4):
            assert torch.equal(call(given[:n]), getattr(quantizer, method)(given[:n]))
