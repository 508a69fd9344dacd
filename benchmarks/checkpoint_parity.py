"""The table of docs/checkpoints.md: every golden checkpoint, read, compared, written, read again.

    python -m benchmarks.checkpoint_parity

Largest absolute difference of the logits (of the features where there is no head) to those of the
reference implementation: our float32 to its float32, our float64 to its float64. "back" is "same
bits" where the tensors that were written and read again are those that were read; "equal form"
where the format stores the same function in another way, with the difference of the logits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.checkpoints.golden_case import as_double, pictures, random_model
from tests.checkpoints.test_external import CHECKPOINTS, OUTPUT
from tests.golden.case import STATED, read_case
from vitrail.checkpoints.external import ExternalCheckpoint, read_external, write_foreign
from vitrail.checkpoints.mapping.rules import MappingReport
from vitrail.checkpoints.origins.registry import ORIGINS
from vitrail.data.images.preprocess import Preprocess
from vitrail.errors import VitrailError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.cost import parameters
from vitrail.models.names import ModelConfig
from vitrail.models.vit.config import ViTConfig

HEAD = ("source", "case", "model", "float32", "float64", "back")


SMALL: dict[str, Any] = {
    "image_size": (24, 24),
    "patch_size": (8, 8),
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 20,
    "num_classes": 5,
    "channels": 3,
}
HYBRID = {"patch_size": (1, 1), "stem": "resnet", "stem_stages": (1, 1), "stem_width": 32}
MODELS: dict[str, ModelConfig] = {
    "ViT, cls": ViTConfig(**SMALL),
    "with tanh GELU": ViTConfig(**SMALL, gelu="gelu_tanh"),
    "gap": ViTConfig(**SMALL, pool="gap", gelu="gelu_tanh"),
    "map": ViTConfig(**SMALL, pool="map", gelu="gelu_tanh"),
    "sincos_2d, gap": ViTConfig(**SMALL, pool="gap", posemb="sincos_2d", gelu="gelu_tanh"),
    "pre_logits": ViTConfig(**SMALL, representation_size=24, gelu="gelu_tanh"),
    "distilled": ViTConfig(**SMALL, distillation_token=True),
    "layer scale, no cls position": ViTConfig(**SMALL, layer_scale=1e-4, posemb_prefix=False),
    "DINOv2, registers": ViTConfig(
        **SMALL, layer_scale=1e-5, num_registers=4, pool="cls_gap", posemb="learned"
    ),
    "hybrid": ViTConfig(**SMALL | HYBRID, gelu="gelu_tanh"),
    "hybrid, timm's constants": ViTConfig(
        **SMALL | HYBRID, std_form="inside", std_eps=1e-8, gn_eps=1e-5
    ),
    "BiT-ResNet v2": BiTConfig(
        image_size=(24, 24), depths=(1, 1), width_factor=0.5, num_classes=5, channels=3
    ),
    "BiT-ResNet v2, timm's constants": BiTConfig(
        image_size=(24, 24),
        depths=(1, 1),
        width_factor=0.5,
        num_classes=5,
        channels=3,
        std_eps=1e-8,
    ),
    "BiT-ResNet v1": BiTConfig(
        image_size=(24, 24),
        depths=(1, 1),
        width_factor=0.5,
        num_classes=5,
        channels=3,
        style="v1_gn",
    ),
}


def formats() -> None:
    """Which format holds which model: "same bits" by writing and reading, or "-" for a refusal."""
    print("| model | " + " | ".join(ORIGINS) + " |\n|---" + "|---" * len(ORIGINS) + "|")
    for name, config in MODELS.items():
        model: Any = random_model(config)
        preprocess = Preprocess(height=24, width=24, resize=(24, 24))
        cells = []
        for to in ORIGINS:
            foreign = ExternalCheckpoint(
                Path(),
                model,
                config,
                preprocess,
                (),
                to,
                MappingReport(),
                "",
                "",
            )
            back = round_trip(foreign)
            cells.append("-" if back.startswith("VIT-417") else back)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    with torch.no_grad():
        formats()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    with torch.no_grad():
        for name in CHECKPOINTS:
            print("| " + " | ".join(row(name)) + " |", flush=True)


def row(name: str) -> list[str]:
    """One line of the table."""
    case = read_case(name)
    foreign = read_external(case.checkpoint, given=STATED.get(name))
    key = "logits" if foreign.config.num_classes else OUTPUT.get(name, "features")
    found = ["other size: adapted", "other size: adapted"]
    back = round_trip(foreign)
    images = case.arrays["x"]
    if tuple(images.shape[2:]) == foreign.config.image_size and key in case.arrays:
        plain = difference(foreign.model(images), case.arrays[key])
        exact = case.arrays.get(f"{key}_f64")
        doubled = as_double(foreign.model)(images.double())
        found = [plain, difference(doubled, exact) if exact is not None else "not given"]
    config = foreign.config
    size = "x".join(str(side) for side in config.image_size)
    what = f"{config.family}, {size} px, {parameters(config):,} parameters"
    return [foreign.origin, f"`{name}`", what, *found, back]


def difference(ours: Tensor, theirs: Tensor) -> str:
    return f"{float((ours - theirs).abs().max()):.1e}"


def round_trip(foreign: ExternalCheckpoint) -> str:
    """What came back of the model that was written in its own format."""
    with tempfile.TemporaryDirectory() as folder:
        suffix = {"google": ".npz", "big_vision": ".npz", "bit": ".npz"}.get(foreign.origin)
        suffix = suffix or ("" if foreign.origin in ("huggingface", "timm") else ".safetensors")
        out = Path(folder) / f"back{suffix}"
        try:
            write_foreign(foreign.model, foreign.preprocess, foreign.classes, foreign.origin, out)
        except VitrailError as error:
            return f"{error.code}: {error.message}"
        given = {"image_size": foreign.config.image_size} if suffix else {}
        if hasattr(foreign.config, "num_heads"):
            given["num_heads"] = foreign.config.num_heads  # type: ignore[assignment]
        again = read_external(out, origin=foreign.origin, given=given)
    one, other = foreign.model.state_dict(), again.model.state_dict()
    if set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one):
        return "same bits"
    images = pictures(foreign.config)
    return f"equal form, {difference(foreign.model(images), again.model(images))}"


if __name__ == "__main__":
    main()
