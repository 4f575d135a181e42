"""Reads Thrift's compact protocol, the encoding of Parquet's footer and page headers.

Source: thrift-compact-protocol.md of Apache Thrift.
"""

from __future__ import annotations

from collections.abc import Iterator

INTEGERS = (4, 5, 6)
LIST, STRUCT = 9, 12


class ThriftError(ValueError):
    """Bytes that are not a valid struct."""


class Compact:
    """A struct, read from start to end.

    Args:
        content: the struct; bytes after it are ignored.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """The number and kind of each field; read or skip its value before the next one.

        Raises:
            IndexError: the content ends too early, here and in all other methods.
        """
        field = 0
        while kind := self.byte():
            field = field + (kind >> 4) if kind >> 4 else self.integer()
            yield field, kind & 15

    def elements(self) -> tuple[int, int]:
        """The number and kind of the elements of the list that follows.

        Raises:
            ThriftError: it has more elements than bytes.
        """
        header = self.byte()
        number = self.varint() if header >> 4 == 15 else header >> 4
        if number > len(self.content) - self.position:
            raise ThriftError("a list is longer than what holds it")
        return number, header & 15

    def skip(self, kind: int, depth: int = 8) -> None:
        """Skip a value.

        Raises:
            ThriftError: it is nested too deeply or of an unknown kind.
        """
        if not depth:
            raise ThriftError("structs are nested too deeply")
        if kind in INTEGERS:
            self.varint()
        elif kind == 3:
            self.byte()
        elif kind == 7:
            self.position += 8
        elif kind == 8:
            self.bytes()
        elif kind in (LIST, 10):
            number, inner = self.elements()
            for _ in range(number):
                # A boolean is part of its field's kind, but a byte in a list.
                self.skip(3 if inner in (1, 2) else inner, depth - 1)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth - 1)
        elif kind not in (1, 2):
            raise ThriftError("a field is of no known kind")

    def byte(self) -> int:
        self.position += 1
        return self.content[self.position - 1]

    def bytes(self) -> bytes:
        length = self.varint()
        self.position += length
        return self.content[self.position - length : self.position]

    def integer(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)  # zigzag

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("an integer is too long")
