"""Tar headers: what tarfile writes, in every format, and what no honest writer does."""

import io
import random
import tarfile

import pytest

from rotvq.data_processing.tar import BLOCK, TarError, content, members

NAMES = [
    "a.png",
    "folder/b.jpg",
    "ü/写真 1.jpg",
    "n" * 90 + ".png",
    "d" * 120 + "/" + "e" * 90 + ".png",
    "long/" * 60 + "f.webp",
]


def archive(files, format_=tarfile.PAX_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format_) as written:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            written.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def read(data, end=None):
    file = io.BytesIO(data)
    found = members(file, len(data) if end is None else end)
    return [(member.name, content(file, member)) for member in found]


def header(name=b"a.png", size=b"00000000000", kind=b"0", data=b""):
    """One header with a right checksum, and what follows it."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block) + data + bytes(-len(data) % BLOCK)


def octal(number):
    return b"%011o" % number


def negative(number):
    return b"\xff" + (256**11 - number).to_bytes(11, "big")


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tarfile_is_read(format_):
    names = NAMES[:5] if format_ == tarfile.USTAR_FORMAT else NAMES
    generator = random.Random(0)
    files = {name: generator.randbytes(100 * i) for i, name in enumerate(names)}
    assert dict(read(archive(files, format_))) == files


def test_joined_archives_are_read_through():
    joined = archive({"a": b"1"}) + archive({"b": b"2"})
    assert read(joined) == [("a", b"1"), ("b", b"2")]


def test_an_archive_without_its_end_is_read():
    data = archive({"a": b"1", "b": b"2"})
    assert read(data[: 4 * BLOCK]) == [("a", b"1"), ("b", b"2")]


def test_folders_are_left_out_and_links_have_no_content():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as written:
        for name, kind in (("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "d/elsewhere"
            written.addfile(member)
    found = list(members(io.BytesIO(stream.getvalue()), 10**6))
    assert [(member.name, member.offset) for member in found] == [("l", None), ("h", None)]


def test_sizes_in_base_256_and_in_extended_headers_are_read():
    large = b"\x80" + (3).to_bytes(11, "big")
    assert read(header(size=large, data=b"abc")) == [("a.png", b"abc")]
    extended = header(size=octal(9), kind=b"x", data=b"9 size=3\n")
    assert read(extended + header(data=b"abc")) == [("a.png", b"abc")]


@pytest.mark.parametrize(
    "data, message",
    [
        (header(size=negative(512)), "negative size"),
        (header(size=b"-0000001000"), "negative size"),
        (header(size=negative(1024), kind=b"x"), "negative size"),
        (header(size=octal(2**30), kind=b"x"), "truncated"),
        (header(size=octal(2**21), kind=b"x", data=bytes(2**21)), "header of 2,097,152 bytes"),
        (header(size=octal(2**21), kind=b"L", data=b"n" * 2**21), "header of 2,097,152 bytes"),
        (header(size=octal(5000), kind=b"L", data=b"n" * 5000) + header(), "name of 5,000 bytes"),
        (header(kind=b"S"), "sparse"),
        (
            header(size=octal(22), kind=b"x", data=b"22 GNU.sparse.major=1\n") + header(),
            "sparse",
        ),
        (header(size=octal(10), kind=b"x", data=b"9999 path=") + header(), "extended header is"),
        (header(size=octal(9), kind=b"x", data=b"-9 path=a") + header(), "extended header is"),
        (header(size=octal(9), kind=b"x", data=b"0 path=a\n") + header(), "extended header is"),
        (header(size=b"99999999999"), "header is damaged"),
        (header().replace(b"a.png", b"b.png"), "header is damaged"),
        (archive({"a": b"1"}) + b"x" * BLOCK, "header is damaged"),
        (header(size=octal(3)), "truncated"),
        (header()[:300], "truncated"),
        (b"", "truncated"),
        (header(size=b"\x80" + (2**80).to_bytes(11, "big")), "truncated"),
    ],
)
def test_archives_that_no_regular_writer_produces_are_refused(data, message):
    with pytest.raises(TarError, match=message):
        read(data)


def test_damage_in_the_middle_of_an_archive_is_reported():
    data = bytearray(archive({name: b"1" for name in "abcd"}))
    data[2 * BLOCK + 3] ^= 1  # the header of b
    with pytest.raises(TarError, match="damaged"):
        read(bytes(data))
