from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from rotvq.errors import UserError
from rotvq.report import style, tiles
from rotvq.run_record import load_run, load_runs


def entries(runs):
    return [
        (run.label, tiles.last_pairs(run), style.color(n))
        for n, run in enumerate(runs)
        if run.pictures
    ]


def test_tiles_are_cut_in_reading_order(tmp_path):
    height, width, columns, pairs = 2, 3, 5, 2
    values = np.arange(pairs * 2 * columns, dtype=np.uint8).reshape(pairs * 2, columns)
    Image.fromarray(values.repeat(height, 0).repeat(width, 1)).save(tmp_path / "grid.png")

    originals, reconstructions = tiles.read_pairs(tmp_path / "grid.png", height, width)

    for pair in range(pairs):
        assert originals[pair].shape == (columns, height, width, 3)
        assert (originals[pair] == values[2 * pair][:, None, None, None]).all()
        assert (reconstructions[pair] == values[2 * pair + 1][:, None, None, None]).all()


@pytest.mark.parametrize("size", [(6, 5), (7, 4), (6, 2)])
def test_a_picture_of_another_shape_is_refused(tmp_path, size):
    file = tmp_path / "grid.png"
    Image.new("RGB", size).save(file)
    with pytest.raises(UserError, match=f"grid.png: .* {size[0]}x{size[1]} pixels"):
        tiles.read_pairs(file, 2, 3)


def test_a_damaged_picture_is_refused(make_run):
    file = load_run(make_run(epochs=1)).pictures[1]
    whole = file.read_bytes()
    for broken in (b"", b"no picture", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(UserError, match=r"epoch_0001\.png: expected a PNG"):
            tiles.read_pairs(file, 16, 16)


def test_milestones_are_the_nearest_recorded_epochs():
    assert tiles.milestones(range(1, 41)) == [1, 10, 20, 30, 40]
    assert tiles.milestones([1, 12, 24, 40]) == [1, 12, 24, 40]
    assert tiles.milestones([3]) == [3]


def test_runs_on_the_same_images_share_their_originals(make_run):
    runs = load_runs([make_run("a", epochs=1), make_run("b", epochs=1, quality=0.3)])
    (blocks,) = tiles.grouped(entries(runs))

    assert [[row.label for row in block] for block in blocks] == [["original", "a", "b"]] * 2
    assert not np.array_equal(blocks[0][1].tiles, blocks[0][2].tiles)


def test_runs_on_different_images_have_a_picture_each(make_run):
    runs = load_runs([make_run("a", epochs=1), make_run("b", epochs=1, side=8, columns=4)])
    groups = tiles.grouped(entries(runs))
    assert [[row.label for row in blocks[0]] for blocks in groups] == [
        ["original", "a"],
        ["original", "b"],
    ]


def test_tiles_are_enlarged_without_smoothing():
    tile = np.zeros((4, 16, 16, 3), np.uint8)
    tile[:, ::2] = (200, 10, 10)
    drawn = tiles.draw([[tiles.Row("", tile)]])
    image = Image.open(BytesIO(drawn.png)).convert("RGB")

    colors = {color for _, color in image.getcolors()}
    assert image.width == drawn.width
    assert colors == {(255, 255, 255), (0, 0, 0), (200, 10, 10)}
    assert sum(n for n, c in image.getcolors() if c != (255, 255, 255)) == 4 * 16 * 16 * 4**2


def test_progress_starts_with_the_originals(make_run):
    rows = tiles.progress_rows(load_run(make_run(epochs=8)))
    assert [row.label for row in rows] == [
        "original",
        *(f"epoch {number}" for number in (1, 2, 4, 6, 8)),
    ]
