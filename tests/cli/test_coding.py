"""rotvq encode, decode, reconstruct: pictures to a file and back, and what is refused."""

from __future__ import annotations

import io
import os
import re
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from rotvq.model import VQVAE
from rotvq.names import DEFAULT_EFFORT
from rotvq.quantization import (
    FiniteScalarQuantizer,
    GroupedQuantizer,
    ResidualQuantizer,
    VectorQuantizer,
)
from rotvq.tokens.file import load_tokens, save_tokens


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of three sizes and kinds in two folders, one of them damaged."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    (folder / "a").mkdir()
    for number, size in enumerate([(16, 16), (16, 16), (13, 22)]):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "a" / f"{number}.png")
    Image.fromarray(pixels[:8, :8, 0]).save(folder / "gray.jpg")
    Image.fromarray(np.dstack([pixels, pixels[..., :1]])).save(folder / "see_through.png")
    (folder / "damaged.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def model(_trained):
    """A finished run, not to be spoilt."""
    return _trained


SIZES = {
    "a/0": (16, 16),
    "a/1": (16, 16),
    "a/2": (22, 13),
    "gray.jpg": (8, 8),
    "see_through": (22, 13),
}
SKIPPED = ["path\treason\tdetail", "damaged.png\tnot an image of a known format\t"]


def pixels_of(path):
    with Image.open(path) as opened:
        return np.asarray(opened, float)


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
def test_decoded_images_equal_the_reconstructions(rotvq, model, photos, tmp_path, ending):
    file = tmp_path / f"t.{ending}"
    answer = rotvq("encode", photos, "--model", model, "-o", file)
    assert (answer.status, answer.err) == (0, "")
    assert "1 skipped: not an image of a known format, first damaged.png" in answer.out
    assert "Encoded 5 images" in answer.out and "4 bits per token" in answer.out
    listed = tmp_path / f"t.{ending}.skipped.tsv"
    assert f"Skipped images are listed in {listed}." in answer.out
    assert listed.read_text().splitlines() == SKIPPED
    assert list(load_tokens(file).names) == [
        "a/0.png",
        "a/1.png",
        "a/2.png",
        "gray.jpg",
        "see_through.png",
    ]
    answer = rotvq("decode", file, "--model", model, "-o", tmp_path / "d")
    assert (answer.status, answer.err) == (0, "")
    assert names(tmp_path / "d") == [f"{name}.png" for name in SIZES]
    for name, size in SIZES.items():
        with Image.open(tmp_path / "d" / f"{name}.png") as opened:
            assert opened.size == size
    answer = rotvq("reconstruct", photos, "--model", model, "-o", tmp_path / "r")
    assert (answer.status, answer.err) == (0, "")
    assert "bits per pixel" in answer.out
    assert (tmp_path / "r.skipped.tsv").read_text().splitlines() == SKIPPED
    for name in names(tmp_path / "r"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()


@pytest.mark.parametrize(
    "quantizer, bits",
    [
        (ResidualQuantizer([VectorQuantizer(k, 8, channel_dim=1) for k in (16, 5)]), 4 + 3),
        (GroupedQuantizer([FiniteScalarQuantizer([5] * 4, channel_dim=1)] * 2), 10 + 10),
        (FiniteScalarQuantizer([4] * 8, channel_dim=1), 16),
    ],
)
def test_models_with_other_quantizers(rotvq, photos, tmp_path, quantizer, bits):
    net = VQVAE(width=8, dim=8, depth=1, quantizer=quantizer)
    net.save_pretrained(tmp_path / "model")
    options = ("--model", tmp_path / "model", "-o")
    answer = rotvq("encode", photos, *options, tmp_path / "t.npz")
    assert (answer.status, answer.err) == (0, "") and f"{bits} bits per token" in answer.out
    assert load_tokens(tmp_path / "t.npz").codec.codebook_sizes == quantizer.codebook_sizes
    assert rotvq("decode", tmp_path / "t.npz", *options, tmp_path / "d").status == 0
    assert rotvq("reconstruct", photos, *options, tmp_path / "r").status == 0
    for name in SIZES:
        decoded, seen = (pixels_of(tmp_path / folder / f"{name}.png") for folder in "dr")
        assert np.array_equal(decoded, seen)


def test_images_of_a_data_source_are_named_by_row(rotvq, model, tmp_path):
    answer = rotvq("encode", "photos", "--model", model, "-o", tmp_path / "t.npz")
    assert answer.status == 0
    tokens = load_tokens(tmp_path / "t.npz")
    assert tokens.names[0] == "test/000000" and set(tokens.labels) == {0, 1}
    rotvq("decode", tmp_path / "t.npz", "--model", model, "-o", tmp_path / "d")
    assert names(tmp_path / "d")[1] == "test/000001.png"


def sample(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
def test_samples_of_a_shard_stay_aligned(rotvq, model, photos, tmp_path, ending):
    """Several sizes, a damaged one, one without an image; names, labels and captions go along."""
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        for key, source in (("ä 1", "a/0.png"), ("ö", "damaged.png"), ("写真", "a/2.png")):
            sample(archive, f"{key}.png", (photos / source).read_bytes())
            sample(archive, f"{key}.cls", str(len(key)).encode())
            sample(archive, f"{key}.txt", f"a {key}\n".encode())
        sample(archive, "alone.cls", b"5")
        sample(archive, "last.png", (photos / "a/1.png").read_bytes())
    file = tmp_path / f"t.{ending}"
    answer = rotvq("encode", tmp_path / "one.tar", "--model", model, "-o", file)
    assert (answer.status, answer.err) == (0, "")
    tokens = load_tokens(file)
    assert tokens.names == ["one.tar/ä 1.png", "one.tar/写真.png", "one.tar/last.png"]
    assert tokens.labels == [3, 2, None]
    assert tokens.captions == ["a ä 1\n", "a 写真\n", None]
    assert list(tokens.sizes) == [(16, 16), (13, 22), (16, 16)]
    assert (tmp_path / f"t.{ending}.skipped.tsv").read_text().splitlines()[1:] == [
        "one.tar/ö.png\tnot an image of a known format\t",
        "one.tar/alone.cls\tno image in the sample\tonly .cls",
    ]
    rotvq("decode", file, "--model", model, "-o", tmp_path / "d")
    assert names(tmp_path / "d") == ["one.tar/last.png", "one.tar/ä 1.png", "one.tar/写真.png"]


def test_an_old_list_of_skipped_images_is_removed(rotvq, model, photos, tmp_path):
    words = ("--model", model, "--overwrite", "-o", tmp_path / "t.npz")
    rotvq("encode", photos, *words)
    assert (tmp_path / "t.npz.skipped.tsv").exists()
    rotvq("encode", photos / "a", *words)
    assert not (tmp_path / "t.npz.skipped.tsv").exists()


def test_the_reported_error_is_that_of_the_written_images(rotvq, model, images, tmp_path):
    answer = rotvq("reconstruct", images / "test", "--model", model, "-o", tmp_path / "r")
    before, after = (
        np.stack([pixels_of(path) for path in sorted(folder.glob("*.png"))])
        for folder in (images / "test", tmp_path / "r")
    )
    mse = np.square((before - after) / 127.5).mean()
    assert f"MSE {mse:.5f} on [-1, 1]" in answer.out
    assert f"{4 / 16:.3f} bits per pixel" in answer.out


def test_a_pngs_name_depends_on_its_source_alone(rotvq, model, photos, tmp_path):
    shutil.copytree(photos / "a", tmp_path / "p")
    with Image.open(tmp_path / "p/0.png") as opened:
        opened.save(tmp_path / "p/0.jpg")
    rotvq("encode", tmp_path / "p", "--model", model, "-o", tmp_path / "t.npz")
    rotvq("decode", tmp_path / "t.npz", "--model", model, "-o", tmp_path / "d")
    assert names(tmp_path / "d") == ["0.jpg.png", "0.png", "1.png", "2.png"]


def test_images_of_several_folders_keep_apart(rotvq, model, photos, tmp_path):
    shutil.copytree(photos / "a", tmp_path / "b")
    words = (photos / "a", tmp_path / "b", photos / "gray.jpg")
    rotvq("encode", *words, "--model", model, "-o", tmp_path / "t.npz")
    found = load_tokens(tmp_path / "t.npz").names
    assert {name.split("/")[0] for name in found} == {"a", "b", "gray.jpg"}


def test_nothing_is_overwritten_without_the_option(rotvq, model, photos, tmp_path):
    file = tmp_path / "t.npz"
    file.write_text("mine")
    words = ("encode", photos, "--model", model, "-o", file)
    assert "Choose another name or pass --overwrite" in rotvq(*words).error
    assert file.read_text() == "mine"
    assert rotvq(*words, "--overwrite").status == 0
    (tmp_path / "d").mkdir()
    (tmp_path / "d/mine.txt").write_text("mine")
    words = ("decode", file, "--model", model, "-o", tmp_path / "d")
    assert "is not empty" in rotvq(*words).error
    assert rotvq(*words, "--overwrite").status == 0
    assert (tmp_path / "d/mine.txt").read_text() == "mine"


def test_tokens_of_another_model_are_refused(rotvq, model, tiny, photos, tmp_path):
    rotvq("encode", photos, "--model", model, "-o", tmp_path / "t.npz")
    other = ("--training.seed", 1, "--training.epochs", 1, "--out", tmp_path / "run")
    assert rotvq("train", *tiny, *other).status == 0
    words = ("decode", tmp_path / "t.npz", "--model", tmp_path / "run", "-o", tmp_path / "d")
    assert "model: expected the model of these tokens" in rotvq(*words).error
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "a/../../out.png"])
def test_names_cannot_leave_the_folder(rotvq, model, photos, tmp_path, name):
    rotvq("encode", photos / "a/0.png", "--model", model, "-o", tmp_path / "t.npz")
    tokens = load_tokens(tmp_path / "t.npz")
    object.__setattr__(tokens, "names", [name])
    save_tokens(tokens, tmp_path / "t.npz")
    words = ("decode", tmp_path / "t.npz", "--model", model, "-o", tmp_path / "in" / "d")
    assert "Do not trust this file" in rotvq(*words).error
    assert names(tmp_path) == ["t.npz"]


@pytest.mark.parametrize(
    "words, message",
    [
        (("encode", "nothing/", "-o", "t.npz"), "expected an existing path"),
        (("encode", "nothing.png", "-o", "t.npz"), "there is no such file"),
        (("encode", "{photos}/damaged.png", "-o", "t.npz"), "expected readable images"),
        (("encode", "{empty}", "-o", "t.npz"), "expected images; found none"),
        (("encode", "{photos}", "-o", "t.zip"), "expected a file ending in .npz"),
        (("encode", "{photos}", "-o", "t.npz", "--batch-size", "0"), "expected 1 or more; got 0"),
        (("encode", "{photos}"), "required: -o/--out"),
        (("decode", "{photos}/gray.jpg", "-o", "d"), "ending in .npz"),
        (("decode", "nothing.npz", "-o", "d"), "there is no such file"),
        (("decode", "nothing.npz", "-o", "{photos}/gray.jpg"), "is a file"),
        (("reconstruct", "{photos}", "-o", "{photos}"), "is not empty"),
    ],
)
def test_bad_input_is_one_line(rotvq, model, photos, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = [word.format(photos=photos, empty=tmp_path / "empty") for word in words]
    assert message in rotvq(*words, "--model", model).error
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "expected the folder of a saved model"),
        ("{empty}", "{empty}/config.json: expected the configuration of a saved model"),
    ],
)
def test_a_missing_model_is_one_line(rotvq, photos, tmp_path, name, message):
    name, message = (text.format(empty=tmp_path) for text in (name, message))
    assert message in rotvq("encode", photos, "--model", name, "-o", tmp_path / "t.npz").error


