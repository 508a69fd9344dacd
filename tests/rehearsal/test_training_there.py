"""Every kind of training on the pretend accelerator: no mismatch of devices, no hidden wait."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.rehearsal.device import Rehearsal, rehearse
from tests.rehearsal.running import Waits, train_there
from tests.training.ranks.test_kinds import KINDS
from tests.training.running import TINY, train
from vitrail.training import loop
from vitrail.training.step import update

SHORT = {
    "steps": 2,
    "batch_size": 8,
    "eval_every_epochs": 1.0,
    "save_every_steps": 5,
    "data.val_fraction": 0.05,
    "data.test_fraction": 0.05,
}
PLAIN = {**TINY, "model.depth": 1, "optim.name": "adamw", "augment.policy": "none"}
HERE: dict[str, dict[str, Any]] = {  # of the default suite
    "adamw": {**PLAIN, "augment.policy": "randaugment", "ema": 0.9, "optim.accumulate": 2},
    "masked": {**KINDS["masked"], "model.depth": 1, "optim.name": "adamw"},
    "taught": {**PLAIN, "distill.teacher": "FIRST", "distill.kind": "soft"},
    "lora": {**KINDS["lora"], "optim.name": "sgd"},
}
AT_NIGHT = {
    **KINDS,
    "photographs": {
        **PLAIN,
        "augment.policy": "three_augment",
        "augment.color_jitter": 0.3,
        "augment.erasing": 1.0,
        "augment.crop": "inception",
    },
    "flexible": {
        **PLAIN,
        "data.image_size": 12,
        "model.patch_size": 3,
        "model.patch_sizes": "2,3,6",
        "model.patch_drop": 0.3,
    },
    "exact": {**PLAIN, "exact": True, "optim.accumulate": 4},
    "hard": {**KINDS["taught"], "augment.policy": "trivialaugment"},
}


def planted_waits(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    there = torch.ones(3, 5).to(rehearsal.device, non_blocking=True)
    row = torch.ones(3)
    planted: dict[str, Callable[[], Any]] = {
        "item": lambda: there.sum().item(),
        "bool": lambda: bool(there.isfinite().all()),
        "tolist": lambda: there.tolist(),
        "cpu": lambda: there.cpu() + 1,
        "copied": lambda: row.copy_(there[:, 0]),
        "sent": lambda: row.to(rehearsal.device),
        "mixed": lambda: there[:, 0] + row,
        "nonzero": lambda: there.nonzero(),
        "numpy": lambda: there.numpy(),
        "at ease": lambda: (there @ there.T).softmax(1) + torch.tensor(2.0),
    }
    found = []
    for name, act in planted.items():
        with rehearsal.noting() as waits:
            try:
                act()
            except Exception as error:
                waits.append(type(error).__name__)
        found.append((name, waits[0].partition(" at tests")[0] if waits else ""))
    return found


def test_an_accelerator_is_told_by_what_it_refuses() -> None:
    """Each thing that a GPU refuses or waits for, planted; and what it does without."""
    assert rehearse(planted_waits) == [
        ("item", "item"),
        ("bool", "item"),
        ("tolist", "tolist"),
        ("cpu", "to the host"),
        ("copied", "to the host"),
        ("sent", "to the device"),
        ("mixed", "FakeTensorDeviceMismatchError"),
        ("nonzero", "DynamicOutputShapeException"),
        ("numpy", "RuntimeError"),
        ("at ease", ""),
    ]


def trained(rehearsal: Rehearsal, kinds: dict[str, dict[str, Any]]) -> dict[str, Waits | str]:
    """What each kind of training waited for, or why it failed."""
    folder, found = Path(tempfile.mkdtemp()), dict[str, Waits | str]()
    if any("FIRST" in settings.values() for settings in kinds.values()):
        train(folder, "first", **SHORT, model__depth=1)
    for name, settings in kinds.items():
        first = str(folder / "first")
        given = {key: first if value == "FIRST" else value for key, value in settings.items()}
        try:
            found[name] = train_there(rehearsal, folder, name, {**given, **SHORT})
        except Exception:
            found[name] = traceback.format_exc()
    return found


def with_planted(rehearsal: Rehearsal) -> dict[str, Waits | str]:
    found = trained(rehearsal, HERE)

    def waiting(*arguments: Any) -> tuple[Tensor, Tensor]:
        loss, norm = update(*arguments)
        return (loss * loss.item()), norm.cpu().to(norm)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "update", waiting)
        return found | trained(rehearsal, {"planted": PLAIN})


@pytest.fixture(scope="module")
def here() -> dict[str, Waits | str]:
    """The kinds of the default suite, and one with planted waits, in one process: what is loaded is
    loaded once.
    """
    found: dict[str, Waits | str] = rehearse(with_planted)
    return found


def check(waits: Waits | str, name: str) -> None:
    assert not isinstance(waits, str), f"{name}: {waits}"
    assert waits.batches == [[]] * 2
    assert len(waits.steps) == 2
    for step in waits.steps:
        (only,) = step  # loss and norm, which all decisions of the loop rest on
        assert "tolist at vitrail/training/loop.py" in only


@pytest.mark.parametrize("kind", HERE)
def test_a_step_waits_once(here: dict[str, Waits | str], kind: str) -> None:
    check(here[kind], kind)


@pytest.mark.slow
def test_every_kind_waits_once_a_step() -> None:
    found = rehearse(partial(trained, kinds=AT_NIGHT))
    for name, waits in found.items():
        check(waits, name)


def test_planted_waits_are_found(here: dict[str, Waits | str]) -> None:
    waits = here["planted"]
    assert not isinstance(waits, str), waits
    mine = "at tests/rehearsal/test_training_there.py"
    expected = [f"item {mine}", f"to the host {mine}", f"to the device {mine}"]
    for step in waits.steps:
        found = [wait.partition(":")[0] for wait in step]
        assert found == [*expected, "tolist at vitrail/training/loop.py"]
