"""`vitrail convert`: every format from every other that can hold it, the report, the mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vitrail
from tests.checkpoints.golden_case import random_model
from tests.checkpoints.origins.test_name_map import PLAIN as NAMES
from tests.checkpoints.plain_vit import state
from tests.cli.cli_command import run
from tests.golden.case import CASES, read_case
from tests.models.check_model import random_model as trained_model
from vitrail.api.options import Format
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig

GOOGLE = CASES / "google_vit_token" / "ViT-Ti_8.npz"
HUGGINGFACE = CASES / "hf_vit"
OUT = {
    "google": "o.npz",
    "big_vision": "o.npz",
    "bit": "o.npz",
    "torchvision": "o.safetensors",
    "deit": "o.safetensors",
    "dinov2": "o.safetensors",
}
PLAIN: dict[str, Any] = {
    "image_size": (15, 15),
    "patch_size": (5, 5),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 48,
    "num_classes": 3,
}


def folder_of(place: Path, **fields: Any) -> Path:
    """A model folder of vitrail with random tensors."""
    config = ViTConfig(**(PLAIN | fields))
    height, width = config.image_size
    preprocess = Preprocess(height=height, width=width, resize=19, crop="center")
    vitrail.Classifier(random_model(config), preprocess, ["a", "b", "c"]).save(place)
    return place


def test_a_file_of_google_becomes_a_folder_of_timm(tmp_path: Path) -> None:
    """The whole report; the folder gives the very tensors and logits."""
    done = run("convert", GOOGLE, tmp_path / "out", "--to", "timm", "--json")
    assert (done.code, done.err) == (0, "")
    record = done.document
    assert (record["origin"], record["format"]) == ("google", "timm")
    assert record["tensors_identical"] is True
    assert record["logits_max_difference"] == 0
    assert (record["missing"], record["unused"]) == ([], [])
    with np.load(GOOGLE) as file:
        names = set(file.files)
    assert {name for rule in record["mapping"] for name in rule["theirs"]} == names
    assert any("resizer tensorflow -> pillow" in note for note in record["not_kept"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    case = read_case("google_vit_token")
    with torch.no_grad():
        logits = vitrail.load(tmp_path / "out").model(case.arrays["x"])
    assert (logits - case.arrays["logits"]).abs().max() <= 1e-5


def test_the_report_for_people(tmp_path: Path) -> None:
    backbone = CASES / "fb_dinov2" / "dinov2_mu14_pretrain.pth"
    head = CASES / "fb_dinov2" / "dinov2_mu14_linear_head.pth"
    done = run(
        "convert",
        backbone,
        tmp_path / "m",
        "--to",
        "vitrail",
        "--head",
        head,
        "-v",
        "--set",
        "num_heads=2",
    )
    assert done.code == 0, done.err
    for words in (
        "28 x 28 px, 7 classes",
        "dinov2: 36 tensors",
        "backbone.mask_token: only for training on masked images",
        "num_heads 2",
        "the written copy equals what was read (its tensors are those, logits within 0)",
        "linear_head.weight",
    ):
        assert words in done.out
    assert vitrail.load(tmp_path / "m").meta.origin == "dinov2"


FIELDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flax": {"gelu": "gelu_tanh"},
    "dino": {"layer_scale": 1e-5, "pool": "cls_gap"},
}
HOLDS = {
    "plain": {"timm", "huggingface", "torchvision", "deit", "vitrail"},
    "flax": {"google", "big_vision", "timm", "huggingface", "vitrail"},
    "dino": {"huggingface", "dinov2", "vitrail"},
}


@pytest.mark.parametrize("to", get_args(Format))
@pytest.mark.parametrize("start", FIELDS)
def test_from_vitrail_to_every_format_and_back(tmp_path: Path, to: str, start: str) -> None:
    """A format holds the model, bit for bit and with the same logits, or is refused with a reason
    before anything is written. big_vision's positions have no row for cls: another form of them."""
    source = folder_of(tmp_path / "in", **FIELDS[start])
    out = tmp_path / OUT.get(to, "out")
    done = run("convert", source, out, "--to", to, "--json")
    if to not in HOLDS[start]:
        assert (done.code, done.document["code"]) == (4, "VIT-417"), done.err
        assert not out.exists()
        return
    assert done.code == 0, done.err
    assert done.document["tensors_identical"] is (to != "big_vision")
    back = run("convert", out, tmp_path / "back", "--to", "vitrail", "--json")
    assert back.code == 0, back.err
    before, after = vitrail.load(source), vitrail.load(tmp_path / "back")
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name]) or to == "big_vision", name
    if to not in ("google", "big_vision"):
        assert after.preprocess.resize == 19
        assert after.classes == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["resnet_ti", "vit_ti4"])
