"""Saved models: the same outputs after loading, and one line for what is no model."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from rotvq.errors import UserError
from rotvq.model import VQVAE, hub
from rotvq.quantization import (
    EMA,
    FiniteScalarQuantizer,
    GroupedQuantizer,
    LinearMap,
    ResidualQuantizer,
    Restart,
    VectorQuantizer,
)

QUANTIZERS = {
    "ema": lambda: VectorQuantizer(
        20, 6, update=EMA(0.9), restart=Restart(0.1), init="data", channel_dim=1
    ),
    "linear": lambda: VectorQuantizer(
        20, 6, update=LinearMap(), estimator="straight_through", entropy_loss=True, channel_dim=1
    ),
    "finite": lambda: FiniteScalarQuantizer([3, 2, 2, 2, 2, 2], channel_dim=1),
    "large grid": lambda: FiniteScalarQuantizer([40] * 6, channel_dim=1),
    "residual": lambda: ResidualQuantizer(
        [VectorQuantizer(20, 6, update=EMA(0.9), channel_dim=1) for _ in range(3)]
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
def test_there_and_back(tmp_path, quantizer, changes):
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


def test_codes_that_quantizers_share_are_not_saved(tmp_path):
    shared = VectorQuantizer(20, 6, channel_dim=1)
    net = VQVAE(width=8, dim=6, depth=1, quantizer=ResidualQuantizer([shared, shared]))
    with pytest.raises(UserError, match="got several that share one codebook"):
        net.save_pretrained(tmp_path / "m")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, quantizer, bad):
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
@pytest.mark.parametrize("older", [False, True])
def test_a_loaded_model_trains_as_the_one_that_was_saved(tmp_path, quantizer, older):
    """However its trainer stepped the codebook, which is no property of the model."""
    net = model(quantizer)
    net.quantizer.defer_update = True
    net.save_pretrained(tmp_path)
    net.quantizer.defer_update = False
    description = json.loads((tmp_path / "config.json").read_text())
    assert "defer_update" not in description["quantizer"]
    if older:  # files of before, which held the trainer's setting and no entropy loss
        description["quantizer"]["defer_update"] = True
        net.quantizer.entropy_loss = description["quantizer"].pop("entropy_loss") and False
        (tmp_path / "config.json").write_text(json.dumps(description))
    back = VQVAE.from_pretrained(tmp_path).train()
    for number in range(2):
        losses = []
        for each in (net, back):
            torch.manual_seed(number)
            losses.append(each(torch.rand(4, 3, 16, 16) * 2 - 1).loss(entropy_weight=0.1))
        assert torch.equal(*losses)
    state = net.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in back.state_dict().items())


def test_two_files_and_no_code(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((saved / "config.json").read_text())["format"] == "rotvq model"
    (saved / "plain").touch()
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


def test_training_goes_on_after_loading(saved):
    net = VQVAE.from_pretrained(saved).train()
    net(torch.rand(4, 3, 16, 16) * 2 - 1).loss().backward()
    before = net.quantizer.codebook.embeddings.clone()
    net(torch.rand(4, 3, 16, 16) * 2 - 1)
    assert not torch.equal(net.quantizer.codebook.embeddings, before)


def test_an_estimator_of_ones_own_cannot_be_saved(tmp_path):
    net = model()
    net.quantizer.estimator = lambda z, q: q
    with pytest.raises(UserError, match="expected an estimator of rotvq"):
        net.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_absent_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"{name}: expected .*no such file"):
        VQVAE.from_pretrained(saved)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "other", "version": 1}', b"\xff"]
)
def test_another_config_is_refused(saved, content):
    (saved / "config.json").write_bytes(content)
    with pytest.raises(UserError, match="rotvq model"):
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
        ({"version": 2}, "expected version 1 .* got 2. Update rotvq"),
        ({"model__size": 3}, "unexpected keyword argument 'size'"),
        ({"quantizer__kind": "other"}, "the quantizer is 'other'"),
        ({"quantizer__update": "other"}, "'other'"),
        ({"quantizer": None}, "expected the arguments of a model"),
        ({"model__width": 0}, "expected 1 or more; got 0"),
        ({"model__width": 16}, "size mismatch"),
    ],
)
def test_wrong_arguments_are_told(saved, values, message):
    change(saved / "config.json", **values)
    with pytest.raises(UserError, match=message) as caught:
        VQVAE.from_pretrained(saved)
    assert "\n" not in str(caught.value)


def test_two_levels_of_an_older_version_are_refused(tmp_path):
    model("finite").save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    del description["quantizer"]["two_levels"]
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match="of an older version, where they were -1 and 0"):
        VQVAE.from_pretrained(tmp_path)


def test_damaged_weights_are_told(saved):
    path = saved / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors: expected the weights of the model"):
        VQVAE.from_pretrained(saved)
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="of another model: fetch or write it again"):
        VQVAE.from_pretrained(saved)


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(UserError, match="expected the folder of a saved model, or owner/name"):
        VQVAE.from_pretrained("nothing")


def test_models_of_the_hub(saved, monkeypatch):
    asked = []

    def download(name, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(saved)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    VQVAE.from_pretrained("owner/name", revision="v1")
    assert asked == [("owner/name", "v1", ["config.json", "model.safetensors"])]


def test_a_hub_that_does_not_answer_is_one_line(monkeypatch):
    def refuse(*args, **more):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match=r"the hub answers: no route\."):
        VQVAE.from_pretrained("owner/name")
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"it answers: no route\. Log in"):
        model().push_to_hub("owner/name")


def test_what_is_pushed(monkeypatch):
    pushed = {}

    def upload(self, repo_id, folder_path, commit_message):
        pushed[repo_id] = {path.name: path.read_bytes() for path in folder_path.iterdir()}

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, *a, **k: pushed.update(k))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    address = model().push_to_hub("owner/name", private=True)
    assert address.endswith("/owner/name") and pushed["private"] is True
    files = pushed["owner/name"]
    assert set(files) == {"config.json", "model.safetensors", "README.md"}
    assert files["README.md"].decode() == hub.card(model())
    model().push_to_hub("owner/name", card="# Mine")
    assert pushed["owner/name"]["README.md"] == b"# Mine"
