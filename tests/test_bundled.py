"""Models that ship with the package: found by name, used where no model is given."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rotvq import bundled
from rotvq.cli.main import main
from rotvq.errors import UserError
from rotvq.model import VQVAE
from rotvq.quantization import VectorQuantizer
from rotvq.tokens.file import load_tokens
from rotvq.tokens.model_codec import fingerprint


def small(seed, stages):
    """A model whose codes lie where its latents do."""
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(32, 8, channel_dim=1)
    model = VQVAE(width=8, dim=8, depth=1, stages=stages, quantizer=quantizer).eval()
    with torch.no_grad():
        quantizer.initialize_codebook(model.encoder(torch.rand(16, 3, 16, 16) * 2 - 1))
    return model


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """Two small models in the place of those that ship; their folder."""
    folder = tmp_path / "weights"
    for name, stages in (("rotvq-f4", 2), ("rotvq-f8", 3)):
        small(0, stages).save_pretrained(folder / name, dtype=torch.float16)
    monkeypatch.setattr(bundled, "FOLDER", folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with one picture in a folder of another name."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    for folder in ("here", "pictures"):
        (tmp_path / folder).mkdir()
    Image.fromarray(pixels).save(tmp_path / "pictures/cat.jpg")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def rotvq(capsys):
    """A command's status, what it printed and what it complained about."""

    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_half_precision_is_loaded_as_float32(weights):
    stored = load_file(weights / "rotvq-f4/model.safetensors")
    kinds = {name: t.dtype for name, t in stored.items() if t.is_floating_point()}
    assert set(kinds.values()) == {torch.float16}
    model = VQVAE.from_pretrained("rotvq-f4")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    exact = small(0, 2).state_dict()
    for name, t in model.state_dict().items():
        assert t.dtype == exact[name].dtype
        assert torch.equal(t, exact[name].to(stored[name].dtype).to(t.dtype))


def test_weights_beyond_half_precision_are_refused_and_nothing_is_written(tmp_path):
    model = small(0, 2)
    model.quantizer.codebook.cluster_size[0] = 1e6
    with pytest.raises(UserError, match=r"nan or infinity in quantizer\.codebook\.cluster_size"):
        model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half").exists()
    model.save_pretrained(tmp_path / "full")


def test_bundled_names_come_before_folders_and_paths_do_not(here):
    small(1, 2).save_pretrained(here / "rotvq-f4")
    mine, bundled_one = small(1, 2).state_dict(), VQVAE.from_pretrained("rotvq-f4").state_dict()
    assert not same(mine, bundled_one)
    for path in ("./rotvq-f4", here / "rotvq-f4", (here / "rotvq-f4").relative_to(here)):
        assert same(VQVAE.from_pretrained(path).state_dict(), mine)


def test_an_unknown_name_gets_the_list(weights):
    with pytest.raises(UserError, match=r"bundled model \(rotvq-f4, rotvq-f8\); there is no such"):
        VQVAE.from_pretrained("rotvq-f5")
    shutil.rmtree(weights)
    with pytest.raises(UserError, match=r"bundled model \(none in this installation: train one"):
        VQVAE.from_pretrained("rotvq-f4")


def test_a_folder_without_a_model_is_not_listed(weights):
    (weights / "__pycache__").mkdir()
    assert bundled.names() == ["rotvq-f4", "rotvq-f8"]
    assert bundled.find("../weights/rotvq-f4") is None


def test_one_picture_without_options(rotvq, here):
    status, out, err = rotvq("reconstruct", here.parent / "pictures/cat.jpg")
    assert (status, err) == (0, "")
    assert out.startswith("Reconstructed 1 image with rotvq-f4 in cat.rotvq.png: MSE ")
    assert [path.name for path in here.iterdir()] == ["cat.rotvq.png"]
    with Image.open("cat.rotvq.png") as image:
        assert image.size == (24, 20)


def test_a_picture_is_never_overwritten_unasked(rotvq, here):
    cat, out = here.parent / "pictures/cat.jpg", here / "cat.rotvq.png"
    out.write_bytes(b"mine")
    status, _, err = rotvq("reconstruct", cat)
    assert status == 2 and "expected a new file; cat.rotvq.png exists" in err
    assert out.read_bytes() == b"mine"
    assert rotvq("reconstruct", cat, "--overwrite")[0] == 0
    assert out.read_bytes() != b"mine"


