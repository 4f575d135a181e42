"""Two processes that start apart, and torch's wrappers around a quantizer: DDP, FSDP, Join."""

import pytest
import torch
import torch.distributed as dist
from several_processes import launch, run
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, fully_shard
from torch.nn.parallel import DistributedDataParallel

from rotvq import EMA, GradientLearned, LinearMap, Restart, VectorQuantizer
from rotvq.errors import UserError
from rotvq.quantization.processes import whole

K, D = 16, 4
UPDATES = {"ema": EMA(0.9), "gradient": GradientLearned(0.5), "linear": LinearMap(0.9)}

TRAININGS = {
    "data": dict(update=UPDATES["gradient"], init="data"),
    "restart": dict(update=UPDATES["gradient"], restart=Restart(0.1)),
    "deferred": dict(update=UPDATES["gradient"], restart=Restart(0.1), defer_update=True),
    "linear": dict(update=UPDATES["linear"], init="data"),
    "averages": dict(update=UPDATES["ema"], init="data", restart=Restart(0.1)),
}
HALF = MixedPrecision(*(torch.bfloat16,) * 3)


class Model(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.encoder = nn.Linear(8, D)
        self.quantizer = VectorQuantizer(K, D, **options)

    def forward(self, x: Tensor) -> Tensor:
        out = self.quantizer(self.encoder(x))
        return out.z_q.float().square().mean() + out.codebook_loss + out.commitment_loss


def trained_apart(update: str, loads: int) -> dict[str, Tensor]:
    """A step after one process alone has loaded codes around 50; the other waits for data."""
    torch.manual_seed(0)
    old = VectorQuantizer(K, D, update=UPDATES[update])
    old.codebook.set_codes(50 + torch.randn(K, D), 3.0)
    quantizer = VectorQuantizer(K, D, update=UPDATES[update], init="data")
    if dist.get_rank() == loads:
        quantizer.load_state_dict(old.state_dict())
    for _ in range(2):
        quantizer(torch.randn(64, D))
    return state(quantizer)


def loaded_before_ddp(update: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    old, model = Model(update=UPDATES[update]), Model(update=UPDATES[update], init="data")
    old.quantizer.codebook.set_codes(50 + torch.randn(K, D), 3.0)
    if dist.get_rank() == 0:
        model.load_state_dict(old.state_dict())
    run = DistributedDataParallel(model)
    for _ in range(2):
        run(torch.randn(64, 8)).backward()
    return state(model.quantizer)


def no_vectors_at_first() -> dict[str, Tensor]:
    """A first step without a usable vector, then process 0 alone loads."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(K, D, init="data")
    quantizer(torch.full((8, D), torch.nan))
    if dist.get_rank() == 0:
        old = VectorQuantizer(K, D)
        old.codebook.set_codes(50 + torch.randn(K, D), 3.0)
        quantizer.load_state_dict(old.state_dict())
    quantizer(torch.randn(64, D))
    return state(quantizer)


def state(quantizer: VectorQuantizer) -> dict[str, Tensor]:
    return {
        "e": whole(quantizer.codebook.embeddings).detach().clone(),
        "N": quantizer.codebook.cluster_size.clone(),
    }


def trained(wrapper: str, training: str, dtype=torch.float32) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = Model(**TRAININGS[training]).to(dtype)
    run = model
    if wrapper == "ddp":
        run = DistributedDataParallel(model)
    if wrapper == "fsdp2":
        mesh = init_device_mesh("cpu", (2,))
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for number in range(5):
        g = torch.Generator().manual_seed(10 * number + dist.get_rank())
        run(3 + torch.randn(64, 8, generator=g).to(dtype)).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.quantizer.update_codebook()
    tokens = model.quantizer.encode(torch.randn(20, D, generator=g.manual_seed(0)))
    return state(model.quantizer) | {"tokens": tokens, "codes": model.quantizer.lookup(tokens)}


def message(call) -> str:
    try:
        call()
    except (UserError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def in_fsdp1(original: bool, **options) -> str:
    model = FullyShardedDataParallel(
        Model(**options),
        mixed_precision=HALF,
        device_id=torch.device("cpu"),
        use_orig_params=original,
    )
    return message(lambda: [model(torch.randn(64, 8)).backward() for _ in range(2)])


def joined(early: bool) -> str:
    model = DistributedDataParallel(Model())

    def run() -> None:
        with Join([model], throw_on_early_termination=early):
            for _ in range(2 + dist.get_rank()):
                model(torch.randn(8, 8)).backward()

    return message(run)


def work(rank: int, world: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for update in UPDATES:
        for loads in (0, 1):
            found[f"apart {update} {loads}"] = trained_apart(update, loads)
        found[f"before ddp {update}"] = loaded_before_ddp(update)
    found["no vectors"] = no_vectors_at_first()
    for training in TRAININGS:
        for wrapper in ("ddp", "fsdp2"):
            found[f"{wrapper} {training}"] = trained(wrapper, training)
        found[f"half {training}"] = trained("fsdp2", training, torch.bfloat16)
    for original in (False, True):
        kind = f"fsdp1 {original}"
        found[f"{kind} averages"] = in_fsdp1(original, init="data", restart=Restart())
        found[f"{kind} gradient"] = in_fsdp1(original, update=UPDATES["gradient"])
        found[f"{kind} data"] = in_fsdp1(original, update=UPDATES["gradient"], init="data")
    found["join early"] = joined(early=True)
    found["join"] = joined(early=False)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict]:
    """What each of the two processes ends with."""
    return launch(__file__, 2, tmp_path_factory.mktemp("wrappers"))


APART = [f"apart {update} {loads}" for update in UPDATES for loads in (0, 1)]


@pytest.mark.parametrize("case", [*APART, *(f"before ddp {r}" for r in UPDATES), "no vectors"])
def test_processes_that_start_apart_take_the_codes_that_one_has(case, found):
    one, other = (each[case] for each in found)
    assert torch.equal(one["e"], other["e"]) and torch.equal(one["N"], other["N"])
    far = one["e"].norm(dim=1) > 50  # where the loaded codes are, and no vector is
    assert far.sum() >= K - 2


@pytest.mark.parametrize("training", TRAININGS)
def test_fully_sharded_codes_are_those_of_ddp(training, found):
    for each in found:
        for name, value in each[f"ddp {training}"].items():
            torch.testing.assert_close(each[f"fsdp2 {training}"][name], value, msg=name)


@pytest.mark.parametrize("training", TRAININGS)
def test_a_model_in_bfloat16_trains_under_one_fully_shard(training, found):
    one, other = (each[f"half {training}"] for each in found)
    learned = TRAININGS[training]["update"] is UPDATES["gradient"]
    assert one["e"].dtype == (torch.bfloat16 if learned else torch.float32)
    assert one["N"].dtype == one["codes"].dtype == torch.float32
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["e"].isfinite().all() and one["tokens"].unique().numel() > 1


@pytest.mark.parametrize("original", [False, True])
def test_fsdp1_trains_and_refuses_only_codes_that_it_would_forget(original, found):
    for each in found:
        assert each[f"fsdp1 {original} averages"] == "none"
        assert each[f"fsdp1 {original} gradient"] == "none"
        refused = each[f"fsdp1 {original} data"]
        assert refused.startswith("UserError: FullyShardedDataParallel: ")
        assert "Use fully_shard (FSDP2), or update=EMA()" in refused


def test_join_is_refused_and_its_early_end_is_not(found):
    for each in found:
        assert each["join"].startswith("UserError: Join: expected the same number of steps")
        assert "throw_on_early_termination=True" in each["join"]
        assert each["join early"].startswith("RuntimeError: ")
        assert "exhausted" in each["join early"]  # torch's own end, and no hang


if __name__ == "__main__":
    run(work)
