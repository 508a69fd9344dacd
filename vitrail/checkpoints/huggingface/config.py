"""transformers' `config.json` and our architecture.

Source: transformers 5.23, the configuration class of each model. What the shapes of the tensors
say is read from them; the rest is in the file, or has the class's default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitrail.checkpoints.huggingface.naflex import NAFLEX, naflex_fields, written_naflex
from vitrail.checkpoints.huggingface.names import Names, numbered
from vitrail.checkpoints.mapping.fact import Said
from vitrail.checkpoints.mapping.origin import cannot_hold, check_agrees, vit_config
from vitrail.checkpoints.mapping.rules import Header, Shape
from vitrail.errors import ModelError, nearest
from vitrail.models.vit.config import ViTConfig

# Defaults that matter where a file leaves them out.
VIT: dict[str, Any] = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
DINO: dict[str, Any] = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "layerscale_value": 1.0}
CLIP: dict[str, Any] = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
SIGLIP: dict[str, Any] = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6}
DEFAULTS: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "deit": VIT,
    "dinov2": DINO,
    "dinov2_with_registers": DINO,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "siglip2": SIGLIP,
    "siglip2_vision_model": SIGLIP,
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "vit_msn": VIT | {"layer_norm_eps": 1e-6},
    "vit_mae": VIT,
    "ijepa": VIT,
}
# Kinds that are no typing error: what of theirs ours does not have.
ROTARY = "rotary positions, which are not supported"
RELATIVE = "relative positions and biases of its own, which are not supported"
OTHERS = {
    "dinov3_vit": ROTARY,
    "dinov3_convnext": "a ConvNeXt",
    "eva": ROTARY,
    "eva02": ROTARY,
    "pe_video": ROTARY,
    "beit": RELATIVE,
    "data2vec-vision": RELATIVE,
    "aimv2": "RMS norms and a gated MLP, which are not supported",
    "aimv2_vision_model": "RMS norms and a gated MLP, which are not supported",
    "yolos": "tokens for detection and positions at every layer; it is no classifier",
    "swin": "windows that shift, which are not supported",
    "swinv2": "windows that shift, which are not supported",
    "vit_hybrid": "a BiT of transformers in front; timm's hybrids can be read",
    "vitpose": "a decoder of key points; it is no classifier",
    "dpt": "a decoder of depth; it is no classifier",
    "sam": RELATIVE,
    "sam2": "windows and stages, which are not supported",
    "bit": "a ResNet; Google's and timm's BiT files can be read",
}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
WRITTEN_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
}
MAX_RATIO = 64
TOWERS = ("siglip_vision_model", "siglip2_vision_model", "clip_vision_model")
WHOLE = ("siglip", "siglip2", "clip")  # of images and texts: the image tower is a table of its own
# Our fields and the keys that hold them.
KEYS = {
    "image_size": "image_size",
    "num_heads": "num_attention_heads",
    "gelu": "hidden_act",
    "ln_eps": "layer_norm_eps",
}


def read_config(header: Header, values: Mapping[str, Any], names: Names) -> ViTConfig:
    """The architecture. values: of config.json. Raises ModelError VIT-418."""
    model_type = str(values.get("model_type"))
    inner = values.get("vision_config") if model_type in WHOLE else values
    found = DEFAULTS[model_type] | dict(inner if isinstance(inner, Mapping) else {})
    shapes = header.shapes
    kernel = "patch_embedding" if names.is_siglip else "patch_embeddings.projection"
    name = f"{names.base}embeddings.{kernel}.weight"
    pixels: dict[str, Any]
    if model_type in NAFLEX:
        width, columns = _shape(header, name, 2)
        settings = header.metadata.get("preprocessor_config.json")
        pixels = naflex_fields(header, found, columns, settings)
    else:
        width, channels, *patch = _shape(header, name, 4)
        pixels = {
            "image_size": found.get("image_size", 224),
            "patch_size": tuple(patch),
            "channels": channels,
        }
    hidden = _shape(header, f"{names.layers}0.{names.mlp[-1]}.weight", 2)[1]
    act = str(found["hidden_act"])
    if act not in ACTIVATIONS:
        raise refused(header, f"hidden_act {act!r}: {nearest(act, ACTIVATIONS)}")
    heads = found.get("num_attention_heads", 12)
    if type(heads) is not int:
        raise refused(header, f"num_attention_heads {str(heads)[:60]!r}: no whole number.")
    sizes = (width, numbered(shapes, names), hidden)
    _check_tensors(header, inner, pixels, model_type, names, sizes)
    fields: dict[str, Any] = {
        **pixels,
        "width": width,
        "depth": numbered(shapes, names),
        "num_heads": heads,
        "mlp_dim": hidden,
        "mlp": "swiglu" if is_swiglu(names) else "gelu",
        "gelu": "gelu" if is_swiglu(names) else ACTIVATIONS[act],
        "ln_eps": found["layer_norm_eps"],
        "dropout": found.get("hidden_dropout_prob", 0.0),
        "drop_path": found.get("drop_path_rate", 0.0),
        "drop_path_schedule": "constant",
    }
    if model_type.startswith("dinov2"):  # all of them have it
        fields["layer_scale"] = found["layerscale_value"]
    return vit_config(header, **(fields | _tokens(header, names, found, model_type)))


def _check_tensors(
    header: Header,
    inner: object,
    pixels: Mapping[str, Any],
    model_type: str,
    names: Names,
    sizes: tuple[int, int, int],
) -> None:
    """Hold config.json against the tensors. sizes: width, depth, mlp_dim. Raises ModelError
    VIT-418.
    """
    told = dict(inner) if isinstance(inner, Mapping) else {}
    seen: dict[str, Any] = {"hidden_size": sizes[0], "num_hidden_layers": sizes[1]}
    if model_type not in (*WHOLE, *TOWERS):
        seen |= {"qkv_bias": names.has_bias, "use_swiglu_ffn": is_swiglu(names)}
    elif "classifier.weight" not in header.shapes:
        seen["vision_use_head"] = f"{names.base}head.probe" in header.shapes
    registers = header.shapes.get(f"{names.base}embeddings.register_tokens", ())
    seen["num_register_tokens"] = registers[1] if len(registers) == 3 else 0
    if not model_type.startswith("dinov2"):
        seen["intermediate_size"] = sizes[2]
    if model_type not in NAFLEX:
        patch = told.get("patch_size")
        told["patch_size"] = (patch, patch) if type(patch) is int else patch
        told["patch_size"] = tuple(patch) if isinstance(patch, list) else told["patch_size"]
        seen |= {"patch_size": pixels["patch_size"], "num_channels": pixels["channels"]}
    check_agrees(header, told, seen)


def is_swiglu(names: Names) -> bool:
    """Whether the first layer of the MLP makes gate and value."""
    return "mlp." in names.mlp[0] and "fc1" not in names.mlp[0]


def other_kind(model_type: str) -> str:
    """What is said of a kind of model that is not read."""
    known = OTHERS.get(model_type)
    return f"model_type {model_type!r}" + (
        f": {known}." if known else ", no Vision Transformer that is read."
    )


def said_by(values: Mapping[str, Any]) -> dict[str, Said]:
    """Who says each field that is not in the shapes: the file, or transformers' own default."""
    inner = values.get("vision_config")
    found = inner if isinstance(inner, Mapping) else values
    told, default = Said("file", "config.json"), Said("assumed", "default of the class")
    return {field: told if key in found else default for field, key in KEYS.items()}


