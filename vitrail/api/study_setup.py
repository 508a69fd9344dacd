"""From what was asked of a study or a comparison to its question: what the cells follow from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.api.options import Machines, refuse_address
from vitrail.device import num_cores, pick_device
from vitrail.errors import UsageError, check_numbers
from vitrail.models.cost import macs
from vitrail.setting_values import check_unit, parse_secs
from vitrail.spelling import count
from vitrail.studies.compute_study import Study
from vitrail.studies.engine.ray_engine import RayEngine
from vitrail.studies.experiments.compare_models import FRACTIONS, STUDY, PretrainedModel
from vitrail.studies.experiments.own_study import SUFFIX, own_study
from vitrail.studies.experiments.registry import study_named
from vitrail.studies.run import Engines, StudyRequest, local
from vitrail.studies.setup import FULL_SHARES, Setup, nested_sizes, open_setup, share_sizes
from vitrail.training.plan.pinned_model import load_pinned


@dataclass(frozen=True)
class Length:
    """How long a study may take (20m, 2h), or how many images a run of the reference model sees;
    seeds: runs of every cell.
    """

    budget: str | None = None
    examples: int | None = None
    seeds: int = 3


@dataclass(frozen=True)
class Question:
    """A study, what its cells follow from, what was asked of it, and who computes. shown: the value
    that a finished cell is told with.
    """

    study: Study
    setup: Setup
    asked: StudyRequest
    engines: Engines
    shown: str = "test/top1"


def comparison(
    data: str,
    length: Length,
    machines: Machines,
    command: str,
    *,
    models: Sequence[str] = (),
    starts: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    image_size: int | None = None,
) -> Question:
    """What `compare` asks. Raises UsageError VIT-202, VIT-212, VIT-221 for an unknown model,
    ModelError where weights to start from cannot be read.
    """
    check_counts(length, image_size, machines)
    choices: dict[str, object] = {"models": tuple(models), "starts": tuple(map(opened, starts))}
    if image_size is not None:
        choices["image_size"] = image_size
    setup = _opened_setup(data, length, machines, choices)
    found = share_sizes(setup.num_train, setup.num_classes, FRACTIONS)
    setup = replace(setup, sizes=found if sizes is None else tuple(sorted(set(sizes))))
    asked = asked_of(length, machines, setup, command)
    folder = re.sub(r"[^\w.-]+", "-", setup.name).strip("-.") or "data"
    asked = replace(asked, folder=folder)
    return Question(STUDY, setup, asked, engines_of(machines, asked, setup), "val/top1")


def study_of(name: str) -> Study:
    """The study of a name, or of a file of one's own. Raises UsageError VIT-292."""
    return own_study(Path(name)) if name.endswith(SUFFIX) else study_named(name)


def no_effect(option: str, study: Study) -> UsageError:
    """VIT-293: an option that a study does not vary."""
    return UsageError(
        "VIT-293", f"{option} has no effect on the study {study.name}.", hint="Leave it out."
    )


def question_of(
    study: Study,
    data: str,
    length: Length,
    machines: Machines,
    command: str,
    *,
    choices: Mapping[str, Any],
    sizes: Sequence[int] | None = None,
    full: bool = False,
) -> Question:
    """What a study asks. choices: those that were given.

    Raises UsageError VIT-202, VIT-212, VIT-290, VIT-293 for a choice that it lacks.
    """
    check_counts(length, choices.get("image_size"), machines)
    setup = _study_setup(study, data, length, machines, choices, sizes, is_full=full)
    asked = asked_of(length, machines, setup, command, is_alone=study.is_alone)
    return Question(study, setup, asked, engines_of(machines, asked, setup))


def _study_setup(
    study: Study,
    data: str,
    length: Length,
    machines: Machines,
    choices: Mapping[str, Any],
    sizes: Sequence[int] | None,
    *,
    is_full: bool,
) -> Setup:
    known = {*study.choices, "image_size", *(("sizes",) if study.has_sizes else ())}
    for key in (*choices, *(() if sizes is None else ("sizes",))):
        if key not in known:
            raise no_effect("--" + key.replace("_", "-"), study)
    own = {key: value for key, value in {**study.choices, **choices}.items() if key != "transfer"}
    transfer = choices.get("transfer", "")
    setup = _opened_setup(data, length, machines, own, transfer, is_full=is_full)
    if not study.has_sizes:
        return setup
    if sizes is None:
        counts = (setup.num_train, setup.num_classes)
        chosen = share_sizes(*counts, FULL_SHARES) if is_full else nested_sizes(*counts)
        return replace(setup, sizes=chosen)
    found = tuple(sorted(set(sizes)))
    if found[0] < setup.num_classes or found[-1] > setup.num_train:
        raise UsageError(
            "VIT-202",
            f"--sizes {','.join(map(str, sizes))}: {setup.name} has "
            f"{count(setup.num_train, 'training image')} of {count(setup.num_classes, 'class')}.",
            hint=f"Use numbers from {setup.num_classes} to {setup.num_train}, or leave it out.",
        )
    return replace(setup, sizes=found)


def _opened_setup(
    data: str,
    length: Length,
    machines: Machines,
    choices: Mapping[str, Any],
    transfer: str = "",
    *,
    is_full: bool = False,
) -> Setup:
    return open_setup(
        data,
        transfer,
        examples=0,
        seeds=tuple(range(length.seeds)),
        is_full=is_full,
        device=str(pick_device(machines.device)),
        threads=machines.threads,
        accumulate=machines.accumulate,
        on_bad_file=machines.on_bad_file,
        choices=choices,
    )


def opened(path: str) -> PretrainedModel:
    """Weights to start from. Raises ModelError where they cannot be read."""
    _, config, sha256 = load_pinned(path, "", "--from")
    return PretrainedModel(Path(path).name or path, path, sha256, macs(config))


def check_counts(length: Length, image_size: int | None, machines: Machines) -> None:
    """Raises UsageError VIT-202 for a number that is not above 0, VIT-203 for an address of no
    cluster.
    """
    refuse_address(machines.ray_address, machines.engine, "--engine ray")
    counts = {
        "--examples": length.examples,
        "--seeds": length.seeds,
        "--image-size": image_size,
        "--processes": machines.processes,
        "--threads": machines.threads,
        "--accumulate": machines.accumulate,
    }
    check_numbers({option: value for option, value in counts.items() if value is not None})


def asked_of(
    length: Length, machines: Machines, setup: Setup, command: str, *, is_alone: bool = False
) -> StudyRequest:
    """Budget and processes. Raises UsageError VIT-202, VIT-212."""
    budget, examples = length.budget, length.examples
    check_unit("--budget", budget)
    seconds = parse_secs(budget if budget is not None else "20m")
    if not isinstance(seconds, float) or not seconds > 0:
        raise UsageError("VIT-202", f"--budget {budget}: expected a time.", hint="Use 20m or 2h")
    if examples is not None and budget is None:
        seconds = None
    one_at_a_time = is_alone or setup.device != "cpu"
    processes = machines.processes or (
        1 if one_at_a_time else max(1, num_cores() // machines.threads)
    )
    return StudyRequest(seconds, examples, processes, command)


def engines_of(machines: Machines, asked: StudyRequest, setup: Setup) -> Engines:
    """Who computes."""
    if machines.engine == "local":
        return local(asked.processes)
    gpus = 0 if setup.device == "cpu" else 1
    return lambda store: RayEngine(machines.ray_address, machines.threads, gpus)
