"""`--from MODEL`: what is taken over, what is refused, what is trained, and resuming such runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import vitrail
from tests.training.running import StopAt, records, resume, train, train_from, weights
from vitrail.classifier import load
from vitrail.config import StartConfig, TrainConfig
from vitrail.data.images.preprocess import Preprocess, short_side
from vitrail.errors import ModelError, UsageError, VitrailError
from vitrail.models.create import create_model
from vitrail.models.names import ModelConfig
from vitrail.settings.layers import resolve
from vitrail.training import loop
from vitrail.training.network import create_network
from vitrail.training.plan.derived import at_size
from vitrail.training.plan.pinned_model import fingerprint, load_pinned
from vitrail.training.plan.plan_run import Plan, plan_run

STILL: dict[str, Any] = {"lr": 1e-30, "optim__weight_decay": 0.0, "ema": 0.0, "steps": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits; its head knows them."""
    folder = tmp_path_factory.mktemp("source")
    return train(folder, "source", steps=9, augment__policy="none", augment__mixup=0).run_dir


@pytest.fixture(scope="module")
def still(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from `source` whose one step moves nothing."""
    return train_from(tmp_path_factory.mktemp("still"), source, **STILL).run_dir


def tensors(run_dir: Path) -> dict[str, Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def architecture(run: Path) -> ModelConfig:
    return load_pinned(str(run), "", "")[1]


def planned(source: Path, **settings: Any) -> Plan:
    layer = {"data.path": "builtin:digits", "from": str(source), "device": "cpu"}
    return plan_run([("test", layer | settings)])


def test_planning_enters_each_module_once(source: Path) -> None:
    """In the order of docs/architecture.md: a profile of what `plan_run` calls."""
    text = Path(__file__).parents[3].joinpath("docs/architecture.md").read_text(encoding="utf-8")
    block = text.split("## Planning a run", 1)[1].split("\n## ", 1)[0]
    listed = [line.split()[0] for line in block.splitlines() if line.startswith("    ")]
    here = "vitrail.training.plan."
    entered: list[str] = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back.f_globals.get("__name__") if frame.f_back else ""
        module = str(frame.f_globals.get("__name__"))
        is_ours = module.startswith("vitrail.") and not module.startswith("vitrail.data.")
        is_call = event == "call" and not frame.f_code.co_name.startswith("__")
        is_next = module not in (caller, *entered[-1:])
        if is_ours and is_call and is_next and caller == f"{here}plan_run":
            entered.append(module)

    sys.setprofile(follow)
    try:
        planned(source)
    finally:
        sys.setprofile(None)
    assert [name.removeprefix(here).removeprefix("vitrail.") for name in entered] == listed
    assert len(set(entered)) == len(entered) < 10


# What is taken over


def test_a_run_starts_from_the_weights_with_a_new_head(source: Path, still: Path) -> None:
    before, after = tensors(source), tensors(still)
    assert before.keys() == after.keys()
    for name, value in after.items():
        if name.startswith("head."):
            assert value.abs().max() < 1e-20  # new: zeros, and one step of 1e-30
            assert before[name].abs().max() > 1e-4
        else:
            assert torch.equal(value, before[name]), name
    assert records(still)[0]["train/loss"] == pytest.approx(np.log(10), abs=1e-6)


def test_the_same_from_python(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(loop, "train", lambda layers, **_: given.append(layers))
    vitrail.train("builtin:digits", from_=source, steps=1)
    config, _ = resolve(given[0])
    assert config.start.model == str(source)


def test_rows_of_the_head_are_kept_by_name(source: Path, tmp_path: Path) -> None:
    run = train_from(tmp_path, source, start__head="by_name", **STILL).run_dir
    before, after = tensors(source), tensors(run)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    written = json.loads((run / "run.json").read_text())
    assert written["results"]["test"]["top1"] == load_metrics(source)["top1"]


def load_metrics(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "eval" / "test" / "metrics.json").read_text())
    return metrics


def test_the_run_says_where_it_comes_from(source: Path, still: Path) -> None:
    run = still
    told = json.loads((run / "run.json").read_text())["from"]
    assert told["model"] == str(source)
    assert told["sha256"] == fingerprint(load(source))
    assert "head" in told["changes"][0]
    assert f'sha256 = "{told["sha256"]}"' in (run / "config.toml").read_text()
    assert load(run).meta.trained_on["from"]["sha256"] == told["sha256"]


def test_preprocessing_is_that_of_the_model(source: Path) -> None:
    """small.scratch normalises by the data set; whatever the recipe says, the source decides."""
    kept = load(source).preprocess
    assert planned(source).preprocess == kept
    assert planned(source, recipe="paper.finetune").preprocess == kept
    larger = planned(source, image_size=16).preprocess
    assert larger == kept.model_copy(update={"height": 16, "width": 16, "resize": (16, 16)})
    changed = planned(source, **{"data.normalize": "half"}).preprocess
    assert changed.mean == (0.5,)


@pytest.mark.parametrize(
    ("resize", "crop", "size", "expected"),
    [
        (256, "center", (384, 384), 438),  # floor(384 / 0.875), as timm
        (short_side(224, 0.9), "center", (160, 160), 177),
        ((256, 256), "center", (96, 112), (109, 128)),
        ((224, 224), "none", (7, 11), (7, 11)),
    ],
)
def test_resizing_in_proportion(
    resize: Any, crop: Any, size: tuple[int, int], expected: Any
) -> None:
    kept = Preprocess(height=224, width=224, resize=resize, crop=crop, interpolation="bilinear")
    found = at_size(kept, size, 3)
    assert (found.height, found.width, found.resize) == (*size, expected)
    assert (found.crop, found.interpolation, found.mean) == (crop, "bilinear", kept.mean)
    gray = at_size(kept.model_copy(update={"mean": (0.2, 0.4, 0.9)}), size, 1)
    assert gray.mean == pytest.approx((0.5,))


def test_another_size_adapts_the_model(source: Path) -> None:
    plan, before = planned(source, image_size="12x16"), architecture(source)
    assert plan.model == before.model_copy(update={"image_size": (12, 16), "dropout": 0.0})
    assert any("4x4 becomes 6x8" in sentence for sentence in plan.changes)


def test_dropout_is_the_new_runs(source: Path) -> None:
    assert architecture(source).model_dump()["dropout"] == 0.1
    assert planned(source).model.model_dump()["dropout"] == 0.0
    assert planned(source, **{"model.dropout": "0.3"}).model.model_dump()["dropout"] == 0.3


# What is refused


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"model.depth": 3}, "VIT-245"),
        ({"model.name": "vit_s16"}, "VIT-245"),
        ({"model.image_size": "16"}, "VIT-245"),
        ({"model.droput": 0.1}, "VIT-245"),
        ({"image_size": 9}, "VIT-214"),
        ({"data.crop_fraction": 0.9}, "VIT-246"),
        ({"freeze": "body", "optim.layer_decay": 0.5}, "VIT-246"),
        ({"distill.alpha": 0.1}, "VIT-246"),
        ({"lora.alpha": 3.0}, "VIT-246"),
        ({"freeze": "body", "lora.rank": 3}, "VIT-249"),
        ({"freeze": "body", "model.representation_size": 12}, "VIT-254"),
        ({"lora.rank": 2, "model.distillation_token": "true"}, "VIT-254"),
        ({"start.sha256": "0" * 64}, "VIT-404"),
        ({"from": "nowhere"}, "VIT-430"),
        ({"teacher": "nowhere"}, "VIT-430"),
        ({"start.head": "all"}, "VIT-212"),
    ],
)
def test_refused_with_a_model(source: Path, settings: dict[str, Any], code: str) -> None:
    with pytest.raises(VitrailError) as caught:
        planned(source, **settings)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"freeze": "body"}, "VIT-226"),
        ({"lora.rank": 3}, "VIT-248"),
        ({"start.head": "by_name"}, "VIT-246"),
        ({"data.normalize": "source"}, "VIT-246"),
        ({"data.resize": "source"}, "VIT-246"),
        ({"data.interpolation": "source"}, "VIT-246"),
        ({"distill.kind": "soft"}, "VIT-246"),
    ],
)
def test_refused_without_one(settings: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan_run([("test", {"data.path": "builtin:digits", **settings})])
    assert caught.value.code == code


def test_no_class_in_common(source: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, (41, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(41) % 2 + 30)
    with pytest.raises(UsageError, match="knows none") as caught:
        planned(source, **{"data.path": str(tmp_path / "data.npz"), "start.head": "by_name"})
    assert caught.value.code == "VIT-247"


# What is trained


def test_frozen_body_keeps_its_bits(source: Path, tmp_path: Path) -> None:
    run = train_from(tmp_path, source, freeze="body", ema=0.9, optim__weight_decay=0.3).run_dir
    before, after = tensors(source), tensors(run)
    for name, value in after.items():
        assert torch.equal(value, before[name]) != name.startswith("head."), name
    optim = load_file(max((run / "checkpoints").glob("step-*")) / "optim.safetensors")
    assert {name.split("/")[1] for name in optim} == {"head.weight", "head.bias"}


def test_no_gradient_goes_through_a_frozen_body() -> None:
    config = TrainConfig(start=StartConfig(model="x"), freeze="body")
    model = create_model("vit_digits", num_classes=10, channels=1).config
    network = create_network(config, model)
    features = network.get_submodule("head")
    seen: list[bool] = []
    features.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    network(torch.randn(3, 1, 8, 8)).sum().backward()
    assert seen == [False]
    with_gradient = {name for name, value in network.named_parameters() if value.grad is not None}
    assert with_gradient == {"head.weight", "head.bias"}


def test_adapters_are_merged_on_saving(source: Path, tmp_path: Path) -> None:
    run = train_from(tmp_path, source, lora__rank=3, lr=1e-2).run_dir
    before, after = tensors(source), tensors(run)
    assert after.keys() == before.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    layers = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")
    assert changed == {f"blocks.{i}.{layer}" for i in range(2) for layer in layers} | {
        "head.weight",
        "head.bias",
    }
    ranks = [
        int(torch.linalg.matrix_rank((after[name] - before[name]).double(), tol=1e-5))
        for name in changed
        if name.startswith("blocks.")
    ]
    assert max(ranks) <= 3
    told = json.loads((run / "run.json").read_text())["results"]["test"]
    assert load(run).evaluate("builtin:digits").top1 == told["top1"]


# Resuming

KINDS: dict[str, dict[str, Any]] = {
    "all": {"model__dropout": 0.1, "augment__mixup": 0.2},
    "adapters": {"lora__rank": 3, "model__drop_path": 0.2},
    "head and teacher": {"freeze": "body", "distill__kind": "soft", "augment__cutmix": 1.0},
}


def settings_of(kind: str, source: Path) -> dict[str, Any]:
    return KINDS[kind] | ({"teacher": str(source)} if "teacher" in kind else {})


@pytest.fixture(scope="module")
def straight(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("straight")
    return {
        kind: train_from(folder, source, kind.split()[0], **settings_of(kind, source)).run_dir
        for kind in KINDS
    }


@pytest.mark.promise("R1")
@pytest.mark.parametrize("kind", list(KINDS))
def test_stopped_and_resumed_equals_straight(
    straight: dict[str, Path], source: Path, tmp_path: Path, kind: str
) -> None:
    changes = settings_of(kind, source)
    stopped = train_from(tmp_path, source, reporter=StopAt(7), **changes)
    assert stopped.stopped == "SIGINT"
    resume(stopped.run_dir)
    assert records(stopped.run_dir) == records(straight[kind])
    assert weights(stopped.run_dir) == weights(straight[kind])


def stopped_copy(source: Path, folder: Path, **changes: Any) -> tuple[Path, Path]:
    """(stopped run, its source), where both may be moved and changed."""
    own = folder / "own"
    shutil.copytree(source / "model", own)
    return train_from(folder, own, reporter=StopAt(4), **changes).run_dir, own


def without_checkpoints(run: Path) -> None:
    """As a run that was killed before its first checkpoint."""
    shutil.rmtree(run / "checkpoints")


@pytest.mark.promise("R1")
def test_with_a_checkpoint_the_source_is_not_needed(
    straight: dict[str, Path], source: Path, tmp_path: Path
) -> None:
    run, own = stopped_copy(source, tmp_path, **KINDS["all"])
    shutil.rmtree(own)
    resume(run)
    assert weights(run) == weights(straight["all"])


@pytest.mark.promise("R1")
def test_without_a_checkpoint_the_source_is_opened_again(
    straight: dict[str, Path], source: Path, tmp_path: Path
) -> None:
    run, _ = stopped_copy(source, tmp_path, **KINDS["adapters"])
    without_checkpoints(run)
    resume(run)
    assert weights(run) == weights(straight["adapters"])


def test_without_a_checkpoint_another_source_is_refused(source: Path, tmp_path: Path) -> None:
    run, own = stopped_copy(source, tmp_path)
    without_checkpoints(run)
    changed = load(own)
    changed.model.get_parameter("norm.bias").data += 1
    changed.save(own, replace=True)
    with pytest.raises(ModelError) as caught:
        resume(run)
    assert caught.value.code == "VIT-404"
    shutil.rmtree(own)
    with pytest.raises(ModelError) as caught:
        resume(run)
    assert caught.value.code == "VIT-430"


def test_another_teacher_is_refused(source: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(source / "model", own)
    run = train(tmp_path, teacher=str(own), reporter=StopAt(4)).run_dir
    changed = load(own)
    changed.classes = changed.classes[::-1]
    changed.save(own, replace=True)
    with pytest.raises(ModelError) as caught:
        resume(run)
    assert caught.value.code == "VIT-404"


def test_a_time_limit_starts_from_the_model_too(source: Path, tmp_path: Path) -> None:
    """The throwaway steps that measure the pace leave the weights alone."""
    layer: dict[str, Any] = {"data.path": "builtin:digits", "from": str(source), "lr": 1e-30}
    layer |= {"time_limit": "2s", "threads": 1, "precision": "float32", "ema": 0.0}
    run = loop.train([("test", layer)], runs_dir=tmp_path, name="run").run_dir
    before, after = tensors(source), tensors(run)
    assert all(torch.equal(after[name], before[name]) for name in after if "head" not in name)
