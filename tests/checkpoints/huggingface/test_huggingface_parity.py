"""Parity with transformers itself: its models read here, folders written here opened there.

Needs the extra `parity` (make parity).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.checkpoints.golden_case import (
    Tensors,
    case_source,
    fill,
    outputs,
    pictures,
    random_model,
    read,
    recognised,
    source,
    with_exchanged,
    write,
)
from tests.checkpoints.huggingface.test_huggingface import FORMS, VIT
from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.formats.tensor_writing import write_folder
from vitrail.checkpoints.huggingface.layout import HUGGINGFACE
from vitrail.checkpoints.mapping.origin import Origin
from vitrail.checkpoints.origins.big_vision import BIG_VISION
from vitrail.checkpoints.origins.google import GOOGLE
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.vit.config import ViTConfig

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
}
VIT_SIZES: dict[str, Any] = {**SIZES, "intermediate_size": 31}
# Class, its configuration, and what a model of ours gives: logits, or the features.
MODELS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", {**VIT_SIZES, "num_labels": 5}, "logits"),
    "vit, oblong": (
        "ViTForImageClassification",
        "ViTConfig",
        {**VIT_SIZES, "num_labels": 5, "image_size": [12, 18], "patch_size": [4, 6]}
        | {"hidden_act": "gelu_new", "qkv_bias": False, "num_channels": 1},
        "logits",
    ),
    "vit, quick": (
        "ViTForImageClassification",
        "ViTConfig",
        {**VIT_SIZES, "num_labels": 2, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        "logits",
    ),
    "vit, bare": ("ViTModel", "ViTConfig", {**VIT_SIZES, "pooler_output_size": 7}, "pooler_output"),
    "deit": ("DeiTForImageClassification", "DeiTConfig", {**VIT_SIZES, "num_labels": 5}, "logits"),
    "deit, teacher": (
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {**VIT_SIZES, "num_labels": 5},
        "logits",
    ),
    "deit, bare": ("DeiTModel", "DeiTConfig", VIT_SIZES, "pooler_output"),
    "dinov2": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {**SIZES, "num_labels": 5},
        "logits",
    ),
    "dinov2, swiglu": (
        "Dinov2ForImageClassification",
        "Dinov2Config",
        {**SIZES, "num_labels": 5, "use_swiglu_ffn": True, "use_mask_token": False},
        "logits",
    ),
    "dinov2, bare": ("Dinov2Model", "Dinov2Config", {**SIZES, "mlp_ratio": 2}, "pooler_output"),
    "registers": (
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        {**SIZES, "num_labels": 5, "num_register_tokens": 3},
        "logits",
    ),
    "registers, swiglu": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**SIZES, "use_swiglu_ffn": True},
        "pooler_output",
    ),
    "siglip": (
        "SiglipForImageClassification",
        "SiglipConfig",
        {"vision_config": VIT_SIZES, "text_config": {**VIT_SIZES, "vocab_size": 7}}
        | {"num_labels": 5},
        "logits",
    ),
    "siglip, tower": ("SiglipVisionModel", "SiglipVisionConfig", VIT_SIZES, "pooler_output"),
}


@pytest.fixture
def transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, which must not look for anything on a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    module = pytest.importorskip("transformers")
    module.logging.set_verbosity_error()
    module.logging.disable_progress_bar()
    with torch.no_grad():
        yield module


def theirs(transformers: Any, name: str) -> Any:
    """A model of transformers with every tensor random."""
    architecture, configuration, values, _ = MODELS[name]
    generator = torch.Generator().manual_seed(7)
    config = getattr(transformers, configuration)(**values)
    config._attn_implementation = "sdpa"  # eager computes its softmax in float32
    model = getattr(transformers, architecture)(config)
    for value in model.parameters():
        noise = torch.randn(value.shape, generator=generator)
        value.copy_(noise / value[0].numel() ** 0.5 if value.ndim > 1 else 1 + noise / 2)
    return model.eval()


def saved(model: Any, folder: Path) -> Tensors:
    """As transformers writes it: the names of version 4."""
    model.save_pretrained(folder)
    file = open_tensors(folder)
    values = {name: file.read(name).clone() for name in file.header.shapes}
    file.close()
    return Tensors(file.header, values)


def in_memory(model: Any, _: Path) -> Tensors:
    """Its state dict: the names of version 5."""
    return source(model.state_dict(), {"config.json": json.loads(model.config.to_json_string())})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", [saved, in_memory])
def test_models_of_transformers_give_the_same_here(
    transformers: Any, tmp_path: Path, name: str, form: Callable[[Any, Path], Tensors]
) -> None:
    model = theirs(transformers, name)
    file = form(model, tmp_path)
    ours, found = read(HUGGINGFACE, file)
    images = pictures(found.config)
    key = MODELS[name][3]

    def difference(here: nn.Module, there: Any, inputs: Tensor) -> float:
        return float((here(inputs) - there(pixel_values=inputs)[key]).abs().max())

    assert difference(ours, model, images) <= 1e-5
    # Token and row become one float32 tensor where DeiT's second token has no head: rounded once.
    limit = 1e-8 if name in ("deit", "deit, bare") else 1e-9
    assert difference(ours.double(), model.double(), images.double()) <= limit
    wrong, _ = fill(with_exchanged(recognised(HUGGINGFACE, file)), file)
    assert difference(wrong.double(), model, images.double()) > 1e-3


def test_both_schemas_are_in_use(transformers: Any, tmp_path: Path) -> None:
    """Should a version save other names than today's, the tests above would not notice."""
    model = theirs(transformers, "vit")
    assert "vit.encoder.layer.1.attention.attention.key.weight" in saved(model, tmp_path).values
    assert "vit.layers.1.attention.k_proj.weight" in in_memory(model, tmp_path).values


