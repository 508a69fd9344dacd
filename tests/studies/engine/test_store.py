"""Rows survive whatever ends the process; a folder belongs to one question."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.changed_values import changed
from tests.studies.small_study import cell, digits, made_row, new_store
from vitrail.errors import EnvironmentFault, ModelError
from vitrail.studies.compute_study import job_of
from vitrail.studies.engine.row import Row
from vitrail.studies.engine.store import Store, open_store, question_of


def row_of(store: Store, seed: int) -> Row:
    return made_row(job_of(cell(seed=seed), "tiny", digits(), store), **{"test/top1": 0.1 * seed})


def in_child(act: Callable[[], None]) -> int:
    """Run `act` in a process of its own; how that ended, as os.waitpid says."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        act()
        code = 0
    finally:
        os._exit(code)


def test_rows_are_only_added(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    assert store.rows() == {}
    store.mend()
    before = b""
    for seed in range(3):
        store.append(row_of(store, seed))
        now = store.rows_file.read_bytes()
        assert now.startswith(before)
        assert now.count(b"\n") == seed + 1
        before = now
    assert list(store.rows().values()) == [row_of(store, seed) for seed in range(3)]


def test_a_later_row_of_a_cell_counts(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    first, second = row_of(store, 1), row_of(store, 2)
    store.append(first)
    store.append(Row(**{**second.to_json(), "key": first.key}))
    assert store.rows()[first.key].values == second.values


def test_half_a_line_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    first, last = row_of(store, 0), row_of(store, 1)
    store.append(first)
    kept = store.rows_file.read_bytes()
    store.append(last)
    whole = store.rows_file.read_bytes()
    for end in range(len(kept), len(whole)):
        store.rows_file.write_bytes(whole[:end])
        assert store.rows() == {first.key: first}
        store.mend()
        assert store.rows_file.read_bytes() == kept
    store.append(last)
    store.mend()
    assert store.rows_file.read_bytes() == whole


def test_the_first_line_may_be_torn(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    store.rows_file.write_bytes(b'{"key": "0')
    store.mend()
    assert store.rows_file.read_bytes() == b""
    assert store.rows() == {}


def test_every_changed_value_of_a_row_is_named(tmp_path: Path) -> None:
    """Tables and the verdict rest on rows, and a search removes the models of poor trials."""
    store = new_store(tmp_path / "s")
    store.append(row_of(store, 0))
    row = json.loads(store.rows_file.read_bytes())
    for one in changed(row):
        store.rows_file.write_bytes(json.dumps(one).encode() + b"\n")
        with pytest.raises(ModelError, match="line 1") as caught:
            store.rows()
        assert caught.value.code == "VIT-409"
    row["values"]["test/top1"] = 0.75
    del row["digest"]  # changed on purpose
    store.rows_file.write_bytes(json.dumps(row).encode() + b"\n")
    assert [found.values["test/top1"] for found in store.rows().values()] == [0.75]


@pytest.mark.parametrize("run", ["..", "../../photos", "/tmp", "runs/../..", "runs", "runs/.a"])
def test_a_row_names_no_folder_outside_its_study(tmp_path: Path, run: str) -> None:
    """Also where its digest was removed: tune removes the models of rows that are not best."""
    store = new_store(tmp_path / "s")
    record = row_of(store, 0).to_json() | {"run": run}
    store.rows_file.write_bytes(json.dumps(record).encode() + b"\n")
    with pytest.raises(ModelError, match=r"line 1 .*run"):
        store.rows()


def test_every_changed_value_of_the_plan_is_named(tmp_path: Path) -> None:
    open_store(tmp_path, "head", "a").write(
        "study.json", {"question": "a", "plan": {10: [1, 2.5], 9: ("x", None)}}
    )
    path = tmp_path / "head" / "study.json"
    assert Store(path.parent).record()["plan"] == {"10": [1, 2.5], "9": ["x", None]}
    for one in changed(json.loads(path.read_text())):
        path.write_text(json.dumps(one))
        with pytest.raises(ModelError, match="VIT-409"):
            Store(path.parent).record()


@pytest.mark.parametrize("damage", [b"{", b"null", b"[]", b'{"key": "0"}', b"\xff", b"", b"3"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    store = new_store(tmp_path / "s")
    for seed in range(3):
        store.append(row_of(store, seed))
    lines = store.rows_file.read_bytes().splitlines()
    lines[1] = damage
    store.rows_file.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ModelError, match="line 2") as caught:
        store.rows()
    assert caught.value.code == "VIT-409"
    assert "Remove that line" in caught.value.hint
    store.rows_file.write_bytes(b"\n".join([lines[0], lines[2]]) + b"\n")  # the way out
    assert len(store.rows()) == 2


def test_a_row_that_is_no_number_is_refused_before_it_is_written(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    job = job_of(cell(), "tiny", digits(), store)
    with pytest.raises(ValueError, match="JSON"):
        store.append(made_row(job, loss=float("nan")))
    assert store.rows() == {}


def test_a_kill_after_a_row_loses_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")

    def act() -> None:
        store.append(row_of(store, 1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(act)) == signal.SIGKILL
    assert list(Store(store.folder).rows().values()) == [row_of(store, 1)]


def test_two_processes_do_not_compute_one_study(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")

    code = (
        "from pathlib import Path; from vitrail.studies.engine.store import Store\n"
        f"with Store(Path({str(store.folder)!r})).lock(): print('mine')"
    )

    def other() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )

    with store.lock():
        refused = other()
    assert f"VIT-504: {store.folder}: process {os.getpid()} is computing" in refused.stderr
    assert "--out DIR" in refused.stderr
    assert other().stdout == "mine\n"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")

    def act() -> None:
        with store.lock():
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(act)) == signal.SIGKILL
    with store.lock():
        pass


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s")
    store.rows_file.mkdir()
    with pytest.raises(EnvironmentFault) as caught:
        store.append(row_of(store, 1))
    assert caught.value.code == "VIT-506"


def test_the_same_question_goes_on_and_another_gets_its_own_folder(tmp_path: Path) -> None:
    folders = [open_store(tmp_path, "head", name).folder.name for name in "abacb"]
    assert folders == ["head", "head-2", "head", "head-3", "head-2"]
    assert (tmp_path / "head-3" / "runs").is_dir()


def test_a_folder_without_a_question_is_taken(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()  # killed there
    assert open_store(tmp_path, "head", "a").folder.name == "head"
    assert json.loads((tmp_path / "head" / "study.json").read_text())["question"] == "a"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for parent in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(EnvironmentFault, match="cannot be written") as caught:
            open_store(parent, "head", "a")
        assert (caught.value.code, "--out" in caught.value.hint) == ("VIT-506", True)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    open_store(tmp_path, "head", "a")
    (tmp_path / "head" / "study.json").write_text('{"question"')
    with pytest.raises(ModelError) as caught:
        open_store(tmp_path, "head", "a")
    assert caught.value.code == "VIT-409"
    assert "--out DIR" in caught.value.hint


def test_a_question_is_its_facts_in_any_order() -> None:
    assert question_of({"a": 1, "b": (1, 2)}) == question_of({"b": [1, 2], "a": 1})
    assert question_of({"a": 1}) != question_of({"a": 2})