def test_images_do_not_overwrite_each_other(rotvq, model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("rotvq.cli.reconstruct.CHUNK", 1)
    (tmp_path / "p").mkdir()
    with Image.open(photos / "a/0.png") as opened:
        for name in ("x.png", "x.jpg", "x.jpg.png", "x.bmp"):
            opened.convert("RGB").save(tmp_path / "p" / name)
    assert rotvq("reconstruct", tmp_path / "p", "--model", model, "-o", tmp_path / "d").status == 0
    assert len(names(tmp_path / "d")) == 4


def test_long_names_are_shortened(rotvq, model, photos, tmp_path):
    (tmp_path / "p").mkdir()
    shutil.copy(photos / "a/0.png", tmp_path / "p" / f"{'n' * 251}.png")
    assert rotvq("reconstruct", tmp_path / "p", "--model", model, "-o", tmp_path / "d").status == 0
    assert names(tmp_path / "d") == [f"{'n' * 251}.png"]


def test_names_that_are_not_utf_8(rotvq, model, photos, tmp_path):
    (tmp_path / "p").mkdir()
    shutil.copy(photos / "a/0.png", os.path.join(os.fsencode(tmp_path / "p"), b"caf\xe9.png"))
    words = (tmp_path / "p", "--model", model, "-o")
    assert rotvq("encode", *words, tmp_path / "t.npz").status == 0
    assert list(load_tokens(tmp_path / "t.npz").names) == ["caf%E9.png"]
    assert rotvq("decode", tmp_path / "t.npz", *words[1:], tmp_path / "d").status == 0
    assert rotvq("reconstruct", *words, tmp_path / "r").status == 0
    assert names(tmp_path / "d") == names(tmp_path / "r") == ["caf%E9.png"]


@pytest.mark.parametrize("ending", ["npz", "safetensors", "parquet"])
def test_token_files_in_a_folder_that_is_not_utf_8(rotvq, model, photos, tmp_path, ending):
    file, plain = tmp_path / f"caf\udce9/t.{ending}", tmp_path / f"t.{ending}"
    for path, out in ((file, "caf\udce9/d"), (plain, "d")):
        assert rotvq("encode", photos, "--model", model, "-o", path).status == 0
        assert rotvq("decode", path, "--model", model, "-o", tmp_path / out).status == 0
    assert vars(load_tokens(file)) == vars(load_tokens(plain))
    assert names(tmp_path / "caf\udce9/d") == names(tmp_path / "d") == [f"{n}.png" for n in SIZES]


@pytest.mark.parametrize("below", [".", "deep/er"])
def test_a_stray_tar_does_not_hide_images(rotvq, model, photos, tmp_path, below):
    shutil.copytree(photos / "a", tmp_path / "p" / below)
    with tarfile.open(tmp_path / "p/backup.tar", "w") as archive:
        archive.add(photos / "a/0.png", "0.png")
    rotvq("encode", tmp_path / "p", "--model", model, "-o", tmp_path / "t.npz")
    rotvq("decode", tmp_path / "t.npz", "--model", model, "-o", tmp_path / "d")
    assert len(names(tmp_path / "d")) == len([*(photos / "a").iterdir()])


def test_effort_lowers_the_error(rotvq, model, photos, tmp_path):
    def mse(*words):
        answer = rotvq("reconstruct", photos, "--model", model, "-o", tmp_path / "r", *words)
        assert (answer.status, answer.err) == (0, "")
        return float(re.search(r"MSE (\S+) on", answer.out)[1])

    plain = mse()
    searched = mse("--overwrite", "--effort", 3)
    assert searched < plain
    pictures = {name: (tmp_path / "r" / name).read_bytes() for name in names(tmp_path / "r")}
    for effort in (0, 3):
        file = tmp_path / f"{effort}.npz"
        words = ("encode", photos, "--model", model, "-o", file, "--effort", effort)
        assert rotvq(*words).status == 0
    shapes = [[each.shape for each in load_tokens(tmp_path / f"{n}.npz")] for n in (0, 3)]
    assert shapes[0] == shapes[1]
    assert rotvq("decode", file, "--model", model, "-o", tmp_path / "d").status == 0
    assert {n: (tmp_path / "d" / n).read_bytes() for n in names(tmp_path / "d")} == pictures


def test_effort_without_a_number_is_the_default(rotvq, model, photos, tmp_path):
    made = []
    for name, words in (("a", ["--effort"]), ("b", ["--effort", DEFAULT_EFFORT])):
        file = tmp_path / f"{name}.npz"
        assert rotvq("encode", photos, "--model", model, "-o", file, *words).status == 0
        made.append(file.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("more", [[], ["--shard-size", 10]])
def test_tuning_is_for_psnr_unless_it_is_for_ssim(rotvq, model, photos, tmp_path, more):
    made = []
    for words in ([], ["--tune", "psnr"], ["--tune", "ssim"]):
        out = tmp_path / f"{len(made)}{'' if more else '.npz'}"
        command = ("encode", photos, "--model", model, "-o", out, "--effort", 2)
        assert rotvq(*command, *words, *more).status == 0
        made.append(load_tokens(next(out.glob("*.safetensors")) if more else out).packed)
    assert made[0] == made[1] != made[2]


def test_a_reconstruction_can_be_tuned(rotvq, model, photos, tmp_path):
    words = ("reconstruct", photos, "--model", model, "--effort", 2)
    for tune in ("psnr", "ssim"):
        assert rotvq(*words, "--tune", tune, "-o", tmp_path / tune).status == 0
    pictures = [(tmp_path / tune / "a/0.png").read_bytes() for tune in ("psnr", "ssim")]
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
def test_tuning_needs_an_effort(rotvq, model, photos, tmp_path, command):
    words = ("--model", model, "-o", tmp_path / "t.npz", "--tune", "ssim")
    assert "--tune: expected --effort with it" in rotvq(command, photos, *words).error


@pytest.mark.parametrize("command", ["encode", "reconstruct"])
@pytest.mark.parametrize("effort", ["10", "-1", "much"])
def test_efforts_out_of_range_are_refused(rotvq, model, photos, tmp_path, command, effort):
    words = ("--model", model, "-o", tmp_path / "t.npz", "--effort", effort)
    assert "--effort" in rotvq(command, photos, *words).error


def test_images_are_resized_and_cropped_on_request(rotvq, model, photos, tmp_path):
    words = [photos, "--model", model, "--size", "16x24", "-o"]
    assert rotvq("encode", *words, tmp_path / "t.npz").status == 0
    assert {*load_tokens(tmp_path / "t.npz").sizes} == {(16, 24)}
    assert rotvq("reconstruct", *words, tmp_path / "r").status == 0
    assert {pixels_of(each).shape[:2] for each in (tmp_path / "r").glob("*.png")} == {(16, 24)}
    error = rotvq("encode", *words[:-2], "2", "-o", tmp_path / "u.npz").error
    assert "size: expected a side in pixels or HEIGHTxWIDTH" in error


def test_originals_are_not_replaced_by_their_reconstructions(rotvq, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (16, 16), "teal").save(folder / "a.png")
    before = (folder / "a.png").read_bytes()
    for words in (["-o", folder], ["-o", f"{folder}/../photos", "--overwrite"]):
        assert rotvq("reconstruct", folder, *words).status == 2
    assert (folder / "a.png").read_bytes() == before
