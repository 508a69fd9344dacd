"""Reads Python's object format, as a program of its own: nothing but Python's standard library is
imported, and no name of the file is ever looked up anywhere.

    python -I -S pickle_sandbox.py zip < data.pkl          the description inside a PyTorch file
    python -I -S pickle_sandbox.py legacy < file.pth       the format before PyTorch 1.6
    python -I -S pickle_sandbox.py batch < data_batch_1    arrays and lists of CIFAR

A second word names the table that is wanted, where there are several.

Prints one JSON object, {"refused": reason} or, of a PyTorch file: {"tensors": {name: [type,
storage, offset, shape, strides]}, "storages": {storage: [byte offset, count]} (legacy), "wrapped":
path of the table or null, "more": paths of other tables of tensors, "beside": keys that lie beside
the tables, "others": names within the table of what are no tensors}. Offsets and strides count
numbers, not bytes. Of a batch: {"values": {key: list, or of an array [type code, shape, "C" or "F",
bytes]}} and behind a line end the bytes of the arrays, in that order; bytes of Python 2 become
text, what is no UTF-8 in them surrogates.

The format is a program for a small machine that can call whatever it names. Here the names that
tensors and arrays need are answered by classes of this file, some harmless ones by an empty
stand-in, and all others end the reading. In case that is not enough, the process may not open a
file, a socket or a program, has little memory and two seconds.
"""

from __future__ import annotations

import encodings.ascii  # looked up now, because later no file may be opened
import encodings.latin_1  # noqa: F401
import io
import json
import os
import pickle
import re
import sys
from typing import Any

MAX_TENSORS = 50_000
MAX_NAME = 1_000
MEMORY_BYTES, CPU_SECS = 2**30, 2
LEGACY = (0x1950A86A20F9469CFC6C, 1001)  # magic number, protocol
STORAGES = {  # class of torch: type code, bytes of a number
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
WIDTHS = dict(STORAGES.values())
# What training scripts leave beside the weights; read as nothing.
HARMLESS = """
    argparse.Namespace collections.defaultdict collections.Counter builtins.set __builtin__.set
    builtins.slice builtins.dict builtins.complex builtins.float builtins.int builtins.list
    pathlib.PosixPath pathlib.WindowsPath pathlib.Path pathlib._local.PosixPath
    torch.Size torch.device torch.float32 torch.float16 torch.bfloat16 torch.float64
    numpy.dtype numpy.ndarray numpy.float64 numpy.float32 _codecs.encode
    numpy.core.multiarray.scalar numpy._core.multiarray.scalar
    numpy.core.multiarray._reconstruct numpy._core.multiarray._reconstruct
"""
WRAPPERS = (
    "model state_dict model_state_dict state_dict_ema model_ema module net teacher student "
    "target_encoder encoder"
).split()
BATCH_KEYS = ("data", "labels", "fine_labels", "label_names", "fine_label_names")
MAX_NESTED = 4
OPTIMIZER = re.compile("optim|schedul|scaler", re.IGNORECASE)


class Refused(Exception):
    """What ends the reading, in words for the user."""


class StorageKind:
    """A storage class by its type code; named by the file, never called."""

    def __init__(self, code: str) -> None:
        self.code = code


class Values(dict[Any, Any]):
    """Stands for OrderedDict; attributes as `_metadata` are dropped."""

    def __setstate__(self, state: object) -> None:
        return None


class Ignored:
    """Stands for a harmless object: takes anything, keeps nothing."""

    def __init__(self, *_: object) -> None:
        return None

    def __setstate__(self, state: object) -> None:
        return None

    def __setitem__(self, key: object, value: object) -> None:
        return None

    def append(self, item: object) -> None:
        """As a list."""

    def add(self, item: object) -> None:
        """As a set."""

    def extend(self, items: object) -> None:
        """As a list."""


class TensorStub:
    """Stands for a tensor: where its values are. Made by the calls that the file asks for."""

    made = 0

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        TensorStub.made += 1
        if TensorStub.made > MAX_TENSORS:
            raise Refused(f"it has more than {MAX_TENSORS:,} tensors")
        if not isinstance(storage, tuple) or len(storage) != 2:
            raise Refused("a tensor has no storage")
        for sizes in (shape, strides, (offset,)):
            if not isinstance(sizes, tuple) or not all(type(item) is int for item in sizes):
                raise Refused("a tensor has no proper shape")
        self.row = [*storage, offset, list(shape), list(strides)]

    def __setstate__(self, state: object) -> None:
        return None


class Parameter:
    """Stands for torch.nn.Parameter's rebuilding: the tensor that it gets."""

    def __new__(cls, data: Any, *_: Any) -> Any:
        """The first argument."""
        return data


NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Values,
    ("torch._utils", "_rebuild_tensor"): TensorStub,
    ("torch._utils", "_rebuild_tensor_v2"): TensorStub,
    ("torch._utils", "_rebuild_parameter"): Parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): Parameter,
    **{("torch", name): StorageKind(code) for name, (code, _) in STORAGES.items()},
    **{
        (module, name): Ignored for module, _, name in (t.rpartition(".") for t in HARMLESS.split())
    },
}


