"""The one way in and out: what is told beside the tensors, what is refused, what comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import vitrail
from tests.checkpoints.golden_case import SMALL, pictures, random_model
from tests.golden.case import CASES, STATED, read_case
from vitrail.checkpoints.adapt.request import shapes_of
from vitrail.checkpoints.catalogue.weights import ROWS
from vitrail.checkpoints.external import name_of, plan_writing, read_external, write_foreign
from vitrail.checkpoints.mapping.evaluation_crops import crop_fraction
from vitrail.checkpoints.mapping.fact import Fact, Said, with_given
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.checkpoints.origins.timm_config import read_preprocess
from vitrail.checkpoints.origins.torch_layout import translate
from vitrail.classifier import of_foreign
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.errors import ModelError, UsageError
from vitrail.models.names import known_names, resolve_model
from vitrail.models.vit.config import ViTConfig

TIMM_FOLDER = CASES / "timm_vit_token"
TORCHVISION_FILE = CASES / "torchvision_vit" / "vit_mu_8.pth"
# Rows whose shapes another published model has with other heads.
SHARED = {"vit_s16.deit_i1k_224": {"num_heads": 6}}
ORIGIN_OF = {
    "bit": "bit",
    "bv": "big_vision",
    "fb_deit": "deit",
    "fb_dinov2": "dinov2",
    "google": "google",
    "hf": "huggingface",
    "timm": "timm",
    "torchvision": "torchvision",
}
OUTPUT = {"hf_vit_model_pooler": "pooler_output"}
CHECKPOINTS = sorted(
    folder.name
    for folder in CASES.iterdir()
    if folder.is_dir() and "checkpoint" in json.loads((folder / "case.json").read_text())
)


pytestmark = pytest.mark.usefixtures("no_gradients")


def copied(folder: Path, changes: dict[str, Tensor | None], **config: Any) -> Path:
    """timm_vit_token with some tensors changed (None: gone), and keys of config.json."""
    tensors: dict[str, Any] = load_file(TIMM_FOLDER / "model.safetensors")
    tensors |= changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "model.safetensors")
    values = json.loads((TIMM_FOLDER / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.promise("M8")
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_as_it_is_every_file_agrees_or_is_asked_about(name: str) -> None:
    """Nothing stated: the outputs of the reference, or VIT-419 or VIT-420 with what to state; where
    the image size alone is assumed, it is said.
    """
    case, refused = read_case(name), ("", "")
    try:
        foreign = read_external(case.checkpoint)
    except ModelError as error:
        refused = (error.code, error.hint)
    if refused[0]:
        assert refused[0] in ("VIT-419", "VIT-420")
        assert "--set" in refused[1]
        assert name in STATED
        return
    is_other = foreign.config.image_size != tuple(case.arrays["x"].shape[2:])
    if is_other:  # a ResNet takes any size, and config.json may name another than the case's
        is_vit = isinstance(foreign.config, ViTConfig)
        assert sources(foreign.facts)["image_size"] == "assumed" or not is_vit
        return
    made = foreign.model(case.arrays["x"])
    keys = ("logits", "pooler_output", "features", "pooled")
    expected = [case.arrays[key] for key in keys if key in case.arrays]
    same = [one for one in expected if one.shape == made.shape]
    assert any((made - one).abs().max() <= 1e-5 for one in same)


def sources(facts: Sequence[Fact]) -> dict[str, str]:
    """Who says each field."""
    return {fact.field: fact.source for fact in facts}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_golden_checkpoint(name: str) -> None:
    """The file alone, with what it does not say: its origin and the reference's logits."""
    case = read_case(name)
    foreign = read_external(case.checkpoint, given=STATED.get(name))
    assert foreign.origin == next(v for k, v in ORIGIN_OF.items() if name.startswith(k))
    assert foreign.report.is_complete
    images = case.arrays["x"]
    if tuple(images.shape[2:]) != foreign.config.image_size:
        pytest.skip("computed at another size: see test_adapt.py")
    key = "logits" if foreign.config.num_classes else OUTPUT.get(name, "features")
    assert (foreign.model(images) - case.arrays[key]).abs().max() <= 1e-5
    assert len(foreign.sha256) == 64
    stated = case.record["files"][str(case.record["checkpoint"])]["sha256"]
    assert foreign.sha256 == stated


def test_every_case_stands_in_the_table_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert {name for name in CHECKPOINTS if f"| `{name}` |" not in text} == set()


