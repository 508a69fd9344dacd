"""How settings are put together: flat dotted keys ("optim.lr") in layers, later ones winning.

Built-in < recipe < --config file < VITRAIL_* < command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from vitrail.config import SHORT, TrainConfig, flatten, known_keys
from vitrail.errors import UsageError, nearest, shortened
from vitrail.setting_values import check_unit

DURATIONS = ("epochs", "steps", "examples", "time_limit_secs")


def resolve(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[TrainConfig, dict[str, str]]:
    """Settings from `layers`, later ones winning, and the source of each key.

    A layer is (source name, flat dotted settings). A duration replaces every duration of the
    layers below it. Raises UsageError (VIT-211, VIT-212, VIT-213).
    """
    values: dict[str, Any] = flatten(TrainConfig())
    sources = dict.fromkeys(values, "built-in")
    for source, layer in layers:
        for short in ("time_limit", "save_every"):
            for key in (short, short.replace("_", "-")):
                check_unit(f"--{short.replace('_', '-')}", layer.get(key), key=SHORT[short])
        layer = {
            SHORT.get(key.replace("-", "_"), key.replace("-", "_")): value
            for key, value in layer.items()
        }
        given = [key for key in DURATIONS if layer.get(key) is not None]
        if len(given) > 1:
            raise UsageError(
                "VIT-213",
                f"{source}: {' and '.join(given)} are both given; a run has one duration.",
                hint="Keep one of --epochs, --steps, --examples, --time-limit.",
            )
        for key in DURATIONS if given else ():
            values.pop(key, None)
            sources.pop(key, None)
        for key, value in layer.items():
            if value is None:
                continue
            if key not in values and not key.startswith("model.") and key not in known_keys():
                raise UsageError(
                    "VIT-211", f"{source}: unknown setting {key}. {nearest(key, known_keys())}"
                )
            values[key], sources[key] = value, source
    return build(values, sources), sources


def build(values: Mapping[str, Any], sources: Mapping[str, str]) -> TrainConfig:
    """A TrainConfig from flat dotted settings.

    Raises UsageError VIT-212 naming each bad value and its source.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    try:
        return TrainConfig.model_validate(nested)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            parts = [str(part) for part in item["loc"]]
            key = next(
                (".".join(parts[:n]) for n in (3, 2, 1) if ".".join(parts[:n]) in values),
                ".".join(parts),
            )
            said = shortened(values.get(key))
            line = f"  {key} = {said} (from {sources.get(key, '?')}): {item['msg']}"
            if line not in lines:
                lines.append(line)
        raise UsageError(
            "VIT-212",
            "settings cannot be used:\n" + "\n".join(lines),
            hint="All settings with their values: vitrail train DATA --print-config",
        ) from error


def environment_layer(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings given as VITRAIL_*: VITRAIL_OPTIM_LR is optim.lr.

    Unknown names raise UsageError VIT-216.
    """
    by_name = {"VITRAIL_" + re.sub(r"\W", "_", key).upper(): key for key in [*known_keys(), *SHORT]}
    layer = {}
    for name, value in environ.items():
        if name.startswith("VITRAIL_"):
            if name not in by_name:
                raise UsageError(
                    "VIT-216", f"unknown environment variable {name}. {nearest(name, by_name)}"
                )
            layer[by_name[name]] = value
    return layer