def written_config(
    config: ViTConfig, architecture: str, model_type: str, classes: Sequence[str]
) -> dict[str, Any]:
    """The object of config.json."""
    c = config
    is_naflex = c.max_patches is not None
    values: dict[str, Any] = (
        written_naflex(c)
        if is_naflex
        else {
            "image_size": c.image_size[0] if c.image_size[0] == c.image_size[1] else c.image_size,
        }
    )
    values |= {
        "patch_size": c.patch_size[0] if c.patch_size[0] == c.patch_size[1] else c.patch_size,
        "num_channels": c.channels,
        "hidden_size": c.width,
        "num_hidden_layers": c.depth,
        "num_attention_heads": c.num_heads,
        "hidden_act": WRITTEN_ACTIVATIONS[c.gelu],
        "layer_norm_eps": c.ln_eps,
    }
    if model_type.startswith("dinov2"):
        values |= {"mlp_ratio": mlp_ratio(c), "use_swiglu_ffn": c.mlp == "swiglu"}
        values |= {"layerscale_value": 1.0 if c.layer_scale is None else c.layer_scale}
        values |= {"hidden_dropout_prob": c.dropout, "qkv_bias": True}
        if c.drop_path_schedule == "constant":
            values["drop_path_rate"] = c.drop_path
        if model_type == "dinov2":
            values["use_mask_token"] = True
        else:
            values["num_register_tokens"] = c.num_registers
    else:
        values["intermediate_size"] = c.mlp_dim
    if model_type in ("vit", "deit"):
        values |= {"hidden_dropout_prob": c.dropout, "qkv_bias": True}
        if c.representation_size:
            values |= {"pooler_output_size": c.representation_size, "pooler_act": "tanh"}
    if model_type.startswith("siglip"):
        values["vision_use_head"] = c.pool == "map"
    if model_type in ("siglip", "siglip2"):
        inner = {"model_type": f"{model_type}_vision_model", **values}
        values = {"vision_config": inner, "text_config": {"model_type": f"{model_type}_text_model"}}
    values |= {"architectures": [architecture], "model_type": model_type, "dtype": "float32"}
    if c.num_classes:
        names = list(classes) or [f"LABEL_{number}" for number in range(c.num_classes)]
        values["id2label"] = {str(number): name for number, name in enumerate(names)}
        values["label2id"] = {name: number for number, name in enumerate(names)}
    return values


