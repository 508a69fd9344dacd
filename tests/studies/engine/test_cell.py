"""The key of a cell: it changes with what decides the run, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.studies.small_study import TINY, cell
from vitrail.studies.engine.cell import Cell, needed

PICTURES = "0123456789abcdef"
PLAIN = cell()


def changed(**settings: object) -> Cell:
    return replace(
        PLAIN,
        settings={**PLAIN.settings, **{k.replace("__", "."): v for k, v in settings.items()}},
    )


OTHERS = {
    "rate": changed(optim__lr=0.0021),
    "length": changed(examples=704),
    "width": changed(model__width=18),
    "pictures": changed(data__train_pictures=100),
    "split": changed(data__split_seed=1),
    "threads": changed(threads=2),
    "seed": replace(PLAIN, seed=1),
    "recipe": replace(PLAIN, recipe="paper.imagenet1k"),
    "transfer data": replace(PLAIN, on_transfer=True),
    "measure": replace(PLAIN, measures=("few-shot",)),
    "other measure": replace(PLAIN, measures=("sizes",)),
    "parent": cell(start=PLAIN, **{k.replace(".", "__"): v for k, v in TINY.items()}),
    "other parent": cell(start=cell(seed=1), **{k.replace(".", "__"): v for k, v in TINY.items()}),
}


def test_a_key_changes_with_everything_that_decides_the_run() -> None:
    keys = {name: other.key(PICTURES) for name, other in OTHERS.items()}
    keys |= {"plain": PLAIN.key(PICTURES), "other data": PLAIN.key("f" * 16)}
    assert len(set(keys.values())) == len(keys), keys
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys.values())


def test_a_grandparent_counts() -> None:
    child = cell(start=cell(start=PLAIN))
    other = cell(start=cell(start=cell(optim__lr=0.03)))
    assert child.key(PICTURES) != other.key(PICTURES)


def test_a_key_is_the_same_for_the_same_run() -> None:
    reversed_ = replace(PLAIN, settings=dict(reversed(list(PLAIN.settings.items()))))
    moved = changed(data__path="/somewhere/else")
    renamed = replace(PLAIN, arm="another name", axes={"width": 16})
    keys = {one.key(PICTURES) for one in (PLAIN, reversed_, moved, renamed)}
    assert keys == {PLAIN.key(PICTURES)}


def test_a_new_schema_is_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = PLAIN.key(PICTURES)
    monkeypatch.setattr("vitrail.studies.engine.cell.SCHEMA", 99)
    assert PLAIN.key(PICTURES) != before


def test_parents_come_first_and_once() -> None:
    parent, other = cell(), cell(seed=1)
    child, grandchild = cell(start=parent), cell(start=cell(start=parent))
    assert needed([grandchild, child, parent, other, other]) == [parent, child, grandchild, other]
    assert needed([]) == []


def test_cells_of_equal_pace() -> None:
    pace = PLAIN.pace_key()
    for name in ("rate", "length", "pictures", "seed"):
        assert OTHERS[name].pace_key() == pace, name
    for name in ("width", "threads"):
        assert OTHERS[name].pace_key() != pace, name
    assert changed(optim__name="sgd").pace_key() != pace
    assert changed(batch_size=32).pace_key() != pace
    assert changed(augment__crop="none").pace_key() != pace


def test_a_child_steps_as_its_parent_does() -> None:
    child = cell(start=PLAIN)
    assert child.pace_cell().start is None
    assert child.pace_cell().settings["model.width"] == TINY["model.width"]
    assert child.pace_key() == cell(seed=5, start=cell(seed=4)).pace_key()


def test_a_title_is_for_people() -> None:
    one = Cell("ViT", {"pictures": 12000, "kind": "2-D"}, {}, 3)
    assert one.title == "ViT, images 12000, kind 2-D, seed 3"
