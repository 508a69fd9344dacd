"""An option that another one leaves without effect is refused by its name, never dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitrail
from tests.cli.cli_command import run
from vitrail.api.options import ExportRequest, Machines
from vitrail.cli.verbs.study import Choices
from vitrail.errors import UsageError

IDLE = {
    "predict a b.png --ray-address host:1": "--ray-address has no effect without --cluster ray",
    "compare builtin:digits --ray-address h:1": "--ray-address has no effect without --engine ray",
    "models --set num_heads=2": "--set has no effect without a FILE",
    "models vit_b16 --origin timm": "--origin has no effect with vit_b16",
    "models --weights --classes 7": "--classes has no effect with --weights",
    "models --weights --image-size 64": "--image-size has no effect with --weights",
    "models --get hf:a/b --table t": "--table has no effect with --get",
    "models --get hf:a/b --weights": "--weights has no effect with --get",
    "models a.npz --classes 7": "--classes has no effect with a.npz",
    "doctor --plan vit_b16 --self-test": "--self-test has no effect with --plan",
    "doctor --self-test --replay runs/a": "--replay has no effect with --self-test",
    "study data-size --list": "NAME has no effect with --list",
    "study --list --data builtin:digits": "--data has no effect with --list",
    "export a --list": "MODEL has no effect with --list",
    "export --list --origin timm": "--origin has no effect with --list",
    "train builtin:digits --dry-run --print-config": "--dry-run has no effect with --print-config",
    "data show builtin:digits --image-size 16": "--image-size has no effect without --augment",
}


@pytest.mark.parametrize("line", IDLE)
def test_an_option_without_effect_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.png").write_bytes(b"")
    done = run(*line.split())
    assert done.code == 2
    assert f"error VIT-203: {IDLE[line]}" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["b.png"]


OTHER = {"--engine": "ray", "--on-bad-file": "skip", "--equal": "compute"}
SWITCHES = {"--full", "--dry-run", "--download"}


@pytest.mark.parametrize(
    ("verb", "fields"),
    [("study", (*Choices.__annotations__, *Machines.__annotations__, "full", "dry_run", "out"))]
    + [("export", (*ExportRequest.__annotations__, "patch"))],
)
def test_a_list_takes_no_other_option(verb: str, fields: tuple[str, ...]) -> None:
    """All of them, from their declarations; a new one too."""
    for field in fields:
        option = "--" + field.replace("_", "-")
        value = [] if option in SWITCHES else [OTHER.get(option, "7")]
        done = run(verb, "--list", option, *value)
        assert (done.code, option in done.err) == (2, True), (option, done.err)
        assert "VIT-203" in done.err, option


def test_the_same_from_python(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--image-size has no effect"):
        vitrail.show_data("builtin:digits", image_size=16)
    with pytest.raises(UsageError, match="--ray-address has no effect"):
        vitrail.predict_table(tmp_path, [], tmp_path / "a.csv", ray_address="host:1")
    with pytest.raises(UsageError, match="--ray-address has no effect"):
        vitrail.compare("builtin:digits", ray_address="host:1")
