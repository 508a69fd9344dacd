"""Models that a run reads: the one it starts from and its teacher, each held to the weights that
the run was started with.
"""

from __future__ import annotations

import hashlib
import json

import torch

from vitrail.checkpoints.mapping.stated import read_settings
from vitrail.classifier import Classifier, load
from vitrail.config import StartConfig
from vitrail.errors import ModelError
from vitrail.models.create import Model
from vitrail.models.names import ModelConfig


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
            f"{sha256[:12]}..., got {found[:12]}... of its weights and classes.",
            hint="Put the old model back, or start a new run: vitrail train DATA --from MODEL",
        )
    assert isinstance(model.model, Model)
    return model, model.model.config, found


def fingerprint(model: Classifier) -> str:
    """sha256 over names, shapes and values of the weights, and the names of the classes.

    The same for a model wherever it lies and in whatever container.
    """
    digest = hashlib.sha256(json.dumps(model.classes).encode())
    for name, value in sorted(model.model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
