"""Saved models: the same outputs after loading, and one line for what is no model."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import save_file

from rotvq.errors import UserError
from rotvq.model import VQVAE, hub
from rotvq.quantization import (
    EMA,
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    GradientLearned,
    GroupedQuantizer,
    LinearMap,
    LookupFreeQuantizer,
    MultiScaleQuantizer,
    ResidualQuantizer,
    Restart,
    Update,
    VectorQuantizer,
)

QUANTIZERS = {
    "ema": lambda: VectorQuantizer(
        20, 6, update=EMA(0.9), restart=Restart(0.1), init="data", channel_dim=1
    ),
    "linear": lambda: VectorQuantizer(
        20, 6, update=LinearMap(), estimator="straight_through", entropy_loss=True, channel_dim=1
    ),
    "cosine": lambda: VectorQuantizer(
        20, 6, metric="cosine", update=GradientLearned(), channel_dim=1
    ),
    "lookup-free": lambda: LookupFreeQuantizer(6, temperature=0.5, group=3, channel_dim=1),
    "spherical": lambda: BinarySphericalQuantizer(6, entropy_loss=False, channel_dim=1),
    "symmetric": lambda: FiniteScalarQuantizer([4] * 6, symmetric=True, channel_dim=1),
    "finite": lambda: FiniteScalarQuantizer([3, 2, 2, 2, 2, 2], channel_dim=1),
    "large grid": lambda: FiniteScalarQuantizer([40] * 6, channel_dim=1),
    "residual": lambda: ResidualQuantizer(
        [VectorQuantizer(20, 6, update=EMA(0.9), channel_dim=1) for _ in range(3)], dropout=0.5
    ),
    "multi-scale": lambda: MultiScaleQuantizer(
        VectorQuantizer(20, 6, update=EMA(0.9), channel_dim=1), (1, 2, 4), dropout=0.5
    ),
    "grouped": lambda: GroupedQuantizer(
        [VectorQuantizer(20, 4, channel_dim=1), FiniteScalarQuantizer([5, 5], channel_dim=1)]
    ),
}


def model(quantizer="ema", **changes):
    torch.manual_seed(0)
    small = {"width": 8, "dim": 6, "depth": 1, "quantizer": QUANTIZERS[quantizer]()}
    net = VQVAE(**small | changes)
    net(torch.rand(4, net.channels, 16, 16) * 2 - 1)  # places the codes
    return net


@pytest.fixture
def saved(tmp_path):
    model().save_pretrained(tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"network": "attention", "normalized_latents": True},
        {"channels": 1, "stages": 1, "network": "patches"},
    ],
)
def test_a_loaded_model_equals_the_saved_one(tmp_path, quantizer, changes):
    net = model(quantizer, **changes)
    net.save_pretrained(tmp_path / "new" / "m")
    back = VQVAE.from_pretrained(tmp_path / "new" / "m")
    assert not back.training
    state = net.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in back.state_dict().items())
    x = torch.rand(2, net.channels, 8, 12) * 2 - 1
    assert torch.equal(back.encode(x), net.eval().encode(x))
    assert torch.equal(back(x).reconstruction, net(x).reconstruction)
    if quantizer in ("ema", "linear"):
        assert back.quantizer.codebook.update == net.quantizer.codebook.update
        assert back.quantizer.codebook.restart == net.quantizer.codebook.restart
        assert back.quantizer.estimator is net.quantizer.estimator
        assert back.quantizer.entropy_loss == net.quantizer.entropy_loss
        assert back.quantizer.codebook.ready


def test_a_shared_codebook_is_not_saved(tmp_path):
    shared = VectorQuantizer(20, 6, channel_dim=1)
    net = VQVAE(width=8, dim=6, depth=1, quantizer=ResidualQuantizer([shared, shared]))
    with pytest.raises(UserError, match="got several quantizers that share one"):
        net.save_pretrained(tmp_path / "m")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_weights_are_not_saved(tmp_path, quantizer, bad):
    net = model(quantizer)
    tensors = [(name, t) for name, t in net.state_dict().items() if t.is_floating_point()]
    for name, t in tensors:
        before, t.view(-1)[-1] = t.view(-1)[-1].item(), bad
        with pytest.raises(UserError, match=rf"expected finite weights; .* in {name}\."):
            net.save_pretrained(tmp_path / "m")
        t.view(-1)[-1] = before
    assert not (tmp_path / "m").exists()
    net.save_pretrained(tmp_path / "m")


@pytest.mark.parametrize("quantizer", ["ema", "linear"])
def test_a_loaded_model_trains_as_the_one_that_was_saved(tmp_path, quantizer):
    """The trainer's `defer_update` is not a property of the model, and not saved."""
    net = model(quantizer)
    net.quantizer.defer_update = True
    net.save_pretrained(tmp_path)
    net.quantizer.defer_update = False
    description = json.loads((tmp_path / "config.json").read_text())
    assert "defer_update" not in description["quantizer"]
    back = VQVAE.from_pretrained(tmp_path).train()
    for number in range(2):
        losses = []
        for each in (net, back):
            torch.manual_seed(number)
            losses.append(each(torch.rand(4, 3, 16, 16) * 2 - 1).loss(entropy_weight=0.1))
        assert torch.equal(*losses)
    state = net.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in back.state_dict().items())


