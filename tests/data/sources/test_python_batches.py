"""Python batches: arrays and lists come back, code never runs."""

from __future__ import annotations

import collections
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.data.sources.cifar import load_batch
from vitrail.errors import DataError
from vitrail.system import pickle_sandbox

# What Python 2 with numpy 1 wrote for {"data": array([[1, 2], [3, 4]], uint8), "labels": [1, 0]}.
PYTHON2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04"
    b"K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x02\x03\x04tb"
    b"U\x06labelsq\x08]q\x09(K\x01K\x00eu."
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "f4", "?"])
def test_arrays_come_back(protocol: int, dtype: str) -> None:
    array = np.arange(35).reshape(5, 7).astype(dtype)
    for given in (array, np.asfortranarray(array)):
        names = ("a", b"\x00\xff", 1.5, True)
        value = {"data": given, "labels": given[0], "label_names": names, "filenames": [None]}
        result = load_batch(pickle.dumps(value, protocol))
        assert np.array_equal(result["data"], array)
        assert result["data"].dtype == array.dtype
        assert np.array_equal(result["labels"], array[0])
        assert result["label_names"] == ["a", "\x00\udcff", 1.5, True]
        assert set(result) == {"data", "labels", "label_names"}


def test_batches_of_python_2_have_bytes_for_strings() -> None:
    result = load_batch(PYTHON2)
    assert result["data"].tolist() == [[1, 2], [3, 4]]
    assert result["labels"] == [1, 0]


class _Run:
    """Unpickling it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _payloads(canary: str) -> dict[str, bytes]:
    run = f"touch {canary}"
    objects: dict[str, Any] = {
        "os.system": _Run(os.system, run),
        "popen": _Run(subprocess.Popen, ["touch", canary]),
        "eval": _Run(eval, f"open({canary!r}, 'w')"),
        "getattr": _Run(getattr, "a", "join"),
        "open": _Run(open, canary, "w"),
        "in a list": [1, {"data": _Run(os.system, run)}],
        "ordered dict": collections.OrderedDict(a=1),
        "object array": np.array([_Run(os.system, run)], dtype=object),
        "set": {1, 2},
        "structured array": np.zeros(3, dtype=[("a", "u1")]),
        "numpy scalar": np.float64(1.0),
        "random state": np.random.default_rng(0),
        "class": Path,
    }
    payloads = {name: pickle.dumps(value, 2) for name, value in objects.items()}
    payloads |= {
        "raw global": b"cos\nsystem\n(S'" + run.encode() + b"'\ntR.",
        "instance": b"(S'" + run.encode() + b"'\nios\nsystem\n.",
        "object": b"(cos\nsystem\nS'" + run.encode() + b"'\no.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__class__\x93.",
        "builtins": b"c__builtin__\neval\n(S'1'\ntR.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent": b"P1\n.",
        "ndarray called": b"cnumpy\nndarray\n((I1000000000000\ntS'u1'\ntR.",
        "state of a class": b"cnumpy\ndtype\n}(S'x'\nI1\nsb.",
        "state of ndarray": b"cnumpy\nndarray\n(N}S'y'\nI1\nstb.",
        "huge memo": b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        "huge bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
        "bare dtype": b"cnumpy\ndtype\n(S'O'\ntR.",
        "wrong size": PYTHON2.replace(b"U\x04\x01\x02\x03\x04", b"U\x03\x01\x02\x03"),
        "object dtype": PYTHON2.replace(b"U\x02u1", b"U\x02O8"),
        "contains itself": b"]q\x00h\x00a.",
        "deep": b"]" * 500 + b"a" * 499 + b".",
        "empty": b"",
        "no end": b"]",
    }
    return payloads


@pytest.mark.promise("M1")
def test_nothing_but_plain_data_is_accepted_and_nothing_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name, payload in _payloads(str(canary)).items():
        before = os.times()
        with pytest.raises(DataError, match="python batch is refused") as caught:
            load_batch(payload)
        assert caught.value.code == "VIT-319", name
        assert os.times().children_user - before.children_user < 1, name
        assert not canary.exists(), name


@pytest.mark.promise("M1")
def test_no_foreign_module_is_imported() -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(DataError, match=r"antigravity\.geohash"):
        load_batch(b"cantigravity\ngeohash\n.")
    assert "antigravity" not in sys.modules


def test_mutants_are_read_or_refused() -> None:
    """A process a mutant: fewer of them."""
    draw = random.Random(5)
    good = pickle.dumps({"data": np.arange(60, dtype=np.uint8), "labels": [1, 2]}, 2)
    refused = 0
    for _ in range(30):
        data = bytearray(good if draw.random() < 0.5 else PYTHON2)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            load_batch(bytes(data))
        except DataError:
            refused += 1
    assert refused > 10


def test_shared_parts_do_not_multiply() -> None:
    value: list[Any] = [0]
    for _ in range(14):
        value = [value] * 50
    before = os.times()
    assert load_batch(pickle.dumps({"labels": [3], "nested": value}, 2)) == {"labels": [3]}
    with pytest.raises(DataError, match="labels: expected numbers or texts, got list"):
        load_batch(pickle.dumps({"labels": value}, 2))
    assert os.times().children_user - before.children_user < 1


def test_the_names_of_a_batch_are_answered_by_the_sandbox_itself() -> None:
    for found in pickle_sandbox.BATCH_NAMES.values():
        assert found.__module__ == pickle_sandbox.__name__
