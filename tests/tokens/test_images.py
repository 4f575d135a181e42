"""encode_images and decode_images: every kind of input, and the tokens of the command line."""

import doctest

import numpy as np
import pytest
import torch
from PIL import Image

import rotvq
from rotvq.cli.main import main
from rotvq.errors import UserError
from rotvq.tokens import images as module


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    quantizer = rotvq.VectorQuantizer(64, 8, channel_dim=1)
    net = rotvq.VQVAE(width=8, dim=8, depth=1, quantizer=quantizer).eval()
    with torch.no_grad():
        quantizer.initialize_codebook(net.encoder(torch.rand(16, 3, 16, 16) * 2 - 1))
    return net


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_docstring_example_runs():
    finder = doctest.DocTestFinder()
    (example,) = finder.find(module.encode_images, "encode_images", globs=vars(module))
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0


def test_tokens_are_those_of_the_model_and_images_come_back_at_their_sizes(model):
    pixels = [noise(16, 24, 3), noise(16, 24, 3), noise(5, 9, 3)]
    tokens = rotvq.encode_images(model, pixels)
    assert [each.shape for each in tokens] == [(4, 6), (4, 6), (2, 3)]
    assert tokens[0].dtype == np.int64
    x = torch.from_numpy(np.stack(pixels[:2])).permute(0, 3, 1, 2) / 127.5 - 1
    assert np.array_equal(np.stack([tokens[0], tokens[1]]), model.encode(x))
    images = rotvq.decode_images(model, tokens)
    assert [(image.size, image.mode) for image in images] == [
        ((24, 16), "RGB"),
        ((24, 16), "RGB"),
        ((9, 5), "RGB"),
    ]
    wanted = model.decode(torch.from_numpy(tokens[2])[None])[0].permute(1, 2, 0)[:5, :9]
    difference = np.asarray(images[2]) - (wanted.numpy() + 1) * 127.5
    assert np.abs(difference).max() <= 0.51
    (only,) = rotvq.decode_images(model, tokens[2:])
    assert np.array_equal(np.asarray(only), np.asarray(images[2]))


def test_pillow_images_paths_and_arrays_of_one_image_give_the_same_tokens(model, tmp_path):
    pixels = noise(12, 20, 3)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        inputs = [pixels, image, tmp_path / "a.png", str(tmp_path / "a.png"), opened]
        tokens = rotvq.encode_images(model, inputs)
    assert all(np.array_equal(each, tokens[0]) for each in tokens)
    assert same(rotvq.encode_images(model, pixels[None]), tokens[:1])


@pytest.mark.parametrize("shape", [(12, 20), (12, 20, 1), (12, 20, 2), (12, 20, 3), (12, 20, 4)])
def test_arrays_are_converted_as_their_png_is(model, tmp_path, shape):
    pixels = noise(*shape)
    Image.fromarray(pixels.reshape(shape[:2]) if shape[2:] == (1,) else pixels).save(
        tmp_path / "a.png"
    )
    first, second = rotvq.encode_images(model, [pixels, tmp_path / "a.png"])
    assert np.array_equal(first, second)


def test_a_model_of_gray_images_takes_and_returns_gray():
    gray = rotvq.VQVAE(channels=1, width=8, dim=8, depth=1)
    tokens = rotvq.encode_images(gray, [noise(8, 8), noise(8, 8, 3)])
    assert [image.mode for image in rotvq.decode_images(gray, tokens)] == ["L", "L"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_and_the_image_does_not_change(
    model, tmp_path, orientation
):
    image = Image.fromarray(noise(12, 20, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        from_path, from_pillow = rotvq.encode_images(model, [tmp_path / "a.png", opened])
        assert opened.size == (20, 12) and opened.getexif()[0x0112] == orientation
    upright = np.asarray(image)
    upright = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright[::-1].transpose(1, 0, 2),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    (wanted,) = rotvq.encode_images(model, [np.ascontiguousarray(upright)])
    assert np.array_equal(from_path, wanted) and np.array_equal(from_pillow, wanted)


def test_tokens_and_images_are_those_of_the_command_line(model, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(noise(16, 24, 3)).save(folder / "0.png")
    Image.fromarray(noise(13, 22, 4)).save(folder / "1.png")
    Image.fromarray(noise(30, 9)).save(folder / "2.jpg")
    model.save_pretrained(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "-o"]
    assert main(["encode", str(folder), *words, str(tmp_path / "t.npz")]) == 0
    assert main(["decode", str(tmp_path / "t.npz"), *words, str(tmp_path / "decoded")]) == 0
    tokens = rotvq.encode_images(model, sorted(folder.iterdir()))
    written = rotvq.load_tokens(tmp_path / "t.npz")
    assert same(tokens, written) and tokens.sizes == list(written.sizes)
    files = [tmp_path / "decoded" / name for name in ("0.png", "1.png", "2.jpg.png")]
    for image, file in zip(rotvq.decode_images(model, written), files, strict=True):
        with Image.open(file) as opened:
            assert np.array_equal(np.asarray(image), np.asarray(opened))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_saved_tokens_are_loaded(model, tmp_path, suffix):
    tokens = rotvq.encode_images(model, [noise(8, 8, 3), noise(5, 9, 3)])
    rotvq.save_tokens(tokens, str(tmp_path / f"t{suffix}"))
    assert same(rotvq.load_tokens(str(tmp_path / f"t{suffix}")), tokens)


def test_an_image_that_cannot_be_read_is_named(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    good = noise(8, 8, 3)
    for bad, message in (
        (tmp_path / "bad.png", r"images\[1\]: expected a readable image; .*bad\.png: not an image"),
        (tmp_path / "none.png", r"images\[1\]: .*none\.png: .*No such file"),
        (noise(2, 2, 3), r"images\[1\]: expected a readable image; below 4 pixels a side"),
        (good / 255, r"images\[1\]: expected uint8 of shape \(height, .*got float64 \(8, 8, 3\)"),
        (good.transpose(2, 0, 1), r"images\[1\]: expected uint8 .*got uint8 \(3, 8, 8\)"),
        (torch.zeros(8, 8, 3), r"images\[1\]: expected a Pillow image.* got Tensor"),
    ):
        with pytest.raises(UserError, match=message):
            rotvq.encode_images(model, [good, bad])


@pytest.mark.parametrize("one", ["a.png", Image.new("RGB", (8, 8)), noise(8, 8, 3), noise(8, 8)])
def test_a_single_image_without_a_list_is_refused(model, one):
    with pytest.raises(UserError, match="expected a list of images; got a single one"):
        rotvq.encode_images(model, one)
