"""Settings of a run as options: every key of TrainConfig, `--optim.lr 3e-4`, `--ema 0.999`.

Values stay text; `vitrail.config` checks them once, with the source of each in its message. What
help and docs/cli.md say of a setting is read from its declaration there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.cli.arguments import unknown_option
from vitrail.cli.registry import HIDDEN, setting_options
from vitrail.config import FIELDS, SHORT, TrainConfig
from vitrail.errors import UsageError
from vitrail.settings.layers import environment_layer
from vitrail.settings.toml_file import read_toml

Layer = tuple[str, Mapping[str, object]]
KINDS = {
    "integer": "whole number",
    "string": "text",
    "boolean": "true|false",
    "array": "numbers a,b,c",
}
LIMITS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}
TITLES = {
    "vit": "Vision Transformers, hybrids among them.",
    "bit": "BiT: the residual network of the paper.",
    "resnet": "The residual network for small images.",
}
OTHERS = ("image_size", "channels", "num_classes")  # fields that other settings or DATA decide


class Described(NamedTuple):
    """A setting for people. options: long, then short; built_in: "" where it is not set."""

    options: tuple[str, ...]
    values: str
    built_in: str
    meaning: str


ANY = Described(("--model.FIELD",), "value", "", "Any field of the architecture (docs/cli.md).")


def take_settings(
    tokens: Sequence[str], declared: Iterable[str], verb: str = "vitrail train"
) -> tuple[dict[str, str], list[str]]:
    """(settings, what is left) of a command line; options in `declared` are the parser's and stay.

    Raises UsageError VIT-211 for an unknown dotted name, VIT-201 for a missing or second value.
    """
    known, own = setting_options(), set(declared)
    switches = {key for key, field in FIELDS.items() if field.annotation is bool}
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
        refuse_both(key, settings)
        if not equals:
            following = tokens[place + 1] if place + 1 < len(tokens) else "--"
            if key in switches and following not in ("true", "false"):
                value = "true"
            elif following.startswith("--"):
                hint = f"For instance {name} VALUE; see {verb} --help"
                raise UsageError("VIT-201", f"{name} needs a value.", hint=hint)
            else:
                value = tokens[next(words)]
        settings[key] = value
    return settings, rest


def refuse_both(key: str, given: Iterable[str]) -> None:
    """Raise UsageError VIT-203 where `given` has the same setting by its other name."""
    for other in given:
        if SHORT.get(key, key) == SHORT.get(other, other):
            short, long = sorted((key, other), key=lambda name: name not in SHORT)
            pair = f"--{short.replace('_', '-')} and --{long.replace('_', '-')}"
            raise UsageError("VIT-203", f"{pair} are the same setting.", hint="Keep one of them.")


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


def sections() -> Iterator[tuple[str, list[Described]]]:
    """(what a section is about, its settings) of a run, in the order of their declaration."""
    shorts = {key: short for short, key in SHORT.items()}
    for section in dict.fromkeys(key.rpartition(".")[0] for key in FIELDS):
        model: Any = TrainConfig.model_fields[section].annotation if section else TrainConfig
        schema = model.model_json_schema()
        title = " ".join(schema["description"].split("\n\n")[0].split())
        found = [
            described([key, *([shorts[key]] if key in shorts else [])], field)
            for name, field in schema["properties"].items()
            if (key := f"{section}.{name}".strip(".")) in FIELDS and key not in HIDDEN
        ]
        yield f"{section or 'run'}: {title}", [*found, *([ANY] if section == "model" else [])]


def architectures() -> Iterator[tuple[str, list[Described]]]:
    """(what an architecture is, its fields), which `--model.FIELD` sets."""
    from vitrail.models.names import CONFIGS

    for family, config in CONFIGS.items():
        fields = config.model_json_schema()["properties"]
        found = [
            described([f"model.{name}"], fields[name]) for name in fields if name not in OTHERS
        ]
        yield f"{family}: {TITLES[family]}", found


def described(names: Sequence[str], schema: Mapping[str, Any]) -> Described:
    """A field from its JSON schema. names: the key and what else sets it."""
    default = schema.get("default")
    options = tuple("--" + name.replace("_", "-") for name in names)
    said = " ".join(schema.get("description", "").split())
    return Described(options, values_of(schema), shown(default), said)


def shown(default: object) -> str:
    """A built-in value as it is typed; "" where nothing is set."""
    if isinstance(default, list | tuple):
        return ",".join(map(shown, default))
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:.6g}"
    return "" if default is None else str(default)


def values_of(schema: Mapping[str, Any]) -> str:
    """The values of a field in a few words: none|body, whole number from 1."""
    if "anyOf" in schema:
        return " or ".join(values_of(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    limits = [f" {word} {shown(schema[name])}" for name, word in LIMITS.items() if name in schema]
    kind = str(schema["type"])
    return KINDS.get(kind, kind) + "".join(limits)
