"""Several processes (gloo, on this machine) hold one codebook: that of a single process."""

import pytest
import torch
from several_processes import launch, run
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rotvq.quantization import (
    EMA,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    Quantizer,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

SHARES = {2: (10, 20), 4: (10, 0, 15, 5)}
"""Vectors of a global batch that each process has, by the number of processes: one has none."""
CASES = {
    "immediate": dict(update=EMA(decay=0.9)),
    "deferred": dict(update=EMA(decay=0.9), defer_update=True),
    "learned": dict(update=GradientLearned()),
    "restart": dict(update=EMA(decay=0.9), restart=Restart()),
    "data": dict(init="data"),
    "data_restart": dict(init="data", restart=Restart(), defer_update=True),
    "idle": dict(update=EMA(decay=0.9), restart=Restart()),
    "late_data": dict(init="data"),
    "cosine": dict(update=EMA(decay=0.9), metric="cosine"),
    "linear": dict(update=LinearMap()),
    "residual": dict(update=EMA(decay=0.9)),
    "grouped": dict(update=EMA(decay=0.9)),
}
LIKE_ONE = ["immediate", "deferred", "learned", "cosine", "linear", "residual", "grouped"]


def steps() -> list[tuple[Tensor, Tensor]]:
    """Four global batches of 30 vectors and masks."""
    g = torch.Generator().manual_seed(7)
    return [
        (2 + torch.randn(30, 4, generator=g), torch.rand(30, generator=g) < 0.8) for _ in range(4)
    ]


def rows_of(rank: int | None, world: int) -> slice:
    """A process's part of a global batch, or all of it."""
    if rank is None:
        return slice(None)
    first = sum(SHARES[world][:rank])
    return slice(first, first + SHARES[world][rank])


def quantizer_of(case: str) -> Quantizer:
    """The quantizer of a case, for vectors of 4 elements."""
    if case == "residual":
        return ResidualQuantizer([VectorQuantizer(16, 4, **CASES[case]) for _ in range(2)])
    if case == "grouped":
        return GroupedQuantizer([VectorQuantizer(16, 2, **CASES[case]) for _ in range(2)])
    return VectorQuantizer(16, 4, **CASES[case])


def state_of(quantizer: Quantizer) -> dict[str, Tensor]:
    """e, N and m of all codebooks."""
    found = quantizer.codebooks
    return {
        "e": torch.cat([codebook.embeddings.detach() for codebook in found]),
        "N": torch.cat([codebook.cluster_size for codebook in found]),
        "m": torch.cat([codebook.embed_sum for codebook in found]),
    }


def trained(case: str, rank: int | None, world: int) -> dict[str, Tensor]:
    """e, N and m after the steps, as one process (no rank) or one of several."""
    torch.manual_seed(0)
    quantizer = quantizer_of(case)
    rows = rows_of(rank, world)
    if rank is not None:
        torch.manual_seed(100 + rank)  # processes need not share their random numbers
    for i, (z, mask) in enumerate(steps()):
        if rank == 0 and (case == "idle" or (case == "late_data" and i == 0)):
            mask = torch.zeros_like(mask)
        parts = [slice(None)] if not quantizer.defer_update else [slice(5), slice(5, None)]
        for part in parts:
            quantizer(z[rows][part], mask[rows][part])
        if quantizer.defer_update:
            quantizer.update_codebook()
    return state_of(quantizer)


def trained_in_ddp(rank: int | None, world: int) -> dict[str, Tensor]:
    """As a part of a model that torch's own wrapper synchronizes, with two micro-batches a step.

    The wrapper copies the first process's buffers to the others before each forward pass. What a
    process has accumulated must not be lost to that.
    """
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 4, update=EMA(decay=0.9), defer_update=True)
    model = nn.Sequential(nn.Linear(4, 4), quantizer)
    run = model if rank is None else DistributedDataParallel(model)
    rows = rows_of(rank, world)
    for z, _ in steps():
        for part in (slice(5), slice(5, None)):
            out = run(z[rows][part])
            (out.z_q.square().sum() + out.commitment_loss).backward()
        quantizer.update_codebook()  # the weights stay, so that one process does the same
    return state_of(quantizer)


def work(rank: int, world: int) -> dict[str, dict[str, Tensor]]:
    results = {case: trained(case, rank, world) for case in CASES}
    return results | {"ddp": trained_in_ddp(rank, world)}


@pytest.fixture(scope="module", params=SHARES)
def found(request, tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of the processes ends with."""
    return launch(__file__, request.param, tmp_path_factory.mktemp("distributed"))


@pytest.mark.parametrize("case", [*CASES, "ddp"])
def test_all_processes_hold_the_same_codebook_bit_for_bit(case, found):
    for name, value in found[0][case].items():
        assert value.isfinite().all()
        for other in found[1:]:
            assert torch.equal(value, other[case][name]), name


@pytest.mark.parametrize("case", [*LIKE_ONE, "ddp"])
def test_several_processes_equal_one(case, found):
    alone = trained_in_ddp(None, 1) if case == "ddp" else trained(case, None, 1)
    for name, value in alone.items():
        torch.testing.assert_close(found[0][case][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", ["data", "data_restart", "late_data"])
def test_data_initialization_reaches_every_process(case, found):
    # The data lie around 2; the uniform start would lie around 0.
    assert (found[0][case]["e"].mean(0) - 2).abs().max() < 1


@pytest.mark.parametrize("case", ["restart", "idle"])
def test_restarts_use_the_vectors_of_all_processes(case, found):
    # Around 2 lies every code that was used or restarted; of 16 at most a few are left at 0.
    assert (found[0][case]["e"].norm(dim=1) > 1).sum() >= 12


if __name__ == "__main__":
    run(work)
