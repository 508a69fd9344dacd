"""Reads the object description of a PyTorch file, as a program of its own: nothing but Python's
standard library is imported, and no name of the file is ever looked up anywhere.

    python -I -S pickle_sandbox.py zip < data.pkl          the description inside a zip file
    python -I -S pickle_sandbox.py legacy < file.pth       the format before PyTorch 1.6

A second word names the table that is wanted, where there are several.

Prints one JSON object: {"tensors": {name: [type, storage, offset, shape, strides]}, "storages":
{storage: [byte offset, count]} (legacy), "wrapped": path of the table or null, "more": paths of
other tables of tensors, "beside": keys that lie beside the tables, "others": names within the table
of what are no tensors}, or {"refused": reason}. Offsets and
strides count numbers, not bytes.

The format is a program for a small machine that can call whatever it names. Here the names that
tensors need are answered by classes of this file, some harmless ones by an empty stand-in, and all
others end the reading. In case that is not enough, the process may not open a file, a socket or a
program, has little memory and two seconds.
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
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
          "U8": 1, "BOOL": 1}  # fmt: skip
# What training scripts leave beside the weights; read as nothing.
HARMLESS = {
    ("argparse", "Namespace"), ("collections", "defaultdict"), ("collections", "Counter"),
    ("builtins", "set"), ("__builtin__", "set"), ("builtins", "slice"), ("builtins", "dict"),
    ("builtins", "complex"), ("builtins", "float"), ("builtins", "int"), ("builtins", "list"),
    ("pathlib", "PosixPath"), ("pathlib", "WindowsPath"), ("pathlib", "Path"),
    ("pathlib._local", "PosixPath"), ("torch", "Size"), ("torch", "device"), ("torch", "float32"),
    ("torch", "float16"), ("torch", "bfloat16"), ("torch", "float64"), ("_codecs", "encode"),
    ("numpy", "dtype"), ("numpy", "ndarray"), ("numpy", "float64"), ("numpy", "float32"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
}  # fmt: skip
WRAPPERS = ("model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema", "module",
            "net", "teacher", "student", "target_encoder", "encoder")  # fmt: skip


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
            raise Refused(f"it has more than {MAX_TENSORS} tensors")
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
    **{("torch", name): StorageKind(code) for name, code in STORAGES.items()},
    **dict.fromkeys(HARMLESS, Ignored),
}


class Reader(pickle.Unpickler):
    """The machine, with `NAMES` as its whole world. kinds: type code by storage key."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; any other ends the reading."""
        if (module, name) not in NAMES:
            raise Refused(f"it asks for {module[:80]}.{name[:80]}")
        return NAMES[module, name]

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
        known = [wanted] if wanted in tables else [
            path for word in words for path in tables if path.split("/")[-1] == word
        ]  # fmt: skip
        if not known and len(tables) != 1:
            return {"tables": [path[:100] for path in tables][:20]}
        wrapped = (known or list(tables))[0]
        found = tables[wrapped]
    tensors = {key: item.row for key, item in tensors_of(found).items()}
    others = [key for key in found if isinstance(key, str) and key not in tensors][:20]
    more = [path[:100] for path in tables if path != wrapped][:20] if wrapped else []
    return {"tensors": tensors, "wrapped": wrapped, "others": others, "more": more,
            "beside": beside}  # fmt: skip


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


def main(kind: str, wanted: str = "") -> dict[str, Any]:
    """The answer as it is printed."""
    try:
        if kind == "legacy":
            return read_legacy(sys.stdin.buffer, wanted)
        return described(Reader(io.BytesIO(sys.stdin.buffer.read())).load(), wanted)
    except Refused as refused:
        return {"refused": str(refused)}
    except RecursionError:
        return {"refused": "it is nested too deep"}
    except MemoryError:
        return {"refused": "reading it takes too much memory"}
    except Exception as error:  # the machine's complaints about a damaged program
        return {"refused": f"it cannot be read ({type(error).__name__}: {str(error)[:100]})"}


if __name__ == "__main__":
    enter_sandbox()
    text = json.dumps(main(*sys.argv[1:]))
    sys.stdout.write(text)
    sys.stdout.flush()
    os._exit(0)