def test_load_opens_them(tmp_path: Path) -> None:
    """vitrail.load, and the model folder that its save writes."""
    classifier = vitrail.load(TIMM_FOLDER)
    assert (classifier.meta.origin, classifier.meta.resample) == ("timm", "timm")
    assert classifier.preprocess.resize == 35  # floor(32 / 0.9)
    classifier.save(tmp_path / "model")
    again = vitrail.load(tmp_path / "model")
    assert (again.meta.origin, again.meta.resample) == ("timm", "timm")
    images = read_case("timm_vit_token").arrays["x"]
    assert torch.equal(classifier.model(images), again.model(images))
    assert (
        sources(of_foreign(read_external(TORCHVISION_FILE, given={"num_heads": 2})).meta.facts)[
            "gelu"
        ]
        == "assumed"
    )
    assert "origin" not in json.loads(
        (save_plain(tmp_path / "plain") / "model.json").read_text(encoding="utf-8")
    )


def save_plain(folder: Path) -> Path:
    model = random_model(ViTConfig(**SMALL))
    preprocess = Preprocess(height=16, width=16, resize=(16, 16))
    vitrail.Classifier(model, preprocess).save(folder)
    return folder


@pytest.mark.parametrize("to", ["torchvision", "deit", "dinov2"])
def test_a_single_file_comes_back_whole(tmp_path: Path, to: str) -> None:
    """Heads, preprocessing and classes travel in the metadata; other libraries do not mind."""
    dino = {"layer_scale": 1e-5, "pool": "cls_gap"} if to == "dinov2" else {}
    model: Any = random_model(ViTConfig(**(SMALL | dino)))
    preprocess = Preprocess(height=16, width=16, resize=19, crop="center", mean=(0.1, 0.2, 0.3))
    out = tmp_path / "a.safetensors"
    assert write_foreign(model, preprocess, ["x", "y", "z"], to, out) == [out]
    foreign = read_external(out)
    assert foreign.origin == to
    assert foreign.preprocess == preprocess
    assert foreign.classes == ("x", "y", "z")
    assert {"preprocess", "num_heads", "image_size"} <= {
        fact.field for fact in foreign.facts if fact.where == "vitrail's note"
    }
    images = pictures(model.config)
    assert torch.equal(model(images), foreign.model(images))
    bare = tmp_path / f"{to}_bare.safetensors"
    save_file(load_file(out), bare)
    with pytest.raises(ModelError) as caught:
        read_external(bare, origin=to)
    assert caught.value.code == "VIT-419"
    foreign = read_external(bare, origin=to, given={"num_heads": 3})
    assert torch.equal(model(images), foreign.model(images))
    assert foreign.classes == ()
    assert sources(foreign.facts)["num_heads"] == "stated"
    bare.rename(tmp_path / f"{to}_tiny.safetensors")  # a name is no source of numbers
    with pytest.raises(ModelError, match="num_heads"):
        read_external(tmp_path / f"{to}_tiny.safetensors", origin=to)


@pytest.mark.parametrize(
    "note",
    [
        "{",
        "[]",
        "{}",
        '{"origin": "x"}',
        '{"origin":"deit","numbers":{"width":1},"classes":[]}',
        '{"origin":"deit","numbers":{"num_heads":"9"},"preprocess":{},"classes":[]}',
        "9" * 5000,
    ],
)
def test_a_note_that_is_made_up(tmp_path: Path, note: str) -> None:
    file = tmp_path / "deit_tiny.safetensors"
    state = random_model(ViTConfig(**SMALL)).state_dict()
    save_file(state, file, metadata={"vitrail": note})
    assert read_external(file, given={"num_heads": 3}).origin == "deit"  # by its name


def test_given_comes_first() -> None:
    foreign = read_external(TIMM_FOLDER, given={"num_heads": 4, "gelu": "gelu_tanh"})
    assert isinstance(foreign.config, ViTConfig)
    assert (foreign.config.num_heads, foreign.config.gelu) == (4, "gelu_tanh")
    for wrong in ({"num_heads": "two"}, {"num_heads": 0}, {"image_size": "x"}, {"no_field": 1}):
        with pytest.raises(ModelError) as caught:
            read_external(TIMM_FOLDER, given=wrong)
        assert caught.value.code == "VIT-418"


