"""Reads the pickles of CIFAR-10 without executing them.

A pickle is a program. Here it can only build lists, dictionaries, numbers, strings and one kind of
array; the NumPy names that it looks up are inert records, so that a file reaches neither NumPy's
reconstruction nor any other function.
"""

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotvq.errors import UserError

TUPLES = 20
"""Maximum number of tuples in a batch; an array takes about seven."""


class Batch(NamedTuple):
    """A batch file: rows (n, 3072), uint8, in planes of channels; labels (n,), int64."""

    rows: NDArray[np.uint8]
    labels: NDArray[np.int64]


class _Dtype:
    """Stands in for numpy.dtype: keeps its code and ignores the rest."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands in for numpy.ndarray: keeps (version, shape, dtype, fortran, data)."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _encode(text: object, *_: object) -> bytes:
    """Stands in for _codecs.encode, which Python 3 uses for bytes in protocol 2."""
    if not isinstance(text, str):
        raise UserError("its bytes are not written as text")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in _ALLOWED:
            raise UserError(f"it asks for {module}.{name}, which is refused")
        return _ALLOWED[module, name]


def read_batch(content: bytes, name: str) -> Batch:
    """Read a batch file (a Python 2 pickle) without executing it.

    Raises:
        UserError: it holds anything but uint8 rows of 3,072 and labels 0…9.
    """
    try:
        _check_program(content)
        return _batch(_Unpickler(io.BytesIO(content), encoding="bytes").load())
    except UserError as error:
        raise UserError(f"{name}: expected a CIFAR-10 batch; {error}") from None
    # Damaged pickles raise almost anything (UnpicklingError, EOFError, KeyError, MemoryError…).
    except Exception as error:
        raise UserError(
            f"{name}: expected a CIFAR-10 batch; it is damaged or cut short "
            f"({type(error).__name__}). Download it again."
        ) from None


def _check_program(content: bytes) -> None:
    """Check that a pickle takes no more memory and time than its size suggests.

    Raises:
        UserError: a memo index exceeds the number of steps, or tuples are nested; as a key, each
            level would double the time.
    """
    tuples = 0
    for steps, (code, argument, _) in enumerate(pickletools.genops(content)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > steps:
            raise UserError("it allocates more memory than it can fill")
        tuples += code.name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
        if tuples > TUPLES or code.name in ("DUP", "FROZENSET"):
            raise UserError("its nesting is not that of a batch")


def _batch(content: object) -> Batch:
    if not isinstance(content, dict):
        raise UserError(f"expected a dictionary; got {type(content).__name__}")
    rows = _rows(_entry(content, "data"))
    labels = _entry(content, "labels")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise UserError("expected its 'labels' to be a list of integers")
    if len(labels) != len(rows):
        raise UserError(f"it holds {len(rows)} images and {len(labels)} labels")
    if not all(0 <= label <= 9 for label in labels):
        raise UserError("expected labels 0 to 9")
    return Batch(rows, np.array(labels, np.int64))


def _entry(content: dict[Any, Any], key: str) -> object:
    if key.encode() in content:
        return content[key.encode()]
    if key in content:
        return content[key]
    raise UserError(f"expected an entry '{key}'")


def _rows(array: object) -> NDArray[np.uint8]:
    match array:
        case _Array(state=(_, (int(n), 3072), _Dtype(code=b"u1" | "u1"), False | 0, bytes(data))):
            if len(data) != n * 3072:
                raise UserError(f"{n} rows need {n * 3072} bytes; got {len(data)}")
            return np.frombuffer(data, np.uint8).reshape(n, 3072)
    raise UserError("expected its 'data' to be a uint8 array (n, 3072) in C order")
