"""Models that a run reads: the one it starts from and its teacher, each held to what it was when
the run was started: weights, classes, architecture and preprocessing.
"""

from __future__ import annotations

import hashlib
import json

import torch

from vitrail.checkpoints.adapt.fixed_patch import FLEXIBLE, is_flexible
from vitrail.checkpoints.mapping.stated import read_settings
from vitrail.classifier import Classifier, load
from vitrail.config import StartConfig
from vitrail.errors import ModelError
from vitrail.models.create import Model
from vitrail.models.names import ModelConfig

REGULARISERS = ("dropout", "drop_path", "drop_path_schedule", "patch_drop")  # change no answer


def load_pinned(
    path: str, sha256: str, key: str, read_as: StartConfig | None = None
) -> tuple[Classifier, ModelConfig, str]:
    """The model at `path`, its architecture and the hash of what it is made of.

    sha256: what the hash must be, or "". key: the setting that names the model, for the message.
    read_as: what the file does not say.
    Raises what `vitrail.load` raises, and ModelError VIT-404 for another hash.
    """
    said = read_as or StartConfig()
    given = read_settings(said.given.split())
    model = load(
        path,
        given=given,
        origin=said.origin or None,
        table=said.table or None,
        name_map=said.map or None,
    )
    found = fingerprint(model)
    if sha256 not in ("", found):
        raise ModelError(
            "VIT-404",
            f"{path} ({key}) is not the model that the run was started with: expected sha256 "
            f"{sha256[:12]}..., got {found[:12]}... of its weights, classes, architecture and "
            "preprocessing.",
            hint="Put the old model back, with what was said of it (--map, config.json), or start "
            "a new run: vitrail train DATA --from MODEL",
        )
    assert isinstance(model.model, Model)
    return model, model.model.config, found


def fingerprint(model: Classifier) -> str:
    """sha256 over names, shapes and values of the weights, the names of the classes, and what no
    tensor shows: architecture and preprocessing.

    The same for a model wherever it lies and in whatever container.
    """
    assert isinstance(model.model, Model)
    architecture = model.model.config
    later = set() if is_flexible(architecture) else set(FLEXIBLE)  # hashes of before them stay
    config = architecture.model_dump(mode="json", exclude=later | set(REGULARISERS))
    facts = [model.classes, config, model.preprocess.to_json()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(model.model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