def test_a_saved_model_is_two_files_without_code(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text())["format"] == "rotvq model"
    (saved / "plain").touch()
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


def test_a_loaded_model_can_be_trained_further(saved):
    net = VQVAE.from_pretrained(saved).train()
    net(torch.rand(4, 3, 16, 16) * 2 - 1).loss().backward()
    before = net.quantizer.codebook.embeddings.clone()
    net(torch.rand(4, 3, 16, 16) * 2 - 1)
    assert not torch.equal(net.quantizer.codebook.embeddings, before)


def test_a_custom_estimator_cannot_be_saved(tmp_path):
    net = model()
    net.quantizer.estimator = lambda z, q: q
    with pytest.raises(
        UserError, match=r"expected an estimator from rotvq\.ESTIMATORS; got <lambda>"
    ):
        net.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"{name}: expected .*no such file"):
        VQVAE.from_pretrained(saved)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "other", "version": 1}', b"\xff"]
)
def test_a_config_of_another_format_is_refused(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: expected (JSON|.format.: .rotvq model.)"):
        VQVAE.from_pretrained(saved)


def change(path, **values):
    content = json.loads(path.read_text())
    for key, value in values.items():
        group, _, name = key.partition("__")
        (content[group] if name else content)[name or group] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"version": 1}, "expected version 2 .* got version 1. Train the model again"),
        ({"version": 3}, "expected version 2 .* got version 3. Update rotvq"),
        ({"model__size": 3}, "unexpected keyword argument 'size'"),
        ({"quantizer__kind": "other"}, "the quantizer is 'other'"),
        ({"quantizer__update": "other"}, "'other'"),
        ({"quantizer": None}, "expected the arguments of a model"),
        ({"model__width": 0}, "expected 1 or more; got 0"),
        ({"model__depth": 2000}, r"model\.depth: expected 0 to 1000; got 2000\."),
        ({"quantizer__codebook_size": 2**80}, "it has an integer of more than 64 bits"),
        ({"model__width": 16}, "size mismatch"),
    ],
)
def test_wrong_arguments_are_reported(saved, values, message):
    change(saved / "config.json", **values)
    with pytest.raises(UserError, match=message) as caught:
        VQVAE.from_pretrained(saved)
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_reported(saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors: expected the weights of the model"):
        VQVAE.from_pretrained(saved)
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(
        UserError, match="belongs to another model: download it or save the model again"
    ):
        VQVAE.from_pretrained(saved)


def test_a_name_that_is_neither_folder_nor_repository_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected the folder of a saved model, owner/name"):
        VQVAE.from_pretrained("nothing")


def test_a_model_on_the_hub_is_downloaded_without_other_files(saved, monkeypatch):
    asked = []

    def download(name, **options):
        asked.append((name, options))
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    VQVAE.from_pretrained("owner/name", revision="v1", token="secret")
    files = ["config.json", "model.safetensors"]
    assert asked == [("owner/name", {"revision": "v1", "allow_patterns": files, "token": "secret"})]


def test_hub_errors_are_one_line(monkeypatch):
    def refuse(*args, **more):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(
        UserError,
        match=r"there is no such folder, and the Hub cannot be reached \(ConnectionError\)\.",
    ):
        VQVAE.from_pretrained("owner/name")
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"the Hub cannot be reached \(ConnectionError\)\. Log in"):
        model().push_to_hub("owner/name")