def mlp_ratio(config: ViTConfig) -> int:
    """DINOv2's whole ratio of mlp_dim to width; its SwiGLU keeps two thirds, rounded up to 8.

    Raises ModelError VIT-417 where there is none.
    """
    for ratio in range(1, MAX_RATIO):
        hidden = config.width * ratio
        if config.mlp == "swiglu":
            hidden = (int(hidden * 2 / 3) + 7) // 8 * 8
        if hidden == config.mlp_dim:
            return ratio
    why = f"mlp_dim {config.mlp_dim} is no whole multiple of width {config.width}"
    raise cannot_hold("huggingface (Dinov2)", why)


def refused(header: Header, what: str) -> ModelError:
    """VIT-418: the folder's config.json is of another kind of model."""
    return ModelError(
        "VIT-418",
        f"{header.name}: config.json has {what}",
        hint=f"Models of transformers that can be read: {', '.join(DEFAULTS)}.",
    )


def _shape(header: Header, name: str, rank: int) -> Shape:
    shape = header.shapes.get(name, ())
    if len(shape) != rank:
        found = f"has shape {shape}" if name in header.shapes else "is missing"
        raise ModelError(
            "VIT-418",
            f"{header.name}: {name} {found}; expected a tensor of {rank} axes.",
            hint="The file is not whole, or of another kind of model.",
        )
    return shape


def _tokens(
    header: Header, names: Names, values: Mapping[str, Any], model_type: str
) -> dict[str, Any]:
    """Prefix tokens, pooling and head."""
    shapes = header.shapes
    if "cls_classifier.weight" in shapes:
        num_classes = _shape(header, "cls_classifier.weight", 2)[0]
        return {"distillation_token": True, "num_classes": num_classes}
    has_head = "classifier.weight" in shapes
    fields: dict[str, Any] = {
        "num_classes": _shape(header, "classifier.weight", 2)[0] if has_head else 0
    }
    if names.is_clip:
        is_projected = not has_head and "visual_projection.weight" in shapes
        if is_projected:
            fields["num_classes"] = _shape(header, "visual_projection.weight", 2)[0]
        pool = "gap" if has_head else "cls"
        more = {"cls_token": True, "pre_norm": True, "final_norm": not has_head}
        return fields | more | {"pool": pool, "posemb_prefix": True}
    if names.is_siglip:
        has_map = f"{names.base}head.probe" in shapes and not has_head
        return fields | {"pool": "map" if has_map else "gap"}
    if model_type.startswith("dinov2"):
        both = 2 * _shape(header, f"{names.base}embeddings.cls_token", 3)[2]
        reads_both = has_head and _shape(header, "classifier.weight", 2)[1] == both
        fields["pool"] = "cls_gap" if reads_both else "cls"
        registers = f"{names.base}embeddings.register_tokens"
        if registers in shapes:
            fields["num_registers"] = _shape(header, registers, 3)[1]
        return fields
    if model_type == "ijepa":
        return fields | {"cls_token": False, "pool": "gap"}
    if model_type == "deit":  # the distillation token without a head of its own
        fields["num_registers"] = 1
    return fields if has_head else fields | _pooler(header, names, values)


def _pooler(header: Header, names: Names, values: Mapping[str, Any]) -> dict[str, Any]:
    """The tanh layer of an encoder. Raises ModelError VIT-418 for another activation."""
    pooler = f"{names.base}pooler.dense.weight"
    if pooler not in header.shapes:
        return {}
    act = values.get("pooler_act", "tanh")
    if act != "tanh":
        raise refused(header, f"pooler_act {str(act)[:60]!r}, not tanh; it is not supported.")
    return {"representation_size": _shape(header, pooler, 2)[0]}