class NumberType:
    """Stands for numpy.dtype: plain numbers by their code, as "|u1"."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = text_of(code)
        if self.code.lstrip("<>|=")[:1] not in tuple("biuf"):
            raise Refused(f"it holds an array of {self.code[:20]!r}; plain numbers are accepted")

    def __setstate__(self, state: Any) -> None:
        order = text_of(state[1])
        if order not in tuple("<>|="):
            raise Refused("an array has no proper byte order")
        self.code = order + self.code.lstrip("<>|=")


class PlainBytes:
    """Stands for _codecs.encode, with which Python 3 writes bytes in protocol 2."""

    def __init__(self, text: str, encoding: Any = "latin1") -> None:
        if text_of(encoding) not in ("latin1", "latin-1"):
            raise Refused("it holds bytes in an unknown encoding")
        self.value = text.encode("latin-1")


class ArrayStub:
    """Stands for an array while a batch is read. row: type code, shape, order, bytes."""

    row: tuple[str, list[int], str, Any]

    def __init__(self, *_: Any) -> None:
        return None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.fill(raw, kind, shape, "F" if fortran else "C")

    def fill(self, raw: Any, kind: Any, shape: Any, order: Any) -> None:
        """Take what an array is made of."""
        data = raw.value if isinstance(raw, PlainBytes) else raw
        sizes = shape if isinstance(shape, tuple) else (shape,)
        plain = isinstance(data, bytes | bytearray) and all(type(size) is int for size in sizes)
        if not plain or not isinstance(kind, NumberType) or order not in ("C", "F"):
            raise Refused("it holds an array without plain data")
        self.row = (kind.code, list(sizes), order, data)


class BufferStub(ArrayStub):
    """Stands for numpy's reader of arrays that were written with protocol 5."""

    def __init__(self, raw: Any, kind: Any, shape: Any, order: Any) -> None:
        self.fill(raw, kind, shape, order)


class NeverCalled:
    """What numpy.ndarray stands for: an argument of _reconstruct."""

    def __init__(self, *_: Any) -> None:
        raise Refused("it calls numpy.ndarray")


BATCH_NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): ArrayStub,
    ("numpy._core.multiarray", "_reconstruct"): ArrayStub,
    ("numpy.core.numeric", "_frombuffer"): BufferStub,
    ("numpy._core.numeric", "_frombuffer"): BufferStub,
    ("numpy", "ndarray"): NeverCalled,
    ("numpy", "dtype"): NumberType,
    ("_codecs", "encode"): PlainBytes,
}


