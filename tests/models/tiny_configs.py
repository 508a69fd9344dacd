"""Tiny architectures that cover every option of ViTConfig and every pair of options.

Sizes are primes where the options allow it, and height differs from width everywhere, so that a
swapped axis cannot go unnoticed.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from vitrail.errors import UsageError
from vitrail.models.vit.config import ViTConfig

BASE: dict[str, Any] = {
    "image_size": (10, 9),
    "patch_size": (5, 3),
    "channels": 2,
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_dim": 11,
    "num_classes": 7,
}
# The root of a hybrid, its stages, convolutions, and residual stems with BatchNorm and without a
# unit; grids 3 x 2, 2 x 3, 3 x 2, 3 x 2 and 3 x 1.
STEMS: dict[str, dict[str, Any]] = {
    "root": {
        "stem": "resnet",
        "stem_width": 32,
        "image_size": (10, 13),  # map 3 x 4
        "patch_size": (1, 2),
    },
    "stages": {
        "stem": "resnet",
        "stem_width": 32,
        "stem_stages": (1, 2),
        "stem_root": "small",
        "std_form": "inside",
        "std_eps": 1e-3,
        "gn_eps": 1e-3,
        "image_size": (4, 5),  # map 2 x 3
        "patch_size": (1, 1),
    },
    "conv": {
        "stem": "conv",
        "stem_convs": 2,
        "stem_width": 5,
        "image_size": (10, 7),  # map 3 x 2
        "patch_size": (1, 1),
    },
    "residual": {
        "stem": "residual",
        "stem_width": 6,
        "stem_stride": 1,
        "stem_widths": (8, 10),
        "stem_strides": (3, 2),
        "stem_depths": (1, 0),
        "image_size": (14, 7),  # maps 14 x 7, 5 x 3, 3 x 2
        "patch_size": (1, 1),
    },
    "convolutions": {
        "stem": "residual",
        "stem_width": 6,
        "stem_norm": "group_std",
        "image_size": (11, 5),  # map 6 x 3
        "patch_size": (2, 3),
    },
}
# Every option with its values; a value of several fields is a dict.
OPTIONS: dict[str, list[Any]] = {
    "pool": [
        *("cls", "gap", "map", "cls_gap", "seq"),
        {"pool": "map", "map_heads": 4, "map_mlp_dim": 5, "map_prefix": False},
    ],
    "cls_token": [{}, {"cls_token": True}],
    "norm_after_pool": [False, True],
    "posemb": [
        *("none", "learned", "learned_2d", "sincos_2d", "relative", "rope_2d"),
        {
            "posemb": "learned_rope_2d",
            "rope": "index",
            "rope_base": 7.0,
            "rope_start": 1.0,
            "rope_grid": (5, 7),
        },
    ],
    "posemb_prefix": [False, True],
    "posemb_at": ["stem", "every", "shared"],
    "num_registers": [0, 3],
    "layer_scale": [None, 0.1],
    "qk_norm": [False, True],
    "mlp": ["gelu", "swiglu"],
    "gelu": ["gelu", "gelu_tanh", "quick_gelu", "relu"],
    "block": ["pre", "post", "branch", "between"],
    "drop_path": [0.0, 0.3],
    "drop_path_schedule": ["linear", "constant"],
    "dropout": [0.0, 0.2],
    "representation_size": [None, 13],
    "distillation_token": [False, True],
    "ln_eps": [1e-6, 1e-3],
    "head_bias_init": [0.0, -3.0],
    "pre_norm": [False, True],
    "channels": [2, 1],
    "shape": [
        {},
        {"image_size": (6, 35), "patch_size": (2, 7)},  # grid 3 x 5
        {"width": 20, "num_heads": 5, "mlp_dim": 17},
        {"depth": 1, "image_size": (7, 22), "patch_size": (7, 2)},  # grid 1 x 11
    ],
    # After the shape: behind a stem other sizes fit.
    "stem": [{}, *STEMS.values()],
}
Choice = dict[str, int]  # option to the index of its value


def build_config(choice: Choice) -> ViTConfig:
    """Raises UsageError where the options exclude each other."""
    values = dict(BASE)
    for option, index in choice.items():
        value = OPTIONS[option][index]
        values |= value if isinstance(value, dict) else {option: value}
    return ViTConfig(**values)


def pairs_of(choice: Choice) -> set[frozenset[tuple[str, int]]]:
    """Every two (option, value) that stand together."""
    return {frozenset(pair) for pair in itertools.combinations(choice.items(), 2)}


def all_pairs() -> set[frozenset[tuple[str, int]]]:
    """Every two values of different options."""
    values = [[(option, i) for i in range(len(OPTIONS[option]))] for option in OPTIONS]
    couples = itertools.combinations(values, 2)
    return {frozenset(pair) for a, b in couples for pair in itertools.product(a, b)}


def is_possible(choice: Choice) -> bool:
    """Whether the package accepts these options together."""
    try:
        build_config(choice)
    except UsageError:
        return False
    return True


def covering_choices(seed: int = 1, attempts: int = 120) -> list[Choice]:
    """Few choices that contain every possible pair of values: greedy, the same on every run."""
    generator = random.Random(seed)
    uncovered, chosen = all_pairs(), list[Choice]()
    failures = 0
    while uncovered and failures < 60:
        best: Choice = {}
        most = 0
        for _ in range(attempts):
            choice = {option: generator.randrange(len(OPTIONS[option])) for option in OPTIONS}
            choice |= dict(generator.choice(sorted(map(sorted, uncovered))))
            gain = len(uncovered & pairs_of(choice))
            if gain > most and is_possible(choice):
                best, most = choice, gain
        failures = 0 if best else failures + 1
        uncovered -= pairs_of(best)
        chosen += [best] if best else []
    return chosen
