"""The one place that reads Python's object format, for CIFAR's python batches: plain data only.

The format is a program for a small machine that can call any importable function. Here nothing is
importable: the five names that numpy arrays need are answered by classes of this file, which keep
bytes and build the array with numpy.frombuffer at the end. Before the machine runs, every
instruction is checked against a list and memo positions against the length of the program, so that
a short file cannot ask for much memory.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
from typing import Any

import numpy as np

from vitrail.errors import DataError

MAX_BYTES = 512 * 2**20
_MAX_DEPTH = 16
_OPEN = object()  # marks a container that is being visited
_INSTRUCTIONS = frozenset(
    # numbers, strings, bytes
    "INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT NONE NEWTRUE NEWFALSE STRING BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE SHORT_BINUNICODE BINUNICODE "
    # containers, the stack and the memo
    "EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM "
    "SETITEMS POP DUP MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE "
    # numpy arrays
    "BYTEARRAY8 GLOBAL STACK_GLOBAL REDUCE BUILD PROTO FRAME STOP".split()
)
_FAULTS = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    MemoryError,
    OverflowError,
    RecursionError,
    ImportError,
)


class _Type:
    """Stands for numpy.dtype: a plain number type by its code, such as "u1"."""

    def __init__(self, code: Any, *_: Any) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(text, str) or text.lstrip("<>|=")[:1] not in tuple("biuf"):
            raise ValueError(f"array of type {code!r}; plain numbers are accepted")
        self.code = text

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {order!r}")
        self.code = order + self.code.lstrip("<>|=")


class _Array:
    """Stands for numpy.ndarray while the file is read."""

    def __init__(self, *_: Any) -> None:
        self.value = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.value = _array(raw, kind, shape, "F" if fortran else "C")


class _Ndarray:
    """What the name numpy.ndarray resolves to: an argument of _reconstruct, never called."""

    def __init__(self, *_: Any) -> None:
        raise ValueError("numpy.ndarray called")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("state for numpy.ndarray itself")


class _FromBuffer(_Array):
    """Stands for numpy's reader of arrays that were written with protocol 5."""

    def __init__(self, raw: Any, kind: Any, shape: Any, order: Any) -> None:
        self.value = _array(raw, kind, shape, order)


class _Bytes:
    """Stands for _codecs.encode, with which Python 3 writes bytes in protocol 2."""

    def __init__(self, text: Any, encoding: Any = "latin1") -> None:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", b"latin1"):
            raise ValueError("bytes in an unknown encoding")
        self.value = text.encode("latin-1")

    def __setstate__(self, state: Any) -> None:
        raise ValueError("state for bytes")


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    raw = raw.value if isinstance(raw, _Bytes) else raw
    data = raw.encode("latin-1") if isinstance(raw, str) else raw
    if (
        not isinstance(data, bytes | bytearray)
        or not isinstance(kind, _Type)
        or order not in ("C", "F")
    ):
        raise ValueError("array without plain data")
    return np.frombuffer(data, dtype=np.dtype(kind.code)).reshape(shape, order=order).copy()


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Bytes,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a numpy name; anything else is refused."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _NAMES[module, name]


def load_numpy_pickle(data: bytes) -> object:
    """Dicts, lists, tuples, numbers, strings, bytes and numpy arrays of numbers; nothing else.

    Strings of Python 2 come out as bytes. Raises DataError VIT-319 for anything else or damage.
    """
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes; limit {MAX_BYTES}")
        with warnings.catch_warnings():  # of the parser, about escapes in damaged strings
            warnings.simplefilter("ignore")
            _check_instructions(data)
            return _plain(_Reader(io.BytesIO(data), encoding="bytes").load(), {}, 0)
    except _FAULTS as error:
        raise DataError(
            "VIT-319",
            f"python batch is refused: {str(error) or type(error).__name__}. Expected a dict of "
            "numbers, strings and numpy arrays.",
            hint="Use the binary version of the data set.",
        ) from error


def _check_instructions(data: bytes) -> None:
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name not in _INSTRUCTIONS:
            raise ValueError(f"instruction {instruction.name}")
        if instruction.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise ValueError("memo position beyond the end of the file")


def _plain(value: Any, seen: dict[int, Any], depth: int) -> Any:
    """`value` with arrays in place of their stand-ins; shared parts are visited once."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deep")
    if isinstance(value, str | bytes | int | float | type(None)):
        return value
    if id(value) in seen:
        if seen[id(value)] is _OPEN:
            raise ValueError("it contains itself")
        return seen[id(value)]
    seen[id(value)] = _OPEN
    if isinstance(value, _Array | _Bytes):
        result: Any = value.value
    elif isinstance(value, dict):
        result = {
            key.value if isinstance(key, _Bytes) else key: _plain(item, seen, depth + 1)
            for key, item in value.items()
        }
    elif isinstance(value, list | tuple):
        result = type(value)(_plain(item, seen, depth + 1) for item in value)
    else:
        raise ValueError("it holds something other than plain data")
    seen[id(value)] = result
    return result
