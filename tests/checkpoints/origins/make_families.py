"""Makes tests/checkpoints/families: small models of transformers with random weights, and what they
answer. Needs transformers 5.23; from the root: python tests/checkpoints/origins/make_families.py

Every parameter is random, those that usually begin as zero or one too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

PLACE = Path(__file__).with_name("families")
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 12,
    "patch_size": 4,
    "intermediate_size": 31,
}
NAMES = {"id2label": {str(i): name for i, name in enumerate("abcde")}}
# Class, configuration, its settings, and which of the outputs is ours.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionConfig", SIZES, "pooler_output"),
    "clip_projection": (
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        SIZES | {"projection_dim": 7, "hidden_act": "gelu"},
        "image_embeds",
    ),
    "clip_classifier": (
        "CLIPForImageClassification",
        "CLIPConfig",
        {"vision_config": SIZES} | NAMES,
        "logits",
    ),
    "vit_msn": ("ViTMSNForImageClassification", "ViTMSNConfig", SIZES | NAMES, "logits"),
    "ijepa": ("IJepaForImageClassification", "IJepaConfig", SIZES | NAMES, "logits"),
    "vit_mae": (
        "ViTMAEForPreTraining",
        "ViTMAEConfig",
        SIZES
        | {
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "mask_ratio": 0.0,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 20,
        },
        "encoder",
    ),
    "siglip_rest": (
        "SiglipVisionModel",
        "SiglipVisionConfig",
        SIZES | {"image_size": 15, "patch_size": 4},
        "pooler_output",
    ),
}


def main() -> None:
    """Write every folder."""
    for number, (name, (kind, config, settings, output)) in enumerate(FAMILIES.items()):
        torch.manual_seed(number)
        model = getattr(transformers, kind)(getattr(transformers, config)(**settings)).eval()
        for value in model.parameters():
            torch.nn.init.normal_(value, 0.0 if value.ndim > 1 else 0.7, 0.3)
        inner = settings.get("vision_config", settings)
        x = torch.randn(4, 3, inner["image_size"], inner["image_size"])
        with torch.no_grad():
            if output == "encoder":
                expected = model.vit(x).last_hidden_state[:, 0]
            else:
                expected = model(x)[output]
        model.save_pretrained(PLACE / name)
        np.savez(PLACE / name / "io.npz", x=x.numpy(), expected=expected.numpy())
        path = PLACE / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()), indent=1) + "\n")


if __name__ == "__main__":
    main()