WRONG: dict[str, tuple[dict[str, Tensor | None], dict[str, Any], str, str]] = {
    "missing": (
        {"blocks.1.mlp.fc2.bias": None},
        {},
        "VIT-424",
        "for the model: blocks.1.mlp.fc2.bias",
    ),
    "missing head": ({"head.bias": None}, {}, "VIT-424", "head.bias"),
    "unknown": ({"blocks.0.adapter": torch.ones(3)}, {}, "VIT-418", "blocks.0.adapter"),
    "shape": ({"norm.weight": torch.ones(31)}, {}, "VIT-413", "norm.weight (31,)"),
    "nan": ({"norm.weight": torch.full((32,), float("nan"))}, {}, "VIT-425", "norm.weight"),
    "infinity": ({"head.bias": torch.full((7,), float("inf"))}, {}, "VIT-425", "head.bias"),
    "integers": ({"norm.weight": torch.ones(32, dtype=torch.int32)}, {}, "VIT-412", "I32"),
    "positions": ({"pos_embed": torch.ones(1, 19, 32)}, {}, "VIT-413", "pos_embed"),
    "block far away": ({"blocks.999999999.norm1.weight": torch.ones(32)}, {}, "VIT-418", "depth 2"),
    "no block": ({"blocks.0.norm1.weight": None}, {}, "VIT-418", "norm1.weight is missing"),
    "heads": ({}, {"model_args": {"num_heads": 5}}, "VIT-418", "num_heads"),
    "size": ({}, {"model_args": {"img_size": 10**9, "num_heads": 2}}, "VIT-418", "image_size"),
    "activation": ({}, {"model_args": {"act_layer": "mish"}}, "VIT-418", "act_layer"),
    "norm": ({}, {"model_args": {"norm_layer": "rmsnorm"}}, "VIT-418", "norm_layer"),
    "pool": ({}, {"global_pool": "avgmax"}, "VIT-418", "global_pool"),
    "architecture": ({}, {"architecture": "vit_base_patch16_rope_mixed_224"}, "VIT-418", "rotary"),
    "arguments": (
        {},
        {"model_args": 7, "architecture": ["x"], "pretrained_cfg": None},
        "VIT-419",
        "heads",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    tensors, config, code, words = WRONG[name]
    with pytest.raises(ModelError) as caught:
        read_external(copied(tmp_path, tensors, **config))
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["aux_head.weight", "aux.weight"])
def test_heads_beside_the_model_can_be_left_out(tmp_path: Path, name: str) -> None:
    folder = copied(tmp_path, {name: torch.ones(3)})
    with pytest.raises(ModelError) as caught:
        read_external(folder)
    assert "--allow-unused" in caught.value.hint
    foreign = read_external(folder, allow_unused=True)
    assert foreign.report.left_out == [(name, "an auxiliary head")]


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    "name",
    [
        "extra.weight",
        "storage_tokens",
        "blocks.0.attn.q_bias",
        "rel_pos_bias.table",
        "head.norm.bias",
    ],
)
def test_what_may_count_is_never_left_out(tmp_path: Path, name: str) -> None:
    """Nobody knows what an unknown tensor does, and these change the function."""
    folder = copied(tmp_path, {name: torch.ones(3)})
    with pytest.raises(ModelError) as caught:
        read_external(folder, allow_unused=True)
    assert caught.value.code in ("VIT-418", "VIT-424")
    assert name in caught.value.message


def test_every_unknown_tensor_is_named_in_full(tmp_path: Path) -> None:
    names = [f"unknown_{number}.weight" for number in range(30)]
    with pytest.raises(ModelError) as caught:
        read_external(copied(tmp_path, {name: torch.ones(3) for name in names}))
    assert all(name in caught.value.message for name in names)
    assert caught.value.details["unused"] == sorted(names)


def test_every_missing_tensor_is_counted(tmp_path: Path) -> None:
    """Ten are named. A bias that is absent in one block alone is missing like any other."""
    names = [name for name in load_file(TIMM_FOLDER / "model.safetensors") if "blocks.1" in name]
    kept = "blocks.1.norm1.weight"
    folder = copied(tmp_path, dict.fromkeys(set(names) - {kept}))
    with pytest.raises(ModelError, match="blocks.1.attn.proj.bias.* and 1 more"):
        read_external(folder)


def test_no_origin_knows_it(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.ones(3, 5)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"layer.weight \(3, 5\)") as caught:
        read_external(tmp_path / "a.safetensors")
    assert caught.value.code == "VIT-422"
    with pytest.raises(ModelError) as caught:
        read_external(TIMM_FOLDER, origin="torchvision")
    assert caught.value.code == "VIT-422"
    with pytest.raises(UsageError, match="Did you mean timm"):
        read_external(TIMM_FOLDER, origin="tim")


