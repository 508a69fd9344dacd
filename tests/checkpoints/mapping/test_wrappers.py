"""Prefixes of any kind in pickles and safetensors; what lies beside is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoints.golden_case import SMALL, pictures, random_model
from tests.golden.case import CASES, STATED
from vitrail.checkpoints.external import ExternalCheckpoint, read_external
from vitrail.checkpoints.formats.open_tensors import open_tensors
from vitrail.checkpoints.mapping.rules import Header
from vitrail.checkpoints.mapping.wrappers import MAX_VIEWS, views
from vitrail.errors import ModelError
from vitrail.models.vit.config import ViTConfig

CONFIG = ViTConfig(**SMALL)
GIVEN: dict[str, Any] = {"num_heads": 3}
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "backbone.",
    "vit.",
    "encoder.",
    "student.",
    "teacher.",
    "base_encoder.",
    "visual.trunk.",
    "model._orig_mod.",
    "module.model.backbone.",
    "_orig_mod.module.",
    "any.words.at.all.",
    "1.",  # of a Sequential, behind a module that normalises
    "models.0.",
)


def state(seed: int = 0) -> dict[str, Tensor]:
    return dict(random_model(CONFIG, seed=seed).state_dict())


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in tensors.items()}


def saved(path: Path, tensors: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def assert_read(foreign: ExternalCheckpoint, expected: dict[str, Tensor]) -> None:
    found = foreign.model.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_in_any_file(tmp_path: Path, prefix: str, suffix: str) -> None:
    file = saved(tmp_path / f"a{suffix}", below(prefix, state()))
    foreign = read_external(file, given=GIVEN)
    assert_read(foreign, state())
    assert not foreign.report.unused
    assert not foreign.report.left_out
    plain = prefix.replace("_orig_mod.", "")
    assert foreign.report.prefix == plain


def test_names_that_torch_inserts_anywhere(tmp_path: Path) -> None:
    names = {
        name: name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module.") for name in state()
    }
    tensors = {f"_fsdp_wrapped_module.{names[name]}": value for name, value in state().items()}
    assert_read(read_external(saved(tmp_path / "a.pth", tensors), given=GIVEN), state())


BESIDE: dict[str, Any] = {
    "n_averaged": torch.tensor(3),
    "criterion.pos_weight": torch.tensor([3.2]),
    "criterion.base.weight": torch.ones(5, 5),
    "loss_fn.weight": torch.ones(3),
    "train_acc.tp": torch.zeros(3),
    "val_metrics.confmat": torch.zeros(3, 3),
    "model.num_batches_tracked": torch.tensor(7),
    "optimizer.exp_avg": torch.ones(3),
    "predictor.0.weight": torch.ones(3, 3),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["model.", "module.", ""])
def test_what_lies_beside_is_left_out_by_name(tmp_path: Path, prefix: str, suffix: str) -> None:
    tensors = {**below(prefix, state()), **BESIDE}
    foreign = read_external(saved(tmp_path / f"a{suffix}", tensors), given=GIVEN)
    assert_read(foreign, state())
    told = {name.removeprefix(prefix) for name, _ in foreign.report.left_out}
    assert told == {name.removeprefix(prefix) for name in BESIDE}
    assert all(reason for _, reason in foreign.report.left_out)


def test_figures_beside_the_table_are_told(tmp_path: Path) -> None:
    content = {"state_dict": below("model.", state()), "best_acc1": torch.tensor(0.5), "epoch": 3}
    foreign = read_external(saved(tmp_path / "a.pth", content), given=GIVEN)
    assert [name for name, _ in foreign.report.left_out] == ["best_acc1", "epoch"]


@pytest.mark.parametrize(
    "name", ["classifier.weight", "head.weight", "neck.conv.weight", "normalize.mean"]
)
def test_what_nobody_knows_beside_a_model_is_refused(tmp_path: Path, name: str) -> None:
    """A head or a normalisation outside of the prefix changes the answer."""
    tensors = {**below("backbone.", state()), name: torch.ones(3, 24)}
    file = saved(tmp_path / "a.pth", tensors)
    with pytest.raises(ModelError) as caught:
        read_external(file, given=GIVEN)
    assert (caught.value.code, name in caught.value.message) == ("VIT-424", True)


def test_of_student_and_teacher_the_teacher_is_said_to_be_taken(tmp_path: Path) -> None:
    tensors = {**below("student.backbone.", state()), **below("teacher.backbone.", state(1))}
    foreign = read_external(saved(tmp_path / "a.pth", tensors), given=GIVEN)
    assert_read(foreign, state(1))
    fact = next(fact for fact in foreign.facts if fact.field == "table")
    assert (fact.value, fact.possible) == ("teacher.backbone", ("student.backbone",))
    assert len(foreign.report.left_out) == len(state())


def test_of_two_models_that_nothing_tells_apart_none_is_taken(tmp_path: Path) -> None:
    tensors = {**below("left.", state()), **below("right.", state(1))}
    with pytest.raises(ModelError) as caught:
        read_external(saved(tmp_path / "a.pth", tensors), given=GIVEN)
    assert caught.value.code == "VIT-427"
    assert "left." in caught.value.message
    assert "right." in caught.value.message


def test_what_is_missing_below_a_prefix_is_named(tmp_path: Path) -> None:
    tensors = below("model.", {k: v for k, v in state().items() if k != "norm.bias"})
    with pytest.raises(ModelError, match=r"norm\.bias"):
        read_external(saved(tmp_path / "a.pth", tensors), given=GIVEN)


@pytest.mark.parametrize("case", ["hf_vit", "timm_vit_token", "torchvision_vit", "fb_dinov2"])
def test_every_layout_below_a_prefix(tmp_path: Path, case: str) -> None:
    """With config.json beside the weights where there is one."""
    folder = CASES / case
    files = [p for p in folder.iterdir() if p.suffix in (".safetensors", ".pth")]
    path = max(files, key=lambda file: file.stat().st_size)
    source = open_tensors(path)
    tensors = {f"module.model.{name}": source.read(name).clone() for name in source.header.shapes}
    source.close()
    for beside in folder.glob("*config.json"):
        (tmp_path / beside.name).write_bytes(beside.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    whole = tmp_path if (tmp_path / "config.json").exists() else tmp_path / "model.safetensors"
    plain = folder if (tmp_path / "config.json").exists() else path
    given = STATED.get(case)
    expected = read_external(plain, given=given).model.state_dict()
    assert_read(read_external(whole, given=given), expected)


def test_a_file_of_very_many_names_has_few_views() -> None:
    shapes = {
        f"a{i}.b{j}.c.d.e.f.g.h{k}": (1,) for i in range(20) for j in range(20) for k in range(25)
    }
    assert len(views(Header("x", shapes))) <= MAX_VIEWS + 1


def test_images_give_the_same_logits(tmp_path: Path) -> None:
    foreign = read_external(saved(tmp_path / "a.pth", below("net.", state())), given=GIVEN)
    images = pictures(CONFIG)
    with torch.no_grad():
        expected = random_model(CONFIG).eval()(images)
        assert torch.equal(foreign.model(images), expected)
