"""CLIP, MoCo v3, DINO, iBOT and MAE as their authors save them, timm within other libraries: the
numbers of a reference in plain torch, heads and preprocessing of their own, neighbours refused.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.plain_vit import State, blocks, forward, images, state
from vitrail.checkpoints.external import ExternalCheckpoint, read_external
from vitrail.checkpoints.huggingface.preprocess import CLIP
from vitrail.checkpoints.mapping.evaluation_crops import IMAGENET_MEAN
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.origins.openai_clip import PAIRS
from vitrail.checkpoints.origins.torch_layout import translate
from vitrail.checkpoints.recognise import recognise
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

pytestmark = [pytest.mark.promise("M6"), pytest.mark.usefixtures("no_gradients")]
GIVEN: dict[str, Any] = {"num_heads": 3}


def saved(folder: Path, content: dict[str, Any], name: str = "a.pth") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def below(prefix: str, tensors: State) -> State:
    return {prefix + name: value for name, value in tensors.items()}


def assert_agrees(foreign: ExternalCheckpoint, expected: Tensor) -> None:
    assert (foreign.model(images()) - expected).abs().max() <= 1e-5


def clip(tensors: State) -> State:
    """Under OpenAI's names; the head is the projection, transposed and without bias."""
    found = {translate(PAIRS, name): value for name, value in tensors.items()}
    found["class_embedding"] = found.pop("cls_token")[0, 0]
    found["positional_embedding"] = found.pop("pos_embed")[0]
    del found["head.bias"]
    return found | {"proj": found.pop("head.weight").t().contiguous()}


TEXT: State = {
    "transformer.resblocks.0.ln_1.weight": torch.ones(8),
    "token_embedding.weight": torch.ones(9, 8),
    "positional_embedding": torch.ones(7, 8),
    "text_projection": torch.ones(8, 5),
    "ln_final.weight": torch.ones(8),
    "logit_scale": torch.tensor(4.6),
}
OPENAI: State = {
    "input_resolution": torch.tensor(12),
    "context_length": torch.tensor(77),
    "vocab_size": torch.tensor(9),
}


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def clip_state() -> State:
    found = state(pre_norm=True)
    found["head.bias"] = torch.zeros(5)
    return found


@pytest.mark.parametrize("prefix", ["", "module."])
def test_openai_clip(tmp_path: Path, prefix: str) -> None:
    """Told by what its files hold beside the weights; quick_gelu and eps 1e-5 are certain."""
    own = clip_state()
    content = below(prefix, below("visual.", clip(own)) | TEXT | OPENAI)
    foreign = read_external(saved(tmp_path, content), given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3, eps=1e-5, act=quick_gelu))
    assert (foreign.origin, foreign.preprocess.mean) == ("clip", CLIP[0])
    assert {name for name, _ in foreign.report.left_out} == set(below(prefix, TEXT | OPENAI))
    assert any("no classes" in note for note in foreign.notes)


def test_openclip_says_its_activation_or_is_asked(tmp_path: Path) -> None:
    own = clip_state()
    content = below("visual.", clip(own)) | TEXT
    file = saved(tmp_path, content, "open_clip_model.safetensors")
    expected = forward(own, images(), 3, eps=1e-5)
    with pytest.raises(ModelError, match="--set gelu=quick_gelu") as caught:
        read_external(file, given=GIVEN)
    assert caught.value.code == "VIT-418"
    assert_agrees(read_external(file, given=GIVEN | {"gelu": "gelu"}), expected)
    config = {
        "model_cfg": {"vision_cfg": {"width": 48, "head_width": 16, "image_size": 12}},
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    foreign = read_external(tmp_path)
    assert_agrees(foreign, expected)
    assert foreign.preprocess.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("width", "depth", "heads"), [(768, 12, 12), (1280, 32, 16), (1664, 48, 16), (1408, 40, 16)]
)
def test_heads_of_clips_towers(width: int, depth: int, heads: int) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,),
        "positional_embedding": (257, width),
        "conv1.weight": (width, 3, 14, 14),
        "ln_pre.weight": (width,),
        "input_resolution": (),
    }
    for i in range(depth):
        at = f"transformer.resblocks.{i}."
        shapes |= {f"{at}ln_1.weight": (width,), f"{at}mlp.c_fc.weight": (4 * width, width)}
    header = Header(
        "x", {f"visual.{k}" if k != "input_resolution" else k: v for k, v in shapes.items()}
    )
    config = recognise(header, None).found.config
    assert isinstance(config, ViTConfig)
    assert (config.num_heads, config.gelu, config.ln_eps) == (heads, "quick_gelu", 1e-5)