def test_a_model_that_is_too_large(tmp_path: Path) -> None:
    for limit in (1000, 100_000):
        with pytest.raises(ModelError) as caught:
            read_external(TIMM_FOLDER, max_bytes=limit)
        assert caught.value.code == "VIT-411"


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("deit", "a.pth"),
        ("deit", "a.npz"),
        ("deit", "a"),
        ("timm", "a.safetensors"),
        ("google", "a.safetensors"),
        ("nobody", "a"),
    ],
)
def test_names_of_out(tmp_path: Path, to: str, name: str) -> None:
    gelu = "gelu_tanh" if to == "google" else "gelu"
    model: Any = random_model(ViTConfig(**(SMALL | {"gelu": gelu})))
    preprocess = Preprocess(height=16, width=16, resize=(16, 16))
    with pytest.raises(UsageError) as caught:
        write_foreign(model, preprocess, [], to, tmp_path / name)
    assert caught.value.code == "VIT-202"
    assert list(tmp_path.iterdir()) == []


def test_names_of_published_sizes() -> None:
    for name in known_names():
        config = resolve_model(name, num_classes=7)
        assert resolve_model(name_of(config), num_classes=7) == config
    assert name_of(ViTConfig(**SMALL)) == "vit"


def header_of(config: ViTConfig, origin: str, name: str) -> Header:
    """The header of a file with these shapes under the origin's names."""
    height, width = config.image_size
    preprocess = Preprocess(height=height, width=width, resize=(height, width))
    written = ORIGINS[origin].write(config, preprocess, ())
    shapes = shapes_of(config)
    found = {rule.theirs[0]: shapes[rule.ours[0]] for rule in written.rules}
    if any("mask_token" in rule.theirs for rule in written.rules):
        found["mask_token"] = (1, config.width)
    return Header(name, found)


PUBLISHED = [
    row
    for row in ROWS
    if row.origin in ("torchvision", "deit", "dinov2") and "swag" not in row.name
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_published_files_are_understood_without_the_catalogue(row: Any) -> None:
    """By names and shapes alone: the architecture, and the preprocessing that the catalogue has."""
    fields: dict[str, Any] = {}
    if row.origin == "dinov2":
        fields = {"layer_scale": 1e-5, "num_registers": 4 if "reg" in row.name else 0}
    elif "deit3" in row.name:
        fields = {"layer_scale": 1e-4, "posemb_prefix": False}
    elif "distilled" in row.name:
        fields = {"distillation_token": True}
    if row.model == "vit_g14" and row.origin == "dinov2":
        pytest.skip("another g, which no name stands for")
    expected = resolve_model(
        row.model, num_classes=row.num_classes, image_size=row.image_size, overrides=fields
    )
    assert isinstance(expected, ViTConfig)
    header = header_of(expected, row.origin, row.address.split("/")[-1])
    header = with_given(header, SHARED.get(row.name, {}), Said("stated"))
    if "deit3" in row.name:  # rope-vit has the shapes and names of S, B and L
        header = with_given(header, {"posemb": "learned"}, Said("stated"))
    found = ORIGINS[row.origin].recognise(header)
    assert found is not None
    known = {"layer_scale": expected.layer_scale}
    assert found.config.model_copy(update=known) == expected
    assert found.preprocess == row.preprocess
    earlier = list(ORIGINS)[: list(ORIGINS).index(row.origin)]
    assert not any(ORIGINS[name].recognise(header) for name in earlier)


@pytest.mark.promise("M8")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "vit_s16.deit_i1k_224",
            ["num_heads", "vit_small_patch16_224: num_heads 6", "mocov3_vit_small: num_heads 12"],
        ),
        ("vit_b16.deit3_1k_224", ["posemb", "deit_3_base_224_1k", "rotary positions"]),
    ],
)
def test_shapes_of_several_published_models_decide_nothing(name: str, words: list[str]) -> None:
    row = next(row for row in PUBLISHED if row.name == name)
    fields: dict[str, Any] = {"layer_scale": 1e-4, "posemb_prefix": False} if "3" in name else {}
    config = resolve_model(row.model, num_classes=1000, image_size=row.image_size, overrides=fields)
    assert isinstance(config, ViTConfig)
    with pytest.raises(ModelError) as caught:
        ORIGINS[row.origin].recognise(header_of(config, row.origin, "deit.pth"))
    assert caught.value.code == "VIT-419"
    assert all(word in caught.value.message for word in words)


