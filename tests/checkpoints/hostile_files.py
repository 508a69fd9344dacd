"""Files that no model needs: what each is called, and a function that writes it."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

GOOD = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5)}
Maker = Callable[[Path], None]


class Calls:
    """Asks to be rebuilt by calling `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def npy(head: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """One array with a header of any text."""
    text = head.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def safetensors(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    """A header of any JSON, or of any bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def entry(first: int, last: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


def torch_zip(pickled: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """As torch.save writes, with any description."""
    members = {"archive/data.pkl": pickled, "archive/byteorder": b"little"}
    members |= {f"archive/data/{key}": value for key, value in (storages or {}).items()}
    return archive(members)


def described(rebuilt: str, storage: str = "FloatStorage") -> bytes:
    """{'a': tensor} whose storage has 4 numbers and whose offset, shape and strides are `rebuilt`,
    lines of protocol 0."""
    return (
        f"(dp0\nVa\np1\nctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\n{storage}\n"
        f"V0\nVcpu\nI4\ntQ{rebuilt}I00\n(dtRs."
    ).encode()


def saved(value: Any, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def many_zip(count: int, size: int) -> bytes:
    """The end of a zip file whose table has `count` entries in `size` bytes."""
    end = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, 4)
    end += b"PK\x06\x07" + struct.pack("<IQI", 0, 4, 1)
    end += b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return b"PK\x03\x04" + end


def many_tensors(count: int) -> bytes:
    """`count` names for one tensor, each rebuilt anew."""
    one = "Va%d\nctorch._utils\n_rebuild_tensor_v2\n(g0\nI0\n(I1\nt(I1\ntI00\n(dtR"
    storage = "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQp0\n0"
    return (storage + "(d" + "".join((one % i) + "s" for i in range(count)) + ".").encode()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


HEAD = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
BASE = safetensors({"a": entry(0, 8), "b": entry(8, 16)}, b"\0" * 16)
LOOP = b"\x80\x02]q\x00h\x00a."  # a list that holds itself
COLLIDE = pickle.dumps({"a": {i * (2**61 - 1): 0 for i in range(1_000)}})

# name: (bytes, code, words that the message must hold)
FILES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "VIT-431", "empty"),
    "noise": (bytes(range(256)) * 9, "VIT-431", "unknown kind"),
    "zeros": (b"\0" * 1000, "VIT-431", "unknown kind"),
    "web page": (b"<!DOCTYPE html><html>404", "VIT-431", "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "VIT-431", "Git LFS"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "VIT-431", "HDF5"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, "VIT-431", "7z"),
    "other zip": (archive({"a.txt": b"hello"}), "VIT-431", "a.txt"),
    # pickles
    "os.system": (saved(Calls(os.system, "touch CANARY")), "VIT-402", "posix.system"),
    "legacy os.system": (
        saved(Calls(os.system, "touch CANARY"), legacy=True),
        "VIT-402",
        "posix.system",
    ),
    "eval in a tensor's place": (
        saved({"model": {"a": Calls(eval, "open('CANARY','w').close()")}}),
        "VIT-402",
        "__builtin__.eval",
    ),
    "bare pickle": (pickle.dumps(Calls(os.system, "touch CANARY")), "VIT-402", "posix.system"),
    "protocol 0": (pickle.dumps(Calls(os.system, "touch CANARY"), 0), "VIT-431", "unknown kind"),
    "getattr": (
        torch_zip(b"c__builtin__\ngetattr\n(Vx\nVy\ntR."),
        "VIT-402",
        "__builtin__.getattr",
    ),
    "import by name": (
        torch_zip(b"cpkgutil\nresolve_name\n(Vos:system\ntR."),
        "VIT-402",
        "pkgutil.resolve_name",
    ),
    "numpy code": (
        torch_zip(b"cnumpy.testing._private.utils\nrunstring\n(Vx\n}tR."),
        "VIT-402",
        "runstring",
    ),
    "torch's own loader": (
        torch_zip(b"ctorch.storage\n_load_from_bytes\n(Vx\ntR."),
        "VIT-402",
        "_load_from_bytes",
    ),
    "extension code": (torch_zip(b"\x80\x02\x82\x01."), "VIT-402", "cannot be read"),
    "no table": (saved([torch.ones(2)]), "VIT-402", "no table of tensors"),
    "no tensors": (saved({"epoch": 3}), "VIT-402", "tables of tensors"),
    "holds itself": (torch_zip(LOOP), "VIT-402", "no table"),
    "memo of 2 GB": (torch_zip(b"\x80\x02}r\xff\xff\xff\x7f."), "VIT-402", "memory"),
    "string of 4 GB": (torch_zip(b"\x80\x02X\xff\xff\xff\xff."), "VIT-402", "cannot be read"),
    "truncated pickle": (torch_zip(pickle.dumps({"a": 1})[:-3]), "VIT-402", "cannot be read"),
    "keys that collide": (torch_zip(COLLIDE), "VIT-402", "tables of tensors"),
    "2 million lists": (torch_zip(b"\x80\x02" + b"]" * 2_000_000 + b"."), "VIT-402", "no table"),
    "huge description": (torch_zip(b"\x80\x02" + b"N" * (17 * 2**20)), "VIT-411", "description"),
    "torchscript": (
        archive({"a/data.pkl": b"\x80\x02}.", "a/constants.pkl": b""}),
        "VIT-402",
        "TorchScript",
    ),
    "two descriptions": (
        archive({"a/data.pkl": b"", "b/data.pkl": b""}),
        "VIT-412",
        "2 descriptions",
    ),
    "shape beyond storage": (
        torch_zip(described("I0\n(I5\nt(I1\nt"), {"0": b"\0" * 16}),
        "VIT-412",
        "does not fit",
    ),
    "offset beyond storage": (
        torch_zip(described("I9\n(I1\nt(I1\nt"), {"0": b"\0" * 16}),
        "VIT-412",
        "does not fit",
    ),
    "one number 10^12 times": (
        torch_zip(described("I0\n(I1000000\nI1000000\nt(I0\nI0\nt"), {"0": b"\0" * 16}),
        "VIT-411",
        "4000000000000 bytes",
    ),
    "one number 100 times": (
        torch_zip(described("I0\n(I10\nI10\nt(I0\nI0\nt"), {"0": b"\0" * 16}),
        "VIT-412",
        "does not fit",
    ),
    "60,000 tensors in a pickle": (
        torch_zip(many_tensors(60_000), {"0": b"\0" * 16}),
        "VIT-402",
        "more than 50,000 tensors",
    ),
    "negative stride": (
        torch_zip(described("I3\n(I2\nt(I-1\nt"), {"0": b"\0" * 16}),
        "VIT-412",
        "strides",
    ),
    "storage missing": (torch_zip(described("I0\n(I2\nt(I1\nt")), "VIT-412", "no values"),
    "legacy truncated": (saved(GOOD, legacy=True)[:-7], "VIT-402", "ends before"),
    "legacy numbers only": (pickle.dumps(3), "VIT-402", "refused"),
    # npz
    "object array": (npz(a=np.array([{}, []], object)), "VIT-402", "Python objects"),
    "truncated zip": (npz(a=np.zeros(99))[:-30], "VIT-412", "table"),
    "no array": (archive({"a.npy": b"hello"}), "VIT-412", "no array"),
    "code in the header": (
        archive({"a.npy": npy("{'descr': __import__('os').system('touch CANARY')}")}),
        "VIT-412",
        "header",
    ),
    "absurd shape": (archive({"a.npy": npy(HEAD % ("9" * 30))}), "VIT-412", "absurd shape"),
    "shape without values": (
        archive({"a.npy": npy(HEAD % "10000000000, 4")}),
        "VIT-412",
        "expected 160000000000",
    ),
    "40 axes": (archive({"a.npy": npy(HEAD % ("1," * 40), b"\0" * 4)}), "VIT-412", "absurd"),
    "structured": (
        archive({"a.npy": npy("{'descr': [('x','<f4')], 'fortran_order': False, 'shape': (1,)}")}),
        "VIT-412",
        "header",
    ),
    "text": (npz(a=np.array(["hello"])), "VIT-412", "type"),
    "table cut off": (many_zip(99, 5400), "VIT-412", "ends before"),
    "10^7 members": (many_zip(10**7, 54 * 10**7), "VIT-411", "members"),
    "zip bomb": (
        archive(
            {f"{i}.npy": npy(HEAD % "5000000,", b"\0" * 20_000_000) for i in range(4)},
            zipfile.ZIP_DEFLATED,
        ),
        "VIT-411",
        "packed into",
    ),
    "member twice": (
        archive({"a.npy": npy(HEAD % "0,"), "b.npy": npy(HEAD % "0,")}).replace(b"b.npy", b"a.npy"),
        "VIT-412",
        "twice",
    ),
    "overlapping members": (
        archive({"a.npy": b"\0" * 8000}).replace(
            struct.pack("<II", 8000, 8000), struct.pack("<II", 90_000, 90_000)
        ),
        "VIT-412",
        "overlap",
    ),
    "encrypted": (
        archive({"a.npy": npy(HEAD % "0,")}).replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"
        ),
        "VIT-412",
        "encrypted",
    ),
    # safetensors
    "header of 2^63 bytes": (safetensors(b"{", size=2**63), "VIT-411", "header"),
    "header beyond the end": (safetensors(b"{}", size=9999), "VIT-412", "header ends"),
    "no JSON": (safetensors(b"{x"), "VIT-412", "JSON"),
    "deep JSON": (safetensors(b'{"a":' + nested(100_000) + b"}"), "VIT-412", "JSON"),
    "repeated key": (safetensors(b'{"a":1,"a":2}'), "VIT-412", "twice"),
    "no tensor": (safetensors({"__metadata__": {}}), "VIT-412", "no tensor"),
    "overlap": (
        safetensors({"a": entry(0, 8), "b": entry(4, 12)}, b"\0" * 12),
        "VIT-412",
        "b lies",
    ),
    "all at one place": (
        safetensors({str(i): entry(0, 8) for i in range(99)}, b"\0" * 8),
        "VIT-412",
        "lies",
    ),
    "hole": (safetensors({"a": entry(0, 8), "b": entry(9, 17)}, b"\0" * 17), "VIT-412", "b lies"),
    "backwards": (safetensors({"a": entry(8, 0)}, b"\0" * 8), "VIT-412", "a lies"),
    "negative": (safetensors({"a": entry(-8, 0)}, b""), "VIT-412", "no proper"),
    "another size": (safetensors({"a": entry(0, 8, (3,))}, b"\0" * 8), "VIT-412", "expected 12"),
    "product that overflows": (
        safetensors({"a": entry(0, 8, (2**40, 2**40))}, b"\0" * 8),
        "VIT-411",
        "bytes",
    ),
    "too short": (BASE[:-1], "VIT-412", "bytes; expected"),
    "too long": (BASE + b"\0", "VIT-412", "bytes; expected"),
    "unknown type": (safetensors({"a": entry(0, 8, dtype="Q4")}, b"\0" * 8), "VIT-412", "Q4"),
    "no number": (safetensors({"a": entry(0, 8, (True, 2))}, b"\0" * 8), "VIT-412", "no proper"),
    "long name": (safetensors({"a" * 5000: entry(0, 8)}, b"\0" * 8), "VIT-411", "5000 char"),
    "10^7 tensors": (safetensors(b"{" + b" " * 50, size=700 * 10**6), "VIT-411", "header"),
    "60,000 tensors": (
        safetensors({str(i): entry(0, 0, (0,)) for i in range(60_000)}),
        "VIT-411",
        "60,000 tensors; limit 50,000",
    ),
    "notes that are no text": (
        safetensors({"__metadata__": {"a": 1}, "a": entry(0, 8)}, b"\0" * 8),
        "VIT-412",
        "metadata",
    ),
    "pickle in the name of safetensors": (
        pickle.dumps(Calls(os.system, "touch CANARY")),
        "VIT-402",
        "posix.system",
    ),
}


def intact() -> dict[str, bytes]:
    """Files that can be read, to be damaged."""
    return {
        "npz": npz(**{key: value.numpy() for key, value in GOOD.items()}),
        "safetensors": save(GOOD),
        "zip": saved(GOOD),
        "legacy": saved(GOOD, legacy=True),
    }