def folder_of(form: str, path: Path, preprocess: Preprocess | None = None) -> SimpleNamespace:
    """A random model of ours, written as a folder."""
    config = ViTConfig(**(VIT | FORMS[form][0]))
    model = random_model(config)
    classes = tuple(f"class {number}" for number in range(config.num_classes))
    if preprocess is None:
        statistics = (
            ((0.4,), (0.2,)) if config.channels == 1 else ((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
        )
        height, width = config.image_size
        preprocess = Preprocess(
            height=height,
            width=width,
            resize=(height, width),
            interpolation="bicubic",
            mean=statistics[0],
            std=statistics[1],
        )
    tensors, record = write(HUGGINGFACE, model, preprocess, classes)
    write_folder(path, record.weights, tensors.values, record.files)
    return SimpleNamespace(
        path=path, model=model, config=config, classes=classes, preprocess=preprocess
    )


@pytest.mark.parametrize("form", FORMS)
def test_transformers_opens_written_folders(transformers: Any, tmp_path: Path, form: str) -> None:
    """Nothing missing, nothing left over, the same logits."""
    ours = folder_of(form, tmp_path / "model")
    has_head = ours.config.num_classes > 0
    opener = transformers.AutoModelForImageClassification if has_head else transformers.AutoModel
    model, info = opener.from_pretrained(ours.path, output_loading_info=True)
    allowed = {"pooler.dense.weight", "pooler.dense.bias"} if form == "vit, bare" else set()
    assert set(info["missing_keys"]) <= allowed
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert type(model).__name__ == FORMS[form][1]
    images = pictures(ours.config)
    for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        output = model.to(dtype)(pixel_values=images.to(dtype))
        found = output["logits"] if has_head else output["pooler_output"]
        if form == "vit, bare":
            found = output["last_hidden_state"][:, 0]
        assert (found - ours.model.to(dtype)(images.to(dtype))).abs().max() <= limit
    if has_head:
        assert tuple(model.config.id2label[i] for i in range(len(ours.classes))) == ours.classes


@pytest.mark.parametrize(
    ("case", "origin", "size"),
    [("google_vit_token", GOOGLE, (32, 32)), ("bv_vit_tok_learn", BIG_VISION, (24, 40))],
)
def test_from_googles_file_to_transformers(
    transformers: Any, tmp_path: Path, case: str, origin: Origin, size: tuple[int, int]
) -> None:
    """Flax arrays, read and written here, give Flax's logits there."""
    ours, _ = read(origin, case_source(case, image_size=size))
    tensors, record = write(HUGGINGFACE, ours)
    write_folder(tmp_path / "model", record.weights, tensors.values, record.files)
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "model")
    data = outputs(case)
    assert (model(pixel_values=data["x"]).logits - data["logits"]).abs().max() <= 1e-5
    double = model.double()(pixel_values=data["x"].double()).logits
    assert (double - data["logits_f64"]).abs().max() <= 1e-9


def photograph(height: int, width: int) -> Image.Image:
    """Noise on a gradient, so that every step of the preprocessing leaves a trace."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 160, height)[:, None, None] + np.linspace(0, 60, width)[None, :, None]
    return Image.fromarray((ramp + rng.integers(0, 36, (height, width, 3))).astype(np.uint8))


PREPROCESSES: dict[str, dict[str, Any]] = {
    "squash": {"resize": (12, 12), "interpolation": "bilinear"},
    "squash and crop": {"resize": (15, 17), "crop": "center_floor", "interpolation": "lanczos"},
    "short side": {"resize": 13, "crop": "center_floor", "interpolation": "bicubic"},
    "short side, nearest": {"resize": 12, "crop": "center_floor", "interpolation": "nearest"},
}


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("form", ["vit", "deit", "registers", "mean"])
def test_pipeline_gives_the_same_answer(
    transformers: Any, tmp_path: Path, form: str, name: str
) -> None:
    """File in, labels and scores out: preprocessing included."""
    statistics: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    preprocess = Preprocess(height=12, width=12, **PREPROCESSES[name], **statistics)
    ours = folder_of(form, tmp_path / "model", preprocess)
    pipeline = transformers.pipeline("image-classification", model=str(ours.path))
    for height, width in ((41, 67), (53, 29), (12, 12)):
        path = tmp_path / "picture.png"
        photograph(height, width).save(path)
        scores = ours.model(preprocess(path).unsqueeze(0)).softmax(-1)[0]
        answers = pipeline(str(path), top_k=5)
        assert [item["label"] for item in answers] == [
            ours.classes[index] for index in scores.argsort(descending=True)
        ]
        for item in answers:
            expected = float(scores[ours.classes.index(item["label"])])
            assert abs(item["score"] - expected) <= 1e-5


@pytest.mark.parametrize("name", PREPROCESSES)
def test_processors_read_here_make_the_same_pixels(
    transformers: Any, tmp_path: Path, name: str
) -> None:
    """What transformers writes of its own processors, read back and applied."""
    kinds = {"squash": "ViT", "squash and crop": "DeiT"}
    processor_class = getattr(transformers, f"{kinds.get(name, 'Bit')}ImageProcessorPil")
    fields = PREPROCESSES[name]
    resize = fields["resize"]
    size = (
        {"shortest_edge": resize}
        if isinstance(resize, int)
        else dict(zip(("height", "width"), resize, strict=True))
    )
    resample = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}[fields["interpolation"]]
    processor = processor_class(
        size=size, resample=resample, crop_size={"height": 12, "width": 12}, rescale_factor=1 / 127
    )
    processor.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    file = in_memory(theirs(transformers, "vit"), tmp_path)
    metadata = {**file.header.metadata, "preprocessor_config.json": settings}
    found = recognised(HUGGINGFACE, source(file.values, metadata))
    assert not found.notes
    for height, width in ((41, 67), (53, 29)):
        picture = photograph(height, width)
        pixels = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        assert (found.preprocess(picture) - pixels).abs().max() <= 1e-5