CFG: dict[str, Any] = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"crop_pct": 0.9}, {"resize": 17, "crop": "center"}),
        ({"crop_pct": 1.0, "crop_mode": "squash"}, {"resize": (16, 16), "crop": "none"}),
        ({"crop_pct": 0.5, "crop_mode": "border"}, {"resize": 32, "crop": "center"}),
    ],
)
def test_timm_preprocessing(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    found, _ = read_preprocess(ViTConfig(**SMALL), CFG | settings)
    values = found.model_dump()
    assert {key: values[key] for key in expected} == expected
    assert found.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    "settings", [{"crop_pct": "x"}, {"interpolation": "random"}, {"mean": "x"}]
)
def test_timm_preprocessing_that_says_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        read_preprocess(ViTConfig(**SMALL), CFG | settings)
    assert caught.value.code == "VIT-418"


def test_preprocessing_of_one_channel() -> None:
    found, _ = read_preprocess(ViTConfig(**(SMALL | {"channels": 1})), CFG)
    assert found.channels == 1
    assert found.mean == pytest.approx((0.2,))


def test_crop_fractions_give_the_short_side_back() -> None:
    for size in (224, 256, 288, 384, 448, 518, 37):
        for short in range(size, 2 * size, 5):
            assert short_side(size, crop_fraction(size, short)) == short
    assert (crop_fraction(224, 248), crop_fraction(224, 256)) == (0.9, 0.875)


def test_translation_of_names() -> None:
    pairs = (("blocks.#.ls1.gamma", "blocks.#.gamma_1"), ("a.#.b.#", "x.#.y.#"))
    assert translate(pairs, "blocks.12.ls1.gamma") == "blocks.12.gamma_1"
    assert translate(pairs, "a.1.b.23") == "x.1.y.23"
    assert translate(pairs, "blocks.x.ls1.gamma") == "blocks.x.ls1.gamma"


def test_a_folder_of_weights_without_a_description(tmp_path: Path) -> None:
    """A model folder of vitrail that lost its model.json is not taken for a bare file of timm."""
    folder = save_plain(tmp_path / "model")
    (folder / "model.json").unlink()
    with pytest.raises(ModelError) as caught:
        vitrail.load(folder)
    assert caught.value.code == "VIT-433"
    with pytest.raises(ModelError) as caught:
        vitrail.load(folder / "model.safetensors")
    assert caught.value.code == "VIT-419"


def test_downloads_of_the_catalogue_know_their_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file cannot tell, its row can: image size and the publisher's preprocessing."""
    row = next(row for row in ROWS if row.name.startswith("bit_r50x1"))
    small = Preprocess(height=32, width=40, resize=(32, 40))
    told = replace(row, origin="timm", image_size=(32, 40), preprocess=small)
    monkeypatch.setattr("vitrail.checkpoints.external.catalogue_entry_at", lambda _: told)
    foreign = read_external(CASES / "timm_bit" / "model.safetensors")
    assert foreign.config.image_size == (32, 40)
    assert foreign.preprocess == small
    said = sources(foreign.facts)
    assert (said["image_size"], said["preprocess"]) == ("row", "row")


FORMATS: dict[str, dict[str, Any]] = {
    "google": {"gelu": "gelu_tanh"},
    "big_vision": {"gelu": "gelu_tanh", "pool": "gap"},
    "timm": {},
    "huggingface": {"ln_eps": 1e-12},
    "torchvision": {},
    "deit": {},
    "dinov2": {"layer_scale": 1e-5, "num_classes": 0},
}


@pytest.mark.parametrize("place", ["every", "shared"])
@pytest.mark.parametrize("to", FORMATS)
def test_no_format_holds_position_at_every_layer(to: str, place: str) -> None:
    """Control: with position behind the stem each of them holds the model."""
    fields: dict[str, Any] = {
        "image_size": (32, 32),
        "patch_size": (8, 8),
        "width": 24,
        "depth": 2,
        "num_heads": 3,
        "mlp_dim": 96,
        "num_classes": 7,
    }
    config = ViTConfig(**(fields | FORMATS[to]))
    prepared = Preprocess(height=32, width=32, resize=(32, 32), crop="none")
    classes = [f"class {index}" for index in range(config.num_classes)]
    assert plan_writing(config, prepared, classes, to).rules
    refused = ViTConfig(**(fields | FORMATS[to] | {"posemb_at": place}))
    with pytest.raises(ModelError, match=f"posemb_at is '{place}'.* has 'stem' only") as caught:
        plan_writing(refused, prepared, classes, to)
    assert caught.value.code == "VIT-417"
