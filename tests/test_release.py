"""The training tiles and the model card of the bundled models."""

import importlib.util
import io
import re
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RELEASE = Path(__file__).parents[1] / "scripts/release"


def module(name):
    spec = importlib.util.spec_from_file_location(f"release_{name}", RELEASE / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def crops():
    return module("crops")


@pytest.fixture(scope="module")
def card():
    return module("card")


def png(width, height):
    """A PNG file whose red is the column and green the row, both in steps of 1/4."""
    columns, rows = np.meshgrid(np.arange(width) // 4, np.arange(height) // 4)
    pixels = np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_every_package_is_pinned_and_every_picture_has_a_package_and_a_license(crops):
    packages, pictures = crops.packages(), crops.pictures()
    assert len({(row["package"], row["picture"]) for row in pictures}) == len(pictures) > 150
    assert {row["package"] for row in pictures} == set(packages)
    for registry, version, digest in packages.values():
        assert registry in crops.FETCH and version and re.fullmatch("[0-9a-f]{64}", digest)
    free = re.compile(r"CC0-1.0|CC-BY(-SA)?-\d\.\d|public-domain")
    for row in pictures:
        assert free.fullmatch(row["license"]), row
        assert row["author"], row


def test_no_picture_is_one_of_the_test_photographs(crops):
    names = " ".join(row["picture"].lower() for row in crops.pictures())
    for name in ("skimage", "astronaut", "chelsea", "coffee.png", "rocket", "motorcycle", "retina"):
        assert name not in names


def test_tiles_are_the_same_every_time_and_come_from_all_sizes(crops):
    content = png(1000, 800)
    first, second = ([*crops.tiles("a.png", content, "key", 128, 16)] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert {tile.size for tile in first} == {(128, 128)}
    # 800, 400 and 256 pixels high; 640 is too near to 800.
    assert len(first) == 16 + 16 + 10
    assert np.array_equal(np.unique(np.diff(np.asarray(first[0])[0, :, 0].astype(int))), [0, 1])
    # At 256 pixels high, a tile shows half of the height.
    heights = [np.ptp(np.asarray(tile)[:, :, 1].astype(int)) for tile in first]
    assert heights[0] == pytest.approx(32, abs=1) and heights[-1] == pytest.approx(100, abs=2)


def test_another_key_takes_other_tiles(crops):
    content = png(300, 300)
    one, other = (next(crops.tiles("a.png", content, key, 64, 1)) for key in ("one", "other"))
    assert not np.array_equal(one, other)


def test_of_two_places_the_one_with_more_detail_is_taken(crops):
    """In a picture whose left half is flat, three tiles of four are not."""
    noise = np.random.default_rng(0).integers(0, 256, (640, 1280, 3), np.uint8)
    noise[:, :640] = 90
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    found = [
        crops.detail(tile) > 0 for tile in crops.tiles("a.png", file.getvalue(), "key", 32, 400)
    ]
    assert np.mean(found[:400]) == pytest.approx(0.75, abs=0.06)


def test_pictures_smaller_than_a_tile_give_none(crops):
    assert [*crops.tiles("a.png", png(300, 100), "key", 128, 16)] == []


def test_a_finished_folder_is_left_alone_and_an_unfinished_one_is_replaced(crops, tmp_path):
    folder = tmp_path / "train/one"
    partial = folder.with_name(".one.part")
    partial.mkdir(parents=True)
    (partial / "0099.png").touch()
    crops.write(folder, iter([Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4))]))
    assert sorted(path.name for path in folder.iterdir()) == ["0000.png", "0001.png"]
    assert not partial.exists()
    untouched = iter([Image.new("RGB", (4, 4))])
    crops.write(folder, untouched)
    assert next(untouched)


def resource(files):
    """A Qt resource file of version 1: one folder with files, every second one packed."""
    texts = ["a", *files]
    names, data, offsets = b"", b"", []
    for text in texts:
        offsets.append(len(names))
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
    entries = [struct.pack(">IHII", 0, 2, 1, 1), struct.pack(">IHII", 0, 2, len(files), 2)]
    for number, content in enumerate(files.values()):
        packed = number % 2
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if packed else content
        entries.append(struct.pack(">IHHHI", offsets[number + 1], packed, 0, 1, len(data)))
        data += struct.pack(">I", len(stored)) + stored
    tree = b"".join(entries)
    head = struct.pack(">4sIIII", b"qres", 1, 20, 20 + len(tree), 20 + len(tree) + len(data))
    return head + tree + data + names


def test_the_files_in_a_resource_file(crops):
    files = {"one.webp": b"1234", "two.webp": b"5" * 1000}
    found = dict(crops.resources(resource(files)))
    assert found == {f"/a/{name}": content for name, content in files.items()}


def test_the_wanted_files_in_a_package(crops, tmp_path):
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/one.png", b"1")
        archive.writestr("x/other.png", b"2")
        archive.writestr("x/some.rcc", resource({"p.png": b"3", "q.png": b"4"}))
    wanted = ["x/one.png", "x/some.rcc:/a/q.png", "x/none.png"]
    found = dict(crops.contents(path, wanted))
    assert found == {"x/one.png": b"1", "x/some.rcc:/a/q.png": b"4"}


def test_a_package_with_another_checksum_is_refused(crops, tmp_path):
    (tmp_path / ("0" * 16)).mkdir()
    (tmp_path / ("0" * 16) / "p.whl").write_bytes(b"other")
    with pytest.raises(SystemExit, match=r"expected p 1\.0 with SHA-256 0{64}; got d9298a10"):
        crops.fetched("p", "pypi", "1.0", "0" * 64, tmp_path)


def test_the_card_lists_the_measurement_and_the_licenses(card):
    values = {"effort 0": {"psnr_per_image": 30.0}, "JPEG": {"psnr_per_image": 31.25}}
    record = {
        "model": {"name": "rotvq-f4"},
        "pictures": {"cat": values},
        "mean_of_everyday": values,
        "mean_of_all": values,
        "protocol": {"rate": "the same"},
    }
    text = card.measured(record)
    assert "| photograph | effort 0 | JPEG |" in text and "| cat | 30.00 | 31.25 |" in text
    rows = [{"license": name} for name in ("CC0-1.0", "CC-BY-2.0", "CC-BY-2.0")]
    assert card.licenses(rows) == "- CC-BY-2.0: 2\n- CC0-1.0: 1"