@pytest.mark.parametrize("to", get_args(Format))
def test_only_vitrail_has_the_residual_network_for_small_images(
    tmp_path: Path, to: str, name: str
) -> None:
    """Alone and as a stem: a reason before anything is written; as a folder to the bit."""
    stem = {"stem": "residual", "width": 24, "num_heads": 3, "depth": 1}
    config = resolve_model(
        name, num_classes=3, overrides={} if name == "resnet_ti" else stem, image_size=(32, 32)
    )
    preprocess = Preprocess(height=32, width=32, resize=(32, 32), crop="none")
    model = trained_model(config, dtype=torch.float32)
    vitrail.Classifier(model, preprocess, ["a", "b", "c"]).save(tmp_path / "in")
    out = tmp_path / OUT.get(to, "out")
    done = run("convert", tmp_path / "in", out, "--to", to, "--json")
    if to != "vitrail":
        assert (done.code, done.document["code"]) == (4, "VIT-417"), done.err
        assert "vitrail's own" in done.document["message"]
        assert not out.exists()
        return
    assert done.code == 0, done.err
    before, after = (load_file(one / "model.safetensors") for one in (tmp_path / "in", out))
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_what_a_format_lacks_can_be_stated(tmp_path: Path) -> None:
    """--set changes how a model computes, never its tensors, and is told as such."""
    out = tmp_path / "o.safetensors"
    done = run("convert", GOOGLE, out, "--to", "torchvision")
    assert done.code == 4
    assert "gelu is 'gelu_tanh'" in done.err
    assert "--set gelu=gelu" in done.err
    assert run("convert", GOOGLE, out, "--to", "torchvision", "--set", "gelu=gelu").code == 0
    source = folder_of(tmp_path / "in")
    done = run("convert", source, tmp_path / "a.npz", "--to", "google", "--set", "gelu=gelu_tanh")
    assert done.code == 0, done.err
    done = run("convert", source, tmp_path / "b", "--to", "timm", "--set", "width=48")
    assert (done.code, "other shapes" in done.err) == (2, True)


def test_sizes_that_a_file_does_not_tell(tmp_path: Path) -> None:
    source = CASES / "google_vit_gap" / "ViT-gap_16.npz"
    done = run("convert", source, tmp_path / "out", "--to", "timm")
    assert (done.code, "--set image_size=" in done.err) == (4, True)
    done = run("convert", source, tmp_path / "out", "--to", "timm", "--set", "image_size=32x48")
    assert done.code == 0, done.err
    assert vitrail.load(tmp_path / "out").model.config.image_size == (32, 48)  # type: ignore[union-attr]


def test_tensors_that_nobody_knows(tmp_path: Path) -> None:
    tensors = load_file(HUGGINGFACE / "model.safetensors") | {
        "extra.weight": torch.ones(2),
        "aux.weight": torch.ones(2),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((HUGGINGFACE / name).read_bytes())
    done = run("convert", folder, tmp_path / "out", "--to", "timm", "--set", "ln_eps=1e-6")
    assert (done.code, "extra.weight" in done.err) == (4, True)
    done = run(
        "convert",
        folder,
        tmp_path / "out",
        "--to",
        "timm",
        "--allow-unused",
        "--set",
        "ln_eps=1e-6",
    )
    assert (done.code, "extra.weight" in done.err) == (4, True)
    assert "never left out" in done.err
    del tensors["extra.weight"]
    save_file(tensors, folder / "model.safetensors")
    done = run(
        "convert",
        folder,
        tmp_path / "out",
        "--to",
        "timm",
        "--allow-unused",
        "--set",
        "ln_eps=1e-6",
    )
    assert done.code == 0, done.err
    assert "aux.weight: an auxiliary head" in done.out


MISTAKES: list[tuple[list[object], int, str, str]] = [
    ([GOOGLE, "out", "--to", "keras"], 2, "VIT-202", "timm"),
    ([GOOGLE, "out.pth", "--to", "timm"], 2, "VIT-202", "safetensors"),
    ([GOOGLE, "taken", "--to", "timm"], 4, "VIT-440", "another name"),
    (["absent.npz", "out", "--to", "timm"], 4, "VIT-430", "no such file"),
    ([GOOGLE, "out", "--to", "timm", "--set", "gelu"], 2, "VIT-202", "FIELD=VALUE"),
    ([GOOGLE, "out", "--to", "timm", "--set", "num_head=3"], 2, "VIT-211", "num_heads"),
    ([GOOGLE, "out", "--to", "timm", "--origin", "tim"], 2, "VIT-202", "timm"),
    ([GOOGLE, "out", "--to", "timm", "--origin", "deit"], 4, "VIT-422", "no image model of deit"),
    (["runs", "out", "--to", "timm", "--origin", "timm"], 2, "VIT-202", "Leave them out"),
    (["notes.txt", "out", "--to", "timm"], 4, "VIT-431", ".safetensors"),
]


@pytest.mark.parametrize(("words", "code", "vit", "text"), MISTAKES)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    code: int,
    vit: str,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "runs")
    (tmp_path / "taken").mkdir()
    (tmp_path / "notes.txt").write_text("hello there, no tensors in here")
    done = run("convert", *words)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"error {vit}"), done.err
    assert text in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "runs", "taken"]