class Reader(pickle.Unpickler):
    """The machine, with `names` as its whole world. kinds: type code by storage key."""

    def __init__(self, file: Any, names: dict[tuple[str, str], Any] = NAMES) -> None:
        super().__init__(file, encoding="ASCII" if names is NAMES else "bytes")
        self.names = names
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; any other ends the reading."""
        if (module, name) not in self.names:
            raise Refused(f"it asks for {module[:80]}.{name[:80]}")
        return self.names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage: its type code and its key."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise Refused("it names a storage in an unknown way")
        kind, key, view = pid[1], pid[2], pid[5] if len(pid) == 6 else None
        if not isinstance(kind, StorageKind) or not isinstance(key, str) or view is not None:
            raise Refused("it names a storage in an unknown way")
        self.kinds[key] = kind.code
        return kind.code, key


def described(found: Any, wanted: str = "") -> dict[str, Any]:
    """The state dict in what was read, bare or wrapped, and the names of what lies beside it.

    Where tables of tensors lie inside, a tensor above them is a figure of training (best_acc1,
    loss), unless most tensors lie above.
    """
    if not isinstance(found, dict):
        raise Refused(f"it holds no table of tensors ({type(found).__name__})")
    tables = dict(tables_in(found))
    own, beside = len(tensors_of(found)), []
    wrapped: str | None = None
    if not tables and not own:
        raise Refused("it has no tables of tensors")
    if tables and own <= max(len(tensors_of(table)) for table in tables.values()):
        beside = [str(key)[:100] for key in found if str(key) not in tables][:20]
        words = (wanted,) if wanted else WRAPPERS
        known = [path for word in words for path in tables if path.split("/")[-1] == word]
        known = [wanted] if wanted in tables else known
        if not known and len(tables) != 1:
            return {"tables": [path[:100] for path in tables][:20]}
        wrapped = (known or list(tables))[0]
        found = tables[wrapped]
    tensors = {key: item.row for key, item in tensors_of(found).items()}
    others = [key for key in found if isinstance(key, str) and key not in tensors][:20]
    more = [path[:100] for path in tables if path != wrapped][:20] if wrapped else []
    answer = {"tensors": tensors, "wrapped": wrapped}
    return answer | {"others": others, "more": more, "beside": beside}


def tensors_of(table: dict[Any, Any]) -> dict[str, TensorStub]:
    """The tensors that lie in a table itself."""
    return {
        key: item
        for key, item in table.items()
        if isinstance(key, str) and len(key) <= MAX_NAME and isinstance(item, TensorStub)
    }


def tables_in(found: dict[Any, Any], path: str = "", depth: int = 0) -> Any:
    """(path, table) of every table of tensors inside, as "model/state_dict"; outer ones first. What
    lies inside a table of tensors is no other model, and an optimizer's moments are none.
    """
    for key, item in found.items():
        if not isinstance(item, dict) or not isinstance(key, str) or OPTIMIZER.search(key):
            continue
        place = f"{path}/{key[:100]}" if path else key[:100]
        if tensors_of(item):
            yield place, item
        elif depth < MAX_NESTED:
            yield from tables_in(item, place, depth + 1)


def read_legacy(file: Any, wanted: str = "") -> dict[str, Any]:
    """Four descriptions one after another, then count and values of each storage."""
    if (Reader(file).load(), Reader(file).load()) != LEGACY:
        raise Refused("it is no file of PyTorch")
    Reader(file).load()  # byte order and sizes of the machine that wrote it
    reader = Reader(file)
    answer = described(reader.load(), wanted)
    keys = Reader(file).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refused("it has no list of storages")
    return answer | {"storages": storages(file, keys, reader.kinds)}


def storages(file: Any, keys: list[str], kinds: dict[str, str]) -> dict[str, list[int]]:
    """Byte offset and count of each storage, in the order of the file; `kinds` are type codes."""
    end = file.seek(0, os.SEEK_CUR)
    size = file.seek(0, os.SEEK_END)
    places = {}
    for key in keys:
        file.seek(end)
        count = int.from_bytes(file.read(8), "little")
        if key not in kinds:
            raise Refused("it lists a storage that nothing uses")
        places[key] = [end + 8, count]
        end += 8 + count * WIDTHS[kinds[key]]
        if end > size:
            raise Refused(f"it ends before byte {end}")
    return places


def text_of(value: Any) -> str:
    """A text, or bytes that should have been one; what is no UTF-8 in them becomes surrogates."""
    value = value.value if isinstance(value, PlainBytes) else value
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise Refused("it holds something else where a text is expected")
    return text


def batch_of(found: Any) -> tuple[dict[str, Any], list[Any]]:
    """What belongs to a batch of what was read, and the bytes of its arrays."""
    if not isinstance(found, dict):
        raise Refused(f"it holds no table ({type(found).__name__})")
    known = {text_of(key): value for key, value in found.items()}
    values: dict[str, Any] = {}
    data = []
    for key in (key for key in BATCH_KEYS if key in known):
        value = known[key]
        if isinstance(value, ArrayStub):
            *head, raw = value.row
            data.append(raw)
            values[key] = [*head, len(raw)]
        elif isinstance(value, list | tuple):
            values[key] = [plain(item, key) for item in value]
    return {"values": values}, data


def plain(item: Any, key: str) -> int | float | str:
    """A number or a text of the list `key`."""
    if isinstance(item, str | bytes | PlainBytes):
        return text_of(item)
    if isinstance(item, int | float):
        return item
    raise Refused(f"{key}: expected numbers or texts, got {type(item).__name__}")


def enter_sandbox() -> None:
    """From here on: no files, no network, no programs, little memory and time."""
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        limits = {
            resource.RLIMIT_AS: MEMORY_BYTES,
            resource.RLIMIT_CPU: CPU_SECS,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: 3,
        }
        for kind, limit in limits.items():
            resource.setrlimit(kind, (limit, limit))
    sys.addaudithook(refuse_event)


def refuse_event(event: str, _: tuple[object, ...]) -> None:
    """Whatever Python itself reports as going outside ends the process."""
    if event.split(".")[0] in OUTSIDE:
        os.write(2, event.encode("ascii", "replace"))
        os._exit(9)


OUTSIDE = frozenset(
    "os subprocess socket open exec compile import ctypes shutil tempfile urllib http ftplib "
    "smtplib winreg marshal code webbrowser pty mmap signal fcntl sqlite3".split()
)


def main(kind: str, wanted: str = "") -> tuple[dict[str, Any], list[Any]]:
    """The answer as it is printed, and the bytes behind it."""
    try:
        if kind == "batch":
            return batch_of(Reader(sys.stdin.buffer, BATCH_NAMES).load())
        if kind == "legacy":
            return read_legacy(sys.stdin.buffer, wanted), []
        return described(Reader(io.BytesIO(sys.stdin.buffer.read())).load(), wanted), []
    except Refused as refused:
        why = str(refused)
    except RecursionError:
        why = "it is nested too deep"
    except MemoryError:
        why = "reading it takes too much memory"
    except Exception as error:  # the machine's complaints about a damaged program
        why = f"it cannot be read ({type(error).__name__}: {str(error)[:100]})"
    return {"refused": why}, []


if __name__ == "__main__":
    enter_sandbox()
    answer, rest = main(*sys.argv[1:])
    for part in (json.dumps(answer).encode() + b"\n", *rest):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()
    os._exit(0)