def test_a_push_uploads_the_two_files_and_a_card_in_one_commit(monkeypatch, tmp_path):
    created, commits = [], []
    monkeypatch.setattr(
        "huggingface_hub.HfApi.create_repo", lambda self, *a, **k: created.append((a, k))
    )
    monkeypatch.setattr(
        "huggingface_hub.HfApi.create_commit", lambda self, *a, **k: commits.append((a, k))
    )
    net = model()
    address = net.push_to_hub("owner/name", private=True)
    assert address.endswith("/owner/name")
    assert created == [(("owner/name",), {"private": True, "exist_ok": True})]
    (name, operations), _ = commits.pop()
    assert name == "owner/name"
    files = {each.path_in_repo: each.path_or_fileobj for each in operations}
    net.save_pretrained(tmp_path)
    saved_files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    card = hub.card(net.quantizer, 3, 4, "owner/name").encode()
    assert files == saved_files | {"README.md": card}
    net.push_to_hub("owner/name", card="# Mine")
    (_, operations), _ = commits.pop()
    assert operations[-1].path_or_fileobj == b"# Mine"


@pytest.mark.parametrize(
    "quantizer, codes, bits, indices",
    [
        ("ema", "20 codes", math.log2(20) / 16, "w / 4)"),
        ("residual", "3 codebooks of 20, 20, 20 codes", 3 * math.log2(20) / 16, "w / 4, 3)"),
        ("multi-scale", "20 codes", 21 * math.log2(20) / 16 / 16, "w / 4, 3)"),
        ("large grid", "4,096,000,000 codes", 6 * math.log2(40) / 16, "w / 4)"),
    ],
)
def test_the_card_has_metadata_and_the_models_numbers(quantizer, codes, bits, indices):
    card = ModelCard(hub.card(model(quantizer).quantizer, 3, 4, "owner/name"))
    assert card.data.library_name == "rotvq" and "vq-vae" in card.data.tags
    assert f"{codes} for vectors of length 6, and one token for every\n4x4 pixels" in card.text
    assert f"({bits:.3f} bits per pixel)" in card.text and indices in card.text
    assert 'VQVAE.from_pretrained("owner/name")' in card.text


@pytest.mark.slow
def test_importing_the_model_neither_loads_the_hub_nor_changes_the_environment():
    code = (
        "import os, sys; before = dict(os.environ); import rotvq.model; "
        "assert 'huggingface_hub' not in sys.modules and dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_path_is_never_looked_for_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="runs/typo: expected the folder of a saved model"):
        VQVAE.from_pretrained(Path("runs/typo"))


def test_an_update_of_ones_own_is_not_saved(tmp_path):
    quantizer = VectorQuantizer(20, 6, update=Update(), channel_dim=1)
    net = VQVAE(width=8, dim=6, depth=0, quantizer=quantizer)
    with pytest.raises(UserError, match=r"save: expected an update of rotvq .*; got a Update"):
        net.save_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e5m2])
def test_dtypes_that_hold_no_weights_are_refused_before_anything_is_written(tmp_path, dtype):
    model = VQVAE(width=8, dim=8, depth=1)
    model.save_pretrained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"dtype: expected torch\.float16"):
        model.save_pretrained(tmp_path, dtype=dtype)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_indices_of_another_batch_are_refused():
    model = VQVAE(width=8, dim=8, depth=1)
    x = torch.zeros(1, 3, 16, 16)
    with pytest.raises(UserError, match="indices: expected those of vectors of shape"):
        model(x, model.encode(x).expand(3, -1, -1))
