"""R4: a flipped bit, a cut, a swapped or missing file is found, named, and the checkpoint before it
used.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.crash_fs import MemoryFiles, Tree
from tests.training.saving import RUN, in_memory, same, save
from vitrail.errors import ModelError
from vitrail.runs import manifest as manifests
from vitrail.runs.filesystem import FILES
from vitrail.runs.stored import list_steps
from vitrail.training.storage.checkpoint import load_latest


def damaged(tree: Tree, change: Callable[[dict[str, Any]], None]) -> MemoryFiles:
    """The tree with checkpoint 2 changed."""
    folders = dict(tree["run"]["checkpoints"])
    folders["step-00000002"] = dict(folders["step-00000002"])
    change(folders["step-00000002"])
    return MemoryFiles({"run": {"checkpoints": folders}})


def falls_back(files: MemoryFiles, file: str) -> None:
    found = load_latest(RUN, fs=files)
    assert found is not None
    assert found.step == 1
    assert same(found.tensors, 1)
    assert len(found.damaged) == 1
    assert found.damaged[0][0] == "step-00000002"
    assert found.damaged[0][1].startswith(f"{file}: "), found.damaged


@pytest.mark.promise("R4")
@pytest.mark.parametrize("world", [1, 2])
def test_every_flipped_bit_is_found_and_its_file_named(world: int) -> None:
    tree = in_memory(1, 2, world=world).tree()
    sizes = {name: len(data) for name, data in tree["run"]["checkpoints"]["step-00000002"].items()}
    chance = random.Random(4)
    for _ in range(1000):
        name = chance.choice(sorted(sizes))
        bit = chance.randrange(8 * sizes[name])

        def flip(files: dict[str, bytes], name: str = name, bit: int = bit) -> None:
            data = bytearray(files[name])
            data[bit // 8] ^= 1 << bit % 8
            files[name] = bytes(data)

        falls_back(damaged(tree, flip), name)


@pytest.mark.promise("R4")
@pytest.mark.parametrize("world", [1, 2])
def test_every_truncation_is_found_and_its_file_named(world: int) -> None:
    tree = in_memory(1, 2, world=world).tree()
    chance = random.Random(5)
    for _ in range(200):
        name = chance.choice(sorted(tree["run"]["checkpoints"]["step-00000002"]))
        length = chance.randrange(len(tree["run"]["checkpoints"]["step-00000002"][name]))

        def cut(files: dict[str, bytes], name: str = name, length: int = length) -> None:
            files[name] = files[name][:length]

        falls_back(damaged(tree, cut), name)


@pytest.mark.promise("R4")
@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("model.safetensors", 1),
        ("optim.safetensors", 1),
        ("model-00001-of-00002.safetensors", 2),
        ("optim-00002-of-00002.safetensors", 2),
        *((name, world) for name in ("state.json", "MANIFEST.json") for world in (1, 2)),
    ],
)
def test_swapped_missing_and_misplaced_files_are_found(name: str, world: int) -> None:
    tree = in_memory(1, 2, world=world).tree()
    other = tree["run"]["checkpoints"]["step-00000001"][name]
    falls_back(damaged(tree, lambda files: files.update({name: other})), name)
    falls_back(damaged(tree, lambda files: files.pop(name) and None), name)
    falls_back(damaged(tree, lambda files: files.update({name: {}})), name)


@pytest.mark.promise("R4")
def test_a_renamed_checkpoint_is_found() -> None:
    folders = in_memory(1, 2).tree()["run"]["checkpoints"]
    files = MemoryFiles(
        {
            "run": {
                "checkpoints": {
                    "step-00000001": folders["step-00000001"],
                    "step-00000002": folders["step-00000001"],
                }
            }
        }
    )
    found = load_latest(RUN, fs=files)
    assert found is not None
    assert found.damaged == (("step-00000002", "MANIFEST.json: it belongs to step-00000001"),)


@pytest.mark.promise("R4")
def test_the_message_names_checkpoint_file_and_what_is_used_instead() -> None:
    tree = in_memory(1100, 1200).tree()
    data = tree["run"]["checkpoints"]["step-00001200"]["optim.safetensors"]
    tree["run"]["checkpoints"]["step-00001200"]["optim.safetensors"] = data[:-1] + bytes(
        [data[-1] ^ 1]
    )
    files = MemoryFiles(tree)
    found = load_latest(RUN, fs=files)
    assert found is not None
    assert found.warnings() == [
        "VIT-405: checkpoint step-00001200 is damaged (optim.safetensors: sha256 differs); "
        "continuing from step-00001100."
    ]
    assert list_steps(RUN, fs=files) == [1100, 1200]  # left in place


@pytest.mark.promise("R4")
def test_all_damaged_is_an_error_that_lists_each() -> None:
    tree = in_memory(1, 2).tree()
    for step in ("step-00000001", "step-00000002"):
        tree["run"]["checkpoints"][step]["state.json"] = b""
    with pytest.raises(
        ModelError, match=r"step-00000002: state.json(.|\n)*step-00000001: state.json"
    ) as error:
        load_latest(RUN, fs=MemoryFiles(tree))
    assert error.value.code == "VIT-405"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"schema": 1}',
        "[" * 100_000,
        '{"schema": 1, "step": 2, "parent": null, "config_hash": "", '
        '"files": {"../state.json": {"bytes": 1, "sha256": "' + "0" * 64 + '"}}, "sha256": ""}',
    ],
)
def test_a_strange_manifest_is_only_damage(text: str) -> None:
    tree = in_memory(1, 2).tree()
    falls_back(
        damaged(tree, lambda files: files.update({"MANIFEST.json": text.encode()})), "MANIFEST.json"
    )


def test_a_share_that_holds_other_tensors_than_its_manifest_says_is_found() -> None:
    """Files and hashes that fit each other, and a list that does not: a tensor would be missing."""
    tree = in_memory(1, 2, world=2).tree()
    file = "model-00001-of-00002.safetensors"
    read = manifests.read(MemoryFiles(tree), RUN / "checkpoints" / "step-00000002")
    name = next(one for one, place in read.tensors.items() if place == file)
    for tensors in (
        {key: value for key, value in read.tensors.items() if key != name},
        {**read.tensors, "model/more": file},
    ):
        changed = manifests.encode(read.model_copy(update={"tensors": tensors}))
        put = {"MANIFEST.json": changed}
        falls_back(damaged(tree, lambda files, put=put: files.update(put)), file)  # type: ignore[misc]
    elsewhere = {**read.tensors, name: "model-00009-of-00009.safetensors"}
    text = manifests.encode(read.model_copy(update={"tensors": elsewhere}))
    falls_back(damaged(tree, lambda files: files.update({"MANIFEST.json": text})), "MANIFEST.json")


def test_a_manifest_of_a_later_version_says_so() -> None:
    files = in_memory(1)
    written = manifests.read(files, RUN / "checkpoints" / "step-00000001")
    later = manifests.encode(written.model_copy(update={"schema_number": 3, "step": 2}))
    tree = in_memory(1, 2).tree()
    falls_back(
        damaged(tree, lambda folder: folder.update({"MANIFEST.json": later})), "MANIFEST.json"
    )


def test_links_are_not_followed(tmp_path: Path) -> None:
    save(1, FILES, tmp_path)
    path = save(2, FILES, tmp_path)
    (tmp_path / "elsewhere").write_bytes((path / "state.json").read_bytes())
    (path / "state.json").unlink()
    (path / "state.json").symlink_to(tmp_path / "elsewhere")
    found = load_latest(tmp_path)
    assert found is not None
    reason = "state.json: it is a link, which is not followed; expected a plain file"
    assert found.damaged == (("step-00000002", reason),)


def test_a_damaged_one_does_not_count_as_kept_and_is_replaced() -> None:
    tree = in_memory(1, 2).tree()
    files = damaged(
        tree, lambda folder: folder.update({"state.json": b"x" * len(folder["state.json"])})
    )
    found = load_latest(RUN, fs=files)
    assert found is not None
    names = [name for name, _ in found.damaged]
    save(3, files, damaged=names)
    assert list_steps(RUN, fs=files) == [1, 2, 3]  # 1 and 3 can be used
    files = damaged(
        tree, lambda folder: folder.update({"state.json": b"x" * len(folder["state.json"])})
    )
    save(2, files, damaged=names)
    again = load_latest(RUN, fs=files)
    assert again is not None
    assert (again.step, again.damaged) == (2, ())
