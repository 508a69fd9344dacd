"""Values of every setting and every option: refused with a code, or a number that can be used."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cli_command import run
from tests.cli.mistakes_place import finished_run
from vitrail.cli.registry import VERBS, commands
from vitrail.config import TrainConfig, flatten, known_keys
from vitrail.errors import UsageError
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig
from vitrail.setting_values import MOST
from vitrail.settings.layers import resolve
from vitrail.settings.toml_file import read_toml
from vitrail.spelling import escaped

NEVER = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e400",
    "1e308",
    "9" * 400,
    "9" * 5000,
    "\u0663",
    "\uff11",
    "\u00b2",
    "x",
    "0x10",
    "1.5.2",
    "1e",
    "-1",
    "null",
    "[]",
    "a" * 100_000,
    "\udcff",
)
ODD = ("", " ", "0", "1e-400", "1,2,3,4,5,6", "true", "--", "-0", " 1", "+1", "\x00", "1;2")
DEFAULTS = flatten(TrainConfig())


def settings_of(key: str, value: str) -> tuple[TrainConfig | None, str]:
    """The settings, or why they are refused."""
    try:
        return resolve([("command line", {key: value})])[0], ""
    except UsageError as error:
        return None, str(error)


def architecture_refused(field: str, value: str) -> str:
    """Why a field cannot have this value; nothing where it can."""
    try:
        resolve_model("vit_ti16", num_classes=3, overrides={field: value})
    except UsageError as error:
        return str(error)
    return ""


# names of files, models and devices, which are looked for later
TEXTS = [
    key
    for key in known_keys()
    if isinstance(DEFAULTS.get(key, ""), str | tuple) and settings_of(key, "x")[0] is not None
]


@pytest.mark.parametrize("key", [key for key in known_keys() if key not in TEXTS])
def test_settings(key: str) -> None:
    for value in NEVER + ODD:
        config, refused = settings_of(key, value)
        if config is None:
            assert (refused[:5], len(refused) < 1000) == ("VIT-2", True)
            continue
        assert value not in NEVER, value
        found = flatten(config)[key]
        for number in found if isinstance(found, tuple) else (found,):
            if isinstance(number, int | float):
                assert math.isfinite(number)
                assert abs(number) <= MOST


@pytest.mark.parametrize("key", TEXTS)
def test_settings_that_are_texts(key: str) -> None:
    for value in NEVER + ODD:
        config = resolve([("command line", {key: value})])[0]
        # kept, a path in the form that reads back: what it names is looked for later
        assert flatten(config)[key] in (value, escaped(value))


@pytest.mark.parametrize("field", ViTConfig.model_fields)
def test_fields_of_an_architecture(field: str) -> None:
    for value in NEVER + ODD:
        refused = architecture_refused(field, value)
        assert (refused[:5], len(refused) < 2000) in (("VIT-2", True), ("", True)), refused


@pytest.mark.parametrize(
    "content",
    [
        b"a = [[[[",
        b"\xff\xfe",
        b"lr = " + b"9" * 5000,
        b"a = " + b"[" * 100_000,
        b"lr = nan",
        b"lr = inf",
        b"lr = 1979-05-27",
        b"\0",
        b"[optim]\nlr = [1, 2]",
        b"optim = 3",
        b"#" * 2_000_000,
        b"[[optim]]\nlr = 1",
        b"lr = 9223372036854775808",
        b'"" = 3',
    ],
)
def test_files_of_settings(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        resolve([("c.toml", read_toml(file))])
    assert caught.value.code in ("VIT-211", "VIT-212", "VIT-215")
    assert len(str(caught.value)) < 1000


PLACES = {  # what a verb is given beside its options
    "train": "train photos --dry-run",
    "eval": "eval runs/good --out o",
    "probe": "probe runs/good --out p.json",
    "predict": "predict runs/good photos/cat/0.png",
    "compare": "compare photos --dry-run",
    "study": "study head --data photos --dry-run",
    "explain": "explain runs/good photos/cat/0.png --out o",
    "data check": "data check photos",
    "data split": "data split photos s.csv",
    "data show": "data show photos",
    "models": "models vit_s16",
}
NO_NUMBERS = ("x", "", "1e400", "nan", "9" * 400, "-1", "1.5.2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """photos/ and a finished run in runs/good, as the working directory."""
    with finished_run(tmp_path_factory.mktemp("values")) as folder:
        yield folder


def options_with_numbers() -> Iterator[tuple[str, str]]:
    """(verb and part, option) of every option of a verb that is a number."""
    for verb, one in VERBS.items():
        for part, app in commands(import_module(one.module).app).items():
            words = f"{verb} {part}".strip()
            for item in app.assemble_argument_collection():
                named = [name for name in item.names if name.startswith("--")]
                if words in PLACES and item.parse and named and _is_number(item.hint):
                    yield words, named[0]


def _is_number(hint: Any) -> bool:
    return any(kind in str(hint) for kind in ("int", "float"))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("words", "option"), sorted(options_with_numbers()))
def test_options(words: str, option: str) -> None:
    for value in NO_NUMBERS:
        done = run(*PLACES[words].split(), option, value)
        assert (done.code, done.err[:11]) == (2, "error VIT-2"), f"{value[:9]}: {done.err[:300]}"
        assert len(done.err) < 1500
