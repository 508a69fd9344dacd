"""Settings of a run as options: every key of TrainConfig, `--optim.lr 3e-4`, `--ema 0.999`.

Values stay text; `vitrail.config` checks them once, with the source of each in its message.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vitrail.cli.arguments import unknown_option
from vitrail.cli.registry import setting_options
from vitrail.config import TrainConfig, environment_layer, flatten, read_toml
from vitrail.errors import UsageError

Layer = tuple[str, Mapping[str, object]]


def take_settings(
    tokens: Sequence[str], declared: Iterable[str]
) -> tuple[dict[str, str], list[str]]:
    """(settings, what is left) of a command line; options in `declared` are the parser's and stay.

    Raises UsageError VIT-211 for an unknown dotted name, VIT-201 for a missing or second value.
    """
    known, own = setting_options(), set(declared)
    switches = {key for key, value in flatten(TrainConfig()).items() if isinstance(value, bool)}
    settings: dict[str, str] = {}
    rest: list[str] = []
    words = iter(range(len(tokens)))
    for place in words:
        if tokens[place] == "--":
            return settings, rest + list(tokens[place:])
        option, equals, value = tokens[place].partition("=")
        name = option.replace("_", "-")
        is_setting = name in known or name.startswith("--model.")
        if not option.startswith("--") or name in own or not (is_setting or "." in option):
            rest.append(tokens[place])
            continue
        if not is_setting:
            raise unknown_option(option, [*known, *own])
        key = name[2:].replace("-", "_")
        if key in settings:
            raise UsageError("VIT-201", f"{name} is given twice.", hint="Keep one of them.")
        if not equals:
            following = tokens[place + 1] if place + 1 < len(tokens) else "--"
            if key in switches and following not in ("true", "false"):
                value = "true"
            elif following.startswith("--"):
                raise UsageError(
                    "VIT-201", f"{name} needs a value.", hint=f"For instance {name} VALUE"
                )
            else:
                value = tokens[next(words)]
        settings[key] = value
    return settings, rest


def layers_of(data: str | None, config: Path | None, command: Mapping[str, object]) -> list[Layer]:
    """The layers a user gave, later ones winning: --config file < VITRAIL_* < command line.

    Raises UsageError VIT-215 (file) and VIT-216 (environment).
    """
    layers: list[Layer] = []
    if config is not None:
        layers.append((str(config), read_toml(config)))
    if environment := environment_layer(os.environ):
        layers.append(("environment", environment))
    given = {key: value for key, value in command.items() if value is not None}
    if data is not None:
        given["data.path"] = data
    return [*layers, ("command line", given)]