def test_what_comes_back_wrong_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: with a reader that changes a tensor."""
    import vitrail.api.conversion as verb

    real = verb.read_back

    def changed(*arguments: Any) -> Any:
        back = real(*arguments)
        with torch.no_grad():
            back.model.get_parameter("head.weight").add_(1)
        return back

    monkeypatch.setattr(verb, "read_back", changed)
    for to, name in (("timm", "folder"), ("deit", "file.safetensors")):
        out = tmp_path / name
        done = run("convert", folder_of(tmp_path / f"in-{to}"), out, "--to", to)
        assert (done.code, "VIT-426" in done.err) == (4, True)
        assert not out.exists()


def test_a_name_is_used_as_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hf:, google: and catalogue names go the way of vitrail.load."""
    asked = []

    def place_of(model: Path, *, progress: object) -> Path:
        asked.append(str(model))
        return GOOGLE

    monkeypatch.setattr("vitrail.api.conversion.resolve_weights", place_of)
    done = run("convert", "google:augreg/Ti_8", tmp_path / "out", "--to", "timm", "--json")
    assert done.code == 0, done.err
    assert asked == ["google:augreg/Ti_8"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_classes"] == 7


def test_what_was_assumed_is_said_by_every_verb(tmp_path: Path) -> None:
    """On stderr, so that what reads stdout is not disturbed."""
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    file = CASES / "fb_deit" / "deit_tiny_patch8_32.pth"
    refused = run("predict", file, picture)
    assert (refused.code, "--set num_heads=" in refused.err) == (4, True)
    done = run("predict", file, picture, "--json", "--set", "num_heads=3")
    assert done.code == 0
    assert len(done.document) == 1
    assert "assumed  preprocess resize 36 bicubic, center crop 32 x 32, mean 0.485" in done.err
    assert "stated   num_heads 3" in done.err
    assert run("predict", CASES / "timm_vit_token", picture).err == ""


def test_a_home_made_model_by_its_map(tmp_path: Path) -> None:
    """convert and predict take --map, print what is stated, and answer alike."""
    torch.save(state(), tmp_path / "a.pth")
    (tmp_path / "map.toml").write_text(NAMES, encoding="utf-8")
    Image.new("RGB", (12, 12), (200, 30, 60)).save(tmp_path / "a.png")
    source, said = tmp_path / "a.pth", ("--map", tmp_path / "map.toml")
    assert run("predict", source, tmp_path / "a.png").code == 4
    done = run("convert", source, tmp_path / "m", "--to", "vitrail", *said)
    assert done.code == 0, done.err
    for line in ("num_heads 3", "block pre", "gelu gelu", "ln_eps 1e-06", "pool cls"):
        assert any(text.split()[0] == "stated" and line in text for text in done.out.splitlines())
    ours = run("predict", tmp_path / "m", tmp_path / "a.png", "--json")
    theirs = run("predict", source, tmp_path / "a.png", "--json", *said)
    assert theirs.code == 0, theirs.err
    assert theirs.document == ours.document
    useless = run("predict", tmp_path / "m", tmp_path / "a.png", *said)
    assert (useless.code, "VIT-202" in useless.err) == (2, True)
