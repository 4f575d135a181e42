"""Thrift's compact protocol, against structs that are written out by hand."""

import pytest

from rotvq.data_processing.thrift import INTEGERS, Compact, ThriftError


def varint(n):
    parts = []
    while n > 127:
        parts.append(n & 127 | 128)
        n >>= 7
    return bytes([*parts, n])


def integer(n):
    return varint(n << 1 if n >= 0 else (-n << 1) - 1)


STRUCT = b"".join(
    [
        b"\x15" + integer(-70_000),  # 1: i32
        b"\x11\x12",  # 2: true, 3: false
        b"\x13\x7f",  # 4: byte
        b"\x17" + bytes(8),  # 5: double
        b"\x18" + varint(300) + bytes(300),  # 6: binary
        b"\x19\x35" + integer(1) + integer(2) + integer(3),  # 7: list of three integers
        b"\x19\xf1" + varint(20) + bytes(20),  # 8: list of twenty truth values
        b"\x1c\x15" + integer(9) + b"\x00",  # 9: struct
        b"\x06" + integer(40) + integer(2**40),  # 40: i64, its number written out
        b"\x00",
    ]
)


def numbers(content):
    struct, found = Compact(content), {}
    for field, kind in struct.fields():
        if kind in INTEGERS:
            found[field] = struct.integer()
        else:
            struct.skip(kind)
    return found, struct.position


def test_integers_are_read_and_all_else_is_skipped():
    assert numbers(STRUCT + b"behind it") == ({1: -70_000, 40: 2**40}, len(STRUCT))


def test_a_struct_that_is_cut_off_is_an_error_at_every_byte():
    for length in range(len(STRUCT)):
        with pytest.raises((IndexError, ThriftError)):
            numbers(STRUCT[:length])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1c" * 100, "nested too deeply"),
        (b"\x19\xf5" + varint(2**40) + b"\x00", "longer than what holds it"),
        (b"\x1e\x00", "no known kind"),
        (b"\x15" + b"\xff" * 20, "an integer is too long"),
    ],
)
def test_content_that_takes_too_long_to_read_is_refused(content, message):
    with pytest.raises(ThriftError, match=message):
        numbers(content)