def test_one_picture_to_a_file_or_a_folder(rotvq, here):
    cat = here.parent / "pictures/cat.jpg"
    assert rotvq("reconstruct", cat, "-o", "new/again.png")[0] == 0
    assert rotvq("reconstruct", cat, "-o", "folder")[0] == 0
    once, twice = (here / name for name in ("new/again.png", "folder/cat.jpg.png"))
    assert once.read_bytes() == twice.read_bytes()


def test_a_default_name_is_short_and_portable(rotvq, here):
    image = Image.new("RGB", (8, 8))
    for name in ("n" * 250 + ".png", "caf\udce9.png"):
        image.save(here.parent / "pictures" / "x.png")
        (here.parent / "pictures" / "x.png").rename(here.parent / "pictures" / name)
        assert rotvq("reconstruct", here.parent / "pictures" / name)[::2] == (0, "")
    short, other = sorted(path.name for path in here.iterdir())[::-1]
    assert other == "caf%E9.rotvq.png"
    assert len(short) == 239 and short.endswith(".png")


@pytest.mark.parametrize("words", [("{pictures}",), ("{pictures}/cat.jpg",) * 2, ("photos",)])
def test_several_pictures_need_a_folder(rotvq, here, words):
    words = [word.format(pictures=here.parent / "pictures") for word in words]
    status, _, err = rotvq("reconstruct", *words)
    assert status == 2 and "expected a folder for the images; got none" in err
    assert list(here.iterdir()) == []


def test_tokens_are_decoded_by_the_bundled_model_that_made_them(rotvq, here):
    cat = here.parent / "pictures/cat.jpg"
    assert rotvq("encode", cat, "-o", "four.npz")[0] == 0
    assert rotvq("encode", cat, "-o", "eight.npz", "--model", "rotvq-f8")[0] == 0
    for name, file in (("rotvq-f4", "four"), ("rotvq-f8", "eight")):
        wanted = fingerprint(VQVAE.from_pretrained(name))
        assert load_tokens(f"{file}.npz").codec.model == wanted
        status, out, err = rotvq("decode", f"{file}.npz", "-o", file)
        assert (status, err) == (0, "")
        assert out.startswith(f"Decoding with {name}, the bundled model that encoded the tokens.")
        assert (here / file / "cat.jpg.png").exists()


def test_tokens_of_another_model_need_it_named(rotvq, here):
    small(1, 2).save_pretrained("mine")
    assert rotvq("encode", here.parent / "pictures", "--model", "mine", "-o", "t.npz")[0] == 0
    status, _, err = rotvq("decode", "t.npz", "-o", "d")
    assert status == 2 and f"encoded the tokens, {fingerprint(small(1, 2))}; got none" in err
    assert "(rotvq-f4, rotvq-f8). Pass it with --model." in err
    assert not (here / "d").exists()


def test_a_command_without_weights_says_so(rotvq, here, weights):
    cat = here.parent / "pictures/cat.jpg"
    rotvq("encode", cat, "-o", "t.npz")
    shutil.rmtree(weights)
    for words in (
        ("reconstruct", cat),
        ("encode", cat, "-o", "u.npz"),
        ("decode", "t.npz", "-o", "d"),
        ("export", "--to", "model", "-o", "e"),
        ("serve", "--port", "0"),
    ):
        status, _, err = rotvq(*words)
        assert status == 2 and "none in this installation: train one with rotvq train" in err
    assert [path.name for path in here.iterdir()] == ["t.npz"]


def test_export_takes_the_default_model(rotvq, here):
    assert rotvq("export", "--to", "model", "-o", "copy")[0] == 0
    copy, original = map(VQVAE.from_pretrained, ("copy", "rotvq-f4"))
    assert same(copy.state_dict(), original.state_dict())


def test_loading_a_model_does_not_import_the_compiler(weights):
    code = (
        f"import sys, rotvq; rotvq.VQVAE.from_pretrained({str(weights / 'rotvq-f4')!r}); "
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["False", "False"], done.stderr
