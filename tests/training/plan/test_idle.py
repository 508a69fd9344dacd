"""No setting is taken in silence: each one changes what is learnt, is refused, or is said.

The walk goes over the declaration of `TrainConfig`; a new setting is in it, with a value that its
schema allows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.running import train
from vitrail.config import FIELDS, TrainConfig, fields_of
from vitrail.errors import UsageError, VitrailError
from vitrail.setting_values import Only, ReadOf
from vitrail.settings.toml_file import read_toml
from vitrail.training.optim.optimizer import set_lr
from vitrail.training.optim.schedule import StepSchedule, lr_on
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.plan.starting_weights import starting_weights
from vitrail.training.ranks.share import share_of
from vitrail.training.state import start_state
from vitrail.training.step import training_loader, trial
from vitrail.training.tasks.registry import task_of

# What no weight shows, and why; what such a setting does has tests of its own.
ELSEWHERE = {
    "device": "where it is computed: the CPU is all that every machine has",
    "precision": "float32 is what auto takes on most CPUs",
    "threads": "the last bits of larger sums",
    "exact": "the order of sums of several parts (optim.accumulate)",
    "compile": "speed: kernels that take long to build",
    "checkpoint_activations": "memory",
    "residual_baseline": "what is trained after the run",
    "patience": "when a run of several evaluations ends",
    "save_every_secs": "checkpoints",
    "save_every_steps": "checkpoints",
    "keep_checkpoints": "checkpoints",
    "data.path": "the data",
    "data.workers": "speed, of files",
    "data.on_bad_file": "what is done where an image is bad",
    "start.model": "the situations below",
    "start.sha256": "refused where it is another's (VIT-404)",
    "distill.sha256": "refused where it is another's (VIT-404)",
}
TEXTS = {  # settings whose schema does not say what else they could be
    "recipe": "small.vit",
    "model.name": "resnet_ti",
    "data.image_size": "12x12",
    "data.cache": "shards",
    "augment.crop_scale": "0.2,0.7",
    "augment.crop_ratio": "0.5,2",
    "optim.betas": "0.5,0.6",
    "schedule.stair_at": "0.5",
    "schedule.stair_factors": "0.1",
    "start.given": "depth=7",
    "start.origin": "timm",
    "start.table": "model_ema",
    "start.map": "names.toml",
    "distill.teacher": "nowhere",
    "data.train_pictures": 30,
    "data.max_pixels": 70,
    "eval_every_epochs": 0.5,
    "time_limit_secs": "9s",
    "examples": 24,
    "schedule.warmup": 0.5,
    "schedule.cooldown": 0.9,
}
SMALL: dict[str, Any] = {
    "model.name": "vit_mu16",
    "model.depth": 2,
    "model.width": 8,
    "model.num_heads": 2,
    "model.mlp_dim": 8,
    "model.patch_size": 4,
}
COMMON: dict[str, Any] = {"device": "cpu", "threads": 1, "batch_size": 8, "steps": 6}
DIGITS: dict[str, Any] = {"data.path": "builtin:digits", "data.train_pictures": 63}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes in files of several sizes."""
    place, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for index in range(40):
        pixels = rng.integers(0, 256, (9 + index % 5, 13 - index % 3, 3), dtype=np.uint8)
        pixels[..., index % 2] //= 3
        (place / f"class{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"class{index % 2}" / f"{index}.png")
    return place


@pytest.fixture(scope="module")
def situations(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings of a run on images in memory, in files, and from the weights of another run."""
    one = train(tmp_path_factory.mktemp("start"), "start", steps=1).run_dir
    return {
        "arrays": DIGITS | SMALL | COMMON,
        "files": {"data.path": str(folder), "data.image_size": 16} | SMALL | COMMON,
        "from": DIGITS | COMMON | {"start.model": str(one)},
        "frozen": DIGITS | COMMON | {"start.model": str(one), "freeze": "body"},
        "masked": DIGITS | SMALL | COMMON | {"objective": "masked_patches"},
    }


def planned(settings: Mapping[str, Any]) -> Plan:
    return plan_run([("test", {"data.workers": 0, **settings})])


def learnt(plan: Plan) -> str:
    """A digest of the weights after four steps, of how images are seen, and of the plan of the run;
    nothing of how its settings are written.
    """
    config = plan.config
    torch.manual_seed(0)
    schedule = StepSchedule.of(plan.total_steps or 6)
    weights, _ = starting_weights(config, plan.model, plan.splits.classes)
    state = start_state(config, plan.model, schedule, torch.device("cpu"), weights)
    task, share = task_of(plan, torch.device("cpu")), share_of(config)
    with closing(trial(state, training_loader(plan), task, config, 4, share)) as steps:
        for step in (1, 2, 3, 4):
            set_lr(state.optimizer, lr_on(schedule, step, config.optim.lr, config.schedule))
            next(steps)
    found = hashlib.sha256()
    for name, tensors in state.tensors().items():
        for value in tensors.values() if name != "optim" else ():
            found.update(value.detach().float().numpy().tobytes())
    parts = {name: len(part) for name, part in plan.splits.parts().items()}
    limit = config.time_limit_secs
    facts = (plan.preprocess, parts, plan.total_steps, plan.eval_every, limit, plan.changes)
    found.update(repr(facts).encode())
    return found.hexdigest()


def schemas() -> dict[str, Mapping[str, Any]]:
    """Of each setting."""
    found = {}
    for key in FIELDS:
        section, _, name = key.rpartition(".")
        model: Any = TrainConfig.model_fields[section].annotation if section else TrainConfig
        found[key] = model.model_json_schema()["properties"][name]
    return found


SCHEMAS = schemas()


def other_values(key: str) -> Iterator[Any]:
    """Values of a setting that are not built in."""
    built_in = FIELDS[key].default
    if key in TEXTS:
        yield TEXTS[key]
        return
    for one in SCHEMAS[key].get("anyOf", [SCHEMAS[key]]):
        choices = one.get("enum", [one["const"]] if "const" in one else [])
        if one.get("type") == "boolean":
            choices = [not built_in]
        elif one.get("type") in ("integer", "number"):
            number = built_in if isinstance(built_in, int | float) else 3
            least, most = one.get("minimum", 0), one.get("maximum", 2**53)
            step = one["type"] == "integer"
            near = [number + 1, number - 1] if step else [number / 2, number / 2 + 0.3, 1.5]
            choices = [value for value in near if least < value <= most][:1]
        yield from (value for value in choices if value not in (built_in, "auto"))


def is_said(plan: Plan, key: str) -> bool:
    """Whether a note of the plan names the setting."""
    return any(key in sentence for sentence in plan.notes)


@pytest.mark.parametrize("situation", ["arrays", "files", "from", "frozen", "masked"])
def test_no_setting_is_taken_in_silence(
    situation: str, situations: dict[str, dict[str, Any]]
) -> None:
    base = situations[situation]
    plain = planned(base)
    before, silent = learnt(plain), []
    durations = ("epochs", "steps", "examples", "time_limit_secs")
    for key in FIELDS:
        if key in ELSEWHERE:
            continue
        values = list(other_values(key))
        assert values, f"{key}: TEXTS needs a value for it"
        kept = {one: value for one, value in base.items() if one not in durations or one == key}
        for value in values:
            over = kept if key in durations else base
            try:
                plan = planned(over | {key: value})
                same = value_of(plain, key) == value_of(plan, key)
                is_heard = same or is_said(plan, key) or learnt(plan) != before
            except VitrailError:  # refused with a code
                is_heard = True
            if not is_heard:
                silent.append(f"{key} {value}")
    assert silent == []


def value_of(plan: Plan, key: str) -> object:
    """The value that a run has for a setting."""
    found: Any = plan.config
    for part in key.split("."):
        found = getattr(found, part)
    return found


OWNED = [
    (key, mark, value)
    for key, field in FIELDS.items()
    for mark in field.metadata
    if isinstance(mark, Only) and mark.key not in ("data.order", "distill.kind", "freeze")
    for value in mark.values
]


@pytest.mark.parametrize(("key", "mark", "owner"), OWNED)
def test_a_setting_is_read_where_it_is_said_to_be(
    key: str, mark: Only, owner: object, situations: dict[str, dict[str, Any]]
) -> None:
    """What is declared is no more than what is so."""
    stairs = {"schedule.stair_at": "0.3", "schedule.stair_factors": "0.5"}
    base = situations["files"] | {mark.key: owner} | (stairs if owner == "stair" else {})
    if owner in ("schedule_free", "rsqrt"):
        base |= {"schedule.name": "constant" if owner == "schedule_free" else "rsqrt"}
        base |= {"schedule.warmup": 0.0}
    values = [value for value in other_values(key) if value != base.get(key)]
    assert learnt(planned(base)) != learnt(planned(base | {key: values[0]}))


@pytest.mark.parametrize("key", [key for key, _ in fields_of(TrainConfig)])
def test_marks_name_settings_and_their_values(key: str) -> None:
    for mark in FIELDS[key].metadata:
        if isinstance(mark, Only):
            TrainConfig.model_validate(nested(mark.key, mark.values[0] if mark.values else None))
        assert not isinstance(mark, ReadOf) or mark.kind in ("files", "store")


def nested(key: str, value: object) -> dict[str, Any]:
    """One setting as its sections hold it; no value: none of it."""
    section, _, name = key.rpartition(".")
    inner = {} if value is None else {name: value}
    assert key in FIELDS
    return {section: inner} if section else inner


def test_the_message_names_what_it_belongs_to_and_who_chose_that() -> None:
    with pytest.raises(UsageError) as caught:
        planned(DIGITS | SMALL | COMMON | {"augment.crop_scale": "0.2,1"})
    assert caught.value.code == "VIT-246"
    assert "augment.crop_scale has no effect: it belongs to augment.crop inception" in str(
        caught.value
    )
    assert "--augment.crop inception" in caught.value.hint


def test_a_higher_layer_takes_away_what_a_lower_one_needs() -> None:
    """`--config FILE --augment.crop none`: the file's scale was for the file's crop."""
    base = DIGITS | SMALL | COMMON
    cropped = base | {"augment.crop": "inception", "augment.crop_scale": "0.2,1"}
    plan_run([("a.toml", cropped), ("command line", {"augment.crop": "none"})])
    none = base | {"augment.crop": "none"}
    with pytest.raises(UsageError, match="crop_scale has no effect"):
        plan_run([("a.toml", none), ("command line", {"augment.crop_scale": "0.2,1"})])


def test_the_settings_of_a_run_are_settings_of_another(
    tmp_path: Path, situations: dict[str, dict[str, Any]]
) -> None:
    run = train(tmp_path, "one", steps=1).run_dir
    plan = plan_run([("config.toml", read_toml(run / "config.toml"))])
    assert plan.total_steps == 1


def test_settings_of_files_are_said_of_images_in_memory() -> None:
    plan = plan_run([("test", DIGITS | SMALL | COMMON | {"workers": 3, "data.cache_bytes": 5})])
    assert [sentence.split(" ", 1)[0] for sentence in plan.notes] == [
        "data.workers",
        "data.cache_bytes",
    ]
    assert "the images are in memory" in plan.notes[0]