def test_clips_resnet_is_refused(tmp_path: Path) -> None:
    content: State = {f"visual.layer1.0.conv{i}.weight": torch.ones(4, 4, 1, 1) for i in range(6)}
    with pytest.raises(ModelError) as caught:
        read_external(saved(tmp_path, content | TEXT))
    assert caught.value.code == "VIT-422"


def projection_head(place: str) -> State:
    return {
        f"{place}.mlp.0.weight": torch.ones(6, 48),
        f"{place}.mlp.0.bias": torch.ones(6),
        f"{place}.last_layer.weight_g": torch.ones(9, 1),
        f"{place}.last_layer.weight_v": torch.ones(9, 6),
    }


def test_dino_takes_the_teacher_and_leaves_its_head(tmp_path: Path) -> None:
    own, student = state(classes=0), state(classes=0, seed=1)
    content = {
        "student": below("module.", below("backbone.", student) | projection_head("head")),
        "teacher": below("backbone.", own) | projection_head("head"),
        "epoch": 3,
        "dino_loss": {"center": torch.zeros(1, 9)},
    }
    foreign = read_external(saved(tmp_path, content), given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3))
    assert foreign.origin == "dino"
    assert foreign.preprocess.mean == IMAGENET_MEAN
    told = {name for name, _ in foreign.report.left_out}
    assert set(projection_head("head")) <= told


def test_ibot_and_mae(tmp_path: Path) -> None:
    own = state(classes=0)
    masked = own | {"masked_embed": torch.ones(1, 48)}
    foreign = read_external(saved(tmp_path, {"state_dict": masked}), given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3))
    assert foreign.origin == "ibot"
    decoder: State = {
        "mask_token": torch.ones(1, 1, 16),
        "decoder_pos_embed": torch.ones(1, 10, 16),
        "decoder_embed.weight": torch.ones(16, 48),
        "decoder_embed.bias": torch.ones(16),
        "decoder_blocks.0.norm1.weight": torch.ones(16),
        "decoder_norm.weight": torch.ones(16),
        "decoder_pred.weight": torch.ones(48, 16),
    }
    foreign = read_external(saved(tmp_path, {"model": own | decoder}), given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3))
    assert (foreign.origin, foreign.preprocess.mean) == ("mae", IMAGENET_MEAN)
    assert {name for name, _ in foreign.report.left_out} == set(decoder)


def moco(own: State) -> State:
    head: State = {
        "head.0.weight": torch.ones(9, 48),
        "head.1.running_mean": torch.ones(9),
        "head.3.weight": torch.ones(7, 9),
    }
    return {
        **below("module.base_encoder.", own | head),
        **below("module.momentum_encoder.", state(classes=0, seed=1) | head),
        "module.predictor.0.weight": torch.ones(7, 7),
    }


def test_moco_v3_takes_the_encoder_without_its_projection(tmp_path: Path) -> None:
    own = state(classes=0)
    file = saved(tmp_path, {"epoch": 300, "state_dict": moco(own)})
    foreign = read_external(file, given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3))
    assert foreign.origin == "moco"
    assert len(foreign.report.left_out) == 3 + (len(own) + 3) + 1 + 1


@pytest.mark.parametrize(("width", "heads"), [(384, 12), (768, 12)])
def test_moco_v3s_small_has_twelve_heads(width: int, heads: int) -> None:
    """The row is also DeiT-S's, with 6."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 197, width),
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "norm.weight": (width,),
    }
    for i in range(12):
        shapes |= {
            f"blocks.{i}.norm1.weight": (width,),
            f"blocks.{i}.norm1.bias": (width,),
            f"blocks.{i}.attn.qkv.weight": (3 * width, width),
            f"blocks.{i}.mlp.fc1.weight": (4 * width, width),
            f"blocks.{i}.mlp.fc2.weight": (width, 4 * width),
        }
    header = Header("x", {f"module.base_encoder.{k}": v for k, v in shapes.items()})
    match = recognise(header, None)
    assert isinstance(match.found.config, ViTConfig)
    assert (match.origin, match.found.config.num_heads) == ("moco", heads)


def test_a_convolutional_stem_of_moco_v3_is_refused(tmp_path: Path) -> None:
    own = moco(state(classes=0))
    stem = {name.replace("patch_embed.proj.", "patch_embed.proj.0."): v for name, v in own.items()}
    with pytest.raises(ModelError) as caught:
        read_external(saved(tmp_path, stem), given=GIVEN)
    assert caught.value.code == "VIT-422"


def test_a_timm_wrapper_folder(tmp_path: Path) -> None:
    """transformers' folder around a model of timm, with its labels."""
    own = state()
    saved(tmp_path, below("timm_model.", own), "model.safetensors")
    settings = {"input_size": [3, 12, 12], "mean": [0.1] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_type": "timm_wrapper",
        "num_classes": 5,
        "model_args": {"num_heads": 3},
        "pretrained_cfg": settings,
        "global_pool": "token",
        "id2label": dict(zip("01234", "abcde", strict=True)),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    foreign = read_external(tmp_path)
    assert_agrees(foreign, forward(own, images(), 3))
    assert (foreign.origin, foreign.classes) == ("timm", tuple("abcde"))
    assert foreign.preprocess.mean == (0.1, 0.1, 0.1)


def test_a_tower_of_timm_in_openclip(tmp_path: Path) -> None:
    own = state(classes=0)
    content = below("visual.trunk.", own) | {"visual.head.proj.weight": torch.ones(5, 48)} | TEXT
    saved(tmp_path, content, "open_clip_model.safetensors")
    vision = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "token", "image_size": 12}
    shown = {"mean": [0.1] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"vision_cfg": vision}, "preprocess_cfg": shown})
    )
    foreign = read_external(tmp_path, given=GIVEN)
    assert_agrees(foreign, forward(own, images(), 3))
    assert foreign.preprocess.resize == (12, 12)
    told = {name for name, _ in foreign.report.left_out}
    assert told == {"visual.head.proj.weight", *TEXT}


