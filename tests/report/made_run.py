"""A small run directory made of random numbers, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.images.preprocess import Preprocess
from vitrail.evaluation.record import Evaluation
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.report.explanations import ModelExplanations

HOSTILE = [
    "<script>alert(1)</script>",
    '" onerror="x',
    "\u202egnp.\u05d0\u05d1",
    "a|b `c` *d*",
    "x\x07y",
]


def made_run(
    folder: Path, classes: list[str], *, n: int = 211, seed: int = 0, epochs: int = 12
) -> Path:
    """A finished run on n test and n // 2 validation images."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(curve_lines(rng, epochs)), encoding="utf-8")
    figures = {}
    for split, size in (("val", n // 2), ("test", n)):
        record = made_evaluation(classes, size, rng)
        record.write(folder / "eval" / split)
        figures[split] = record.to_json()
    run: dict[str, Any] = {
        "schema": 1,
        "versions": {"vitrail": "0.1.0", "torch": "2.13.0"},
        "git": "0123456789ab",
        "command": "vitrail train 'photos <b>' --epochs 12",
        "started": "2026-11-23T02:00:00",
        "device": "cpu",
        "threads": 2,
        "seed": 0,
        "machine": {"cpu": "some <i>CPU</i>", "gpus": [], "memory_bytes": 3 << 30, "mps": False},
        "model": {"name": "vit_s16", "depth": 12, "width": 384, "image_size": [224, 192]},
        "config_hash": "0123456789abcdef",
        "status": "finished",
        "seconds": 754.2,
        "best": {"step": 90, "epoch": 9.0, "val/loss": 1.2345, "val/top1": 0.61},
        "baselines": {"majority class": 0.2, "nearest neighbour (of 99 training images)": 0.31},
        "results": figures,
        "bad_files": 0,
    }
    data = {
        "name": "photos",
        "classes": classes,
        "split": "15 % held out",
        "counts": {"train": 5 * n},
        "class_counts": {"train": {name: 3 + i for i, name in enumerate(classes)}},
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "config.toml").write_text(
        'seed = 0\n[data]\npath = "absent/photos <b>"\n', encoding="utf-8"
    )
    return folder


def made_evaluation(classes: list[str], n: int, rng: np.random.Generator) -> Evaluation:
    """Predictions that are right about six times in ten."""
    labels = rng.integers(len(classes), size=n)
    logits = rng.normal(size=(n, len(classes))) * 1.5
    logits[np.arange(n), labels] += 2.5
    p = np.exp(logits)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    losses = -np.log(p[np.arange(n), labels].astype(float))
    ids = tuple(f"{classes[c]}/IMG_{i:04d}.jpg" for i, c in enumerate(labels))
    return Evaluation(tuple(classes), p, labels, losses, ids, images_per_s=321.0)


def curve_lines(rng: np.random.Generator, epochs: int) -> list[str]:
    """Ten training records an epoch and one evaluation; the last line is torn."""
    lines = []
    for step in range(1, 10 * epochs + 1):
        share = step / (10 * epochs)
        train = 2.3 * np.exp(-2.5 * share) + 0.05 * rng.normal()
        record = {
            "step": step,
            "epoch": step / 10,
            "train/loss": train,
            "optim/lr": 1e-3 * (1 - share),
        }
        lines.append(json.dumps(record) + "\n")
        if step % 10 == 0:
            val = 2.2 * np.exp(-2 * share) + 0.6 * share**2 + 0.02 * rng.normal()
            top1 = 0.7 * (1 - np.exp(-3 * share)) + 0.01 * rng.normal()
            record = {"step": step, "epoch": step / 10, "val/loss": val, "val/top1": top1}
            lines.append(json.dumps(record) + "\n")
    return [*lines, '{"step": 99']


def made_audit(classes: list[str]) -> dict[str, Any]:
    """audit.json of a run with copies across splits and doubtful labels."""
    members = [
        {"split": split, "index": place, "source": f"{name}/IMG_{place:04d}.jpg", "label": name}
        for place, (split, name) in enumerate(
            zip(["train", "val", "test"] * 9, classes * 9, strict=False)
        )
    ]
    kinds = ["equal", "copy", "mirrored", "recoloured"]
    groups = [
        {
            "is_exact": False,
            "members": [
                dict(one, kind=kinds[(i + j) % 4] if j else "equal")
                for j, one in enumerate(members[i : i + 2 + i % 4])
            ],
        }
        for i in range(15)
    ]
    doubted = [
        dict(one, suggested=classes[0], p_label=0.01 * i, p_suggested=0.9)
        for i, one in enumerate(members[:12])
    ]
    own = {
        "n": 300,
        "suspects": 12,
        "top1": 0.9,
        "origin": "a model",
        "why_not": "",
        "found": doubted,
    }
    refused = {**own, "found": [], "suspects": 0, "why_not": "label check inconclusive: too few"}
    leak = {"pictures": 5, "n": 97, "top1": 0.61, "top1_without": 0.59}
    return {
        "schema": 1,
        "looked": {"train": 300, "test": 97},
        "duplicates": {"groups": 15, "across_splits": 15, "other_labels": 15, "shown": groups},
        "leaks": {"test": leak, "val": {**leak, "pictures": 0}},
        "label_suspects": {"train": own, "test": refused},
        "notes": ["only 200 of 300 train images were looked at"],
    }


def made_inside(classes: list[str], posemb: str = "learned") -> ModelExplanations:
    """A small model with random weights."""
    fields: dict[str, Any] = {
        "image_size": (24, 32),
        "patch_size": (8, 8),
        "width": 12,
        "depth": 3,
        "num_heads": 3,
        "mlp_dim": 24,
        "num_classes": len(classes),
        "posemb": posemb,
    }
    model = create_model(ViTConfig(**fields))
    preprocess = Preprocess(
        height=24,
        width=32,
        resize=(24, 32),
        crop="none",
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    return ModelExplanations(model, preprocess, classes)