def cct(own: State, kernel: int, count: int) -> State:
    """Under SHI-Labs' names, with convolutions in place of patches and a learned pooling."""
    found: State = {}
    generator = torch.Generator().manual_seed(9)
    sizes = [3, *[8] * (count - 1), 48]
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        kernels = torch.randn(b, a, kernel, kernel, generator=generator) * 0.15
        found[f"tokenizer.conv_layers.{i}.0.weight"] = kernels
    found["classifier.attention_pool.weight"] = torch.randn(1, 48, generator=generator)
    found["classifier.attention_pool.bias"] = torch.randn(1, generator=generator)
    names = {
        "norm1": "pre_norm",
        "attn.qkv": "self_attn.qkv",
        "attn.proj": "self_attn.proj",
        "norm2": "norm1",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
        "head": "fc",
        "norm": "norm",
        "pos_embed": "positional_emb",
    }
    for name, value in own.items():
        if name.startswith("patch_embed") or name.endswith("qkv.bias"):
            continue
        match = re.fullmatch(r"(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?", name)
        assert match is not None
        found[f"classifier.{match[1] or ''}{names[match[2]]}{match[3] or ''}"] = value
    return found


@pytest.mark.parametrize(("kernel", "count", "px"), [(3, 1, 12), (3, 2, 16), (7, 1, 12)])
def test_cct_of_shi_labs(tmp_path: Path, kernel: int, count: int, px: int) -> None:
    """Convolutions with ReLU and pooling, the MLP added behind its norm, the learned mean."""
    side = px // (2 * max(1, kernel // 2 - 1)) ** count
    own = state(side=side, cls=False)
    file = saved(tmp_path, cct(own, kernel, count))
    foreign = read_external(file, given=GIVEN)
    assert foreign.config.image_size == (px, px)
    theirs, x = cct(own, kernel, count), images(px)
    tokens = x
    for i in range(count):
        kernels = theirs[f"tokenizer.conv_layers.{i}.0.weight"]
        tokens = F.conv2d(tokens, kernels, stride=max(1, kernel // 2 - 1), padding=kernel // 2)
        tokens = F.max_pool2d(F.relu(tokens), 3, 2, 1)
    tokens = tokens.flatten(2).transpose(1, 2) + own["pos_embed"]
    bare = {name: value for name, value in own.items() if not name.endswith("qkv.bias")}
    tokens = blocks(bare, tokens, 3, eps=1e-5, block="between")
    score = F.linear(
        tokens, theirs["classifier.attention_pool.weight"], theirs["classifier.attention_pool.bias"]
    )
    pooled = (score.softmax(1) * tokens).sum(1)
    expected = F.linear(pooled, own["head.weight"], own["head.bias"])
    assert (foreign.model(x) - expected).abs().max() <= 1e-5
    assert foreign.origin == "cct"


def test_vit_lite_and_cvt_are_refused(tmp_path: Path) -> None:
    """The same names with patches; their kernels are even."""
    with pytest.raises(ModelError, match="ViT-Lite or CVT") as caught:
        read_external(saved(tmp_path, cct(state(cls=False), 4, 1)), given=GIVEN)
    assert caught.value.code == "VIT-418"
