"""Whole runs on the built-in digits: the same seed gives the same bits, stopped or not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.training.running import TINY, StopAt, records, resume, train, weights
from vitrail.classifier import load
from vitrail.data.sources.open_data import fingerprint
from vitrail.errors import DataError, EnvironmentFault, ModelError, TrainingError, UsageError
from vitrail.evaluation.eval_set import open_given, open_own
from vitrail.training.dry_run import dry_run
from vitrail.training.plan.plan_run import Plan, plan_run
from vitrail.training.reporter import SilentReporter
from vitrail.training.tasks import objectives


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("straight"), with_report=True).run_dir


def test_writes_the_run_directory(straight: Path) -> None:
    run = json.loads((straight / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["config_hash"]
    data = json.loads((straight / "data.json").read_text())
    assert data["counts"] == {"train": 1437, "val": 180, "test": 180}
    for name in (
        "config.toml",
        "config.sources.json",
        "log.txt",
        "model/model.json",
        "report.html",
        "eval/test/metrics.json",
        "eval/val/predictions.csv",
    ):
        assert (straight / name).is_file(), name
    assert len(list((straight / "checkpoints").glob("step-*"))) in (2, 3)


def test_records_use_the_public_names(straight: Path) -> None:
    found = records(straight)
    assert found[-1]["step"] == 13
    assert {
        "val/loss",
        "val/top1",
        "val/top5",
        "val/nll",
        "val/ece",
        "val/brier",
        "val/f1_macro",
    } <= set(found[-1])
    training = [record for record in found if "train/loss" in record]
    assert {"train/loss", "optim/lr", "optim/grad_norm", "step", "epoch"} <= set(training[0])


def test_first_loss_is_ln_of_classes(tmp_path: Path) -> None:
    run = train(tmp_path, steps=1, augment__mixup=0).run_dir
    assert records(run)[0]["train/loss"] == pytest.approx(np.log(10), abs=1e-6)


@pytest.mark.promise("R6")
def test_same_seed_same_bits_and_another_seed_others(straight: Path, tmp_path: Path) -> None:
    again, other = train(tmp_path, "again").run_dir, train(tmp_path, "other", seed=1).run_dir
    assert records(again) == records(straight)
    assert weights(again) == weights(straight)
    assert weights(other) != weights(straight)


@pytest.mark.promise("R1")
@pytest.mark.parametrize("stop_at", [1, 2, 6, 12])
def test_stopped_and_resumed_equals_straight(straight: Path, tmp_path: Path, stop_at: int) -> None:
    stopped = train(tmp_path, reporter=StopAt(stop_at))
    assert stopped.stopped == "SIGINT"
    assert json.loads((stopped.run_dir / "run.json").read_text())["status"] == "stopped"
    resume(stopped.run_dir)
    assert records(stopped.run_dir) == records(straight)
    assert weights(stopped.run_dir) == weights(straight)


def test_lost_steps_are_done_again_after_a_kill(straight: Path, tmp_path: Path) -> None:
    """Records behind the last checkpoint of a killed process are cut off and written again."""
    stopped = train(tmp_path, reporter=StopAt(7)).run_dir
    newest = max((stopped / "checkpoints").glob("step-*"))
    (newest / "optim.safetensors").write_bytes(b"torn")
    with (stopped / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "torn')
    resume(stopped)
    assert records(stopped) == records(straight)
    assert weights(stopped) == weights(straight)


def test_finished_run_is_not_resumed(straight: Path) -> None:
    with pytest.raises(ModelError, match="finished") as caught:
        resume(straight)
    assert caught.value.code == "VIT-408"


def test_changed_data_is_not_resumed(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, (97, 7, 5), dtype=np.uint8)
    labels = np.arange(97) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    settings: dict[str, Any] = {
        "data__path": str(tmp_path / "data.npz"),
        "batch_size": 11,
        "model__name": "vit_ti1",
        "augment__policy": "none",
        "steps": 5,
    }
    stopped = train(tmp_path, reporter=StopAt(2), **settings).run_dir
    images[0] += 1
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    with pytest.raises(DataError, match=r"1 \w+ images changed \(images:0\)") as caught:
        resume(stopped)
    assert caught.value.code == "VIT-322"


def test_accumulation_does_not_change_the_result(tmp_path: Path) -> None:
    """Equal parts: the mean of their gradients is the gradient of the batch, up to rounding."""
    changes: dict[str, Any] = {"batch_size": 30, "model__dropout": 0.0, "steps": 5}
    whole = train(tmp_path, "whole", **changes).run_dir
    parts = train(tmp_path, "parts", optim__accumulate=5, **changes).run_dir
    for a, b in zip(records(whole), records(parts), strict=True):
        assert a.get("train/loss", 0) == pytest.approx(b.get("train/loss", 0), rel=2e-5)


@pytest.mark.promise("R9")
def test_diverging_run_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"n": 0}
    real = objectives.loss

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls["n"] += 1
        loss: torch.Tensor = real(*args, **kwargs)
        return loss * (float("nan") if calls["n"] == 8 else 1.0)

    monkeypatch.setattr(objectives, "loss", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path)
    assert caught.value.code == "VIT-601"
    assert caught.value.exit_code == 6
    run = tmp_path / "run"
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert json.loads((run / "debug" / "batch.json").read_text())["step"] == 8
    monkeypatch.setattr(objectives, "loss", real)
    assert resume(run).steps == 13


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    result = train(tmp_path, patience=1, optim__lr=1e-30, steps=60)
    assert result.stopped == "patience"
    assert result.steps < 60


def test_overfits_eight_images(tmp_path: Path) -> None:
    images = np.random.default_rng(7).integers(0, 256, (12, 8, 12, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "data.npz",
        train_images=images[:8],
        train_labels=np.arange(8) % 2,
        val_images=images[8:],
        val_labels=np.arange(4) % 2,
    )
    result = train(
        tmp_path,
        data__path=str(tmp_path / "data.npz"),
        batch_size=8,
        steps=150,
        augment__policy="none",
        augment__crop="none",
        augment__flip=0,
        augment__mixup=0,
        model__name="vit_ti4",
        lr=3e-3,
        model__dropout=0,
        ema=0,
        loss__label_smoothing=0,
        eval_every_epochs=150,
        save_every_steps=150,
    )
    assert [r for r in records(result.run_dir) if "train/loss" in r][-1]["train/loss"] < 0.02


def test_files_train_the_same_whatever_the_workers(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(23):
            pixels = generator.integers(0, 256, (29, 37, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    settings: dict[str, Any] = {
        "data__path": str(tmp_path / "photos"),
        "batch_size": 7,
        "steps": 5,
        "model__name": "vit_ti8",
        "data__image_size": "24x32",
    }
    runs = [train(tmp_path, f"w{w}", data__workers=w, **settings).run_dir for w in (0, 1, 2)]
    assert weights(runs[0]) == weights(runs[1]) == weights(runs[2])
    assert records(runs[0]) == records(runs[1]) == records(runs[2])


def test_bad_file_stops_the_run_or_is_skipped(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(19):
            Image.new("RGB", (17, 19), (number, 10, 200)).save(
                tmp_path / "photos" / label / f"{number}.png"
            )
    (tmp_path / "photos" / "a" / "bad.png").write_bytes(b"\x89PNG not really")
    settings: dict[str, Any] = {
        "data__path": str(tmp_path / "photos"),
        "batch_size": 5,
        "steps": 2,
        "model__name": "vit_ti8",
        "data__image_size": 16,
        "data__workers": 0,
    }
    with pytest.raises(DataError, match=r"a/bad\.png") as caught:
        train(tmp_path, "stops", **settings)
    assert caught.value.code == "VIT-301"
    run = train(tmp_path, "skips", data__on_bad_file="skip", **settings).run_dir
    assert len((run / "bad_files.csv").read_text().splitlines()) == 2
    assert json.loads((run / "run.json").read_text())["bad_files"] == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"batch_size": 5000}, "VIT-219"),
        ({"optim__accumulate": 2}, "VIT-219"),
        ({"freeze": "body"}, "VIT-226"),
        ({"recipe": "small.scratsh"}, "VIT-217"),
        ({"model__name": "vit_digits", "model__depht": 3}, "VIT-211"),
        ({"data__image_size": 9}, "VIT-214"),
        ({"data__train_pictures": 7}, "VIT-219"),
        ({"data__train_pictures": 1438}, "VIT-219"),
        ({"schedule__warmup": 50}, "VIT-243"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        train(tmp_path, **changes)
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("gigabytes", "parts"), [(0.011, 2), (0.004, 8), (0.0001, None)])
def test_a_batch_that_does_not_fit_is_refused_with_the_parts_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gigabytes: float, parts: int | None
) -> None:
    settings: dict[str, Any] = {"batch_size": 128, "model__width": 64, "model__mlp_dim": 128}
    monkeypatch.setattr(
        "vitrail.training.plan.compatibility.memory_bytes", lambda: int(gigabytes * 1e9)
    )
    with pytest.raises(EnvironmentFault) as caught:
        train(tmp_path, **settings)
    assert caught.value.code == "VIT-503"
    if parts is None:
        assert "accumulate" not in caught.value.hint
        return
    assert f"--optim.accumulate {parts}:" in caught.value.hint
    assert train(tmp_path, optim__accumulate=parts, steps=1, **settings).steps == 1


def test_a_run_of_many_threads_goes_on_where_there_is_one_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.device.num_cores", lambda: 2)
    monkeypatch.setattr("vitrail.training.plan.compatibility.num_cores", lambda: 2)
    before = torch.get_num_threads()
    told: list[str] = []
    reporter = SilentReporter()
    monkeypatch.setattr(reporter, "notice", told.append)
    try:
        run = train(tmp_path, threads=8, reporter=StopAt(4)).run_dir
        monkeypatch.setattr("vitrail.device.num_cores", lambda: 1)
        monkeypatch.setattr("vitrail.training.plan.compatibility.num_cores", lambda: 1)
        assert resume(run, reporter=reporter).steps == 13
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert any("too few for the 8 threads" in text for text in told)
    assert any("started with threads 8, continued with 1" in text for text in told)


def test_the_report_says_how_python_started_the_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {key: value for key, value in TINY.items() if "." not in key}
    more = {key: value for key, value in TINY.items() if "." in key and key != "data.path"}
    options["steps"] = 2
    first = vitrail.train(
        "builtin:digits", runs_dir=tmp_path, name="one", settings=more, **options
    ).run_dir
    call = json.loads((first / "run.json").read_text())["command"]
    assert call.startswith("vitrail.train('builtin:digits', ")
    assert call in (first / "report.md").read_text()
    again = eval(call.replace("'one'", "'again'"), {"vitrail": vitrail})
    assert weights(again.run_dir) == weights(first)


def test_the_best_evaluation_is_told_once_and_the_same_everywhere(straight: Path) -> None:
    best = json.loads((straight / "run.json").read_text())["best"]
    evaluated = [one for one in records(straight) if "val/top1" in one]
    assert best == {
        key: max(evaluated, key=lambda one: (one["val/top1"], -one["val/loss"]))[key]
        for key in best
    }
    page = (straight / "report.html").read_text()
    assert page.count("Best evaluation") == 1
    assert f"epoch {best['epoch']:.2f}</bdi><small>" in page
    assert "Best val/top1" not in page


def test_plan_explains_its_choices() -> None:

    plan: Plan = plan_run([("test", {"data.path": "builtin:digits"})])
    chosen = {key: value for key, value, _ in plan.choices}
    assert chosen["data.image_size"] == (8, 8)
    assert chosen["augment.flip"] == 0.0  # a mirrored 3 is no 3
    assert all(why for _, _, why in plan.choices)
    assert "auto" not in [value for _, value, _ in plan.choices]
    assert plan.preprocess.channels == 1


def test_several_labels_an_image_train_with_a_sigmoid(tmp_path: Path) -> None:
    rows = ["path,label"]
    generator = np.random.default_rng(11)
    for number in range(37):
        pixels = generator.integers(0, 256, (17, 13, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('a', 'b', 'a|b')[number % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    run = train(
        tmp_path,
        data__path=str(tmp_path / "labels.csv"),
        batch_size=5,
        steps=3,
        model__name="vit_ti8",
        data__image_size=16,
        data__workers=0,
    ).run_dir
    assert 'name = "sigmoid"' in (run / "config.toml").read_text()
    assert json.loads((run / "model" / "model.json").read_text())["scores"] == "sigmoid"


def test_activation_checkpointing_changes_no_bit(straight: Path, tmp_path: Path) -> None:
    run = train(tmp_path, checkpoint_activations=True).run_dir
    assert weights(run) == weights(straight)


def test_dry_run_measures_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = dry_run(plan_run([("test", TINY)]))
    assert found.total_steps == 13
    assert found.seconds is not None
    assert found.seconds > 13 * found.step_secs > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.promise("R1")
def test_killed_process_continues(tmp_path: Path, straight: Path) -> None:
    """kill -9 in the middle of a real process; the slow test does it at many moments."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.training.running import train\n"
        f"train(Path({str(tmp_path)!r}))"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", program], cwd=root)
    run = tmp_path / "run"
    while process.poll() is None and not list(run.glob("checkpoints/step-*")):
        pass
    process.kill()
    process.wait()
    resume(run)
    assert records(run) == records(straight)
    assert weights(run) == weights(straight)


FEWER: dict[str, Any] = {
    "data__train_pictures": 211,
    "data__split_seed": 3,
    "seed": 5,
    "steps": 7,
    "augment__policy": "none",
}


def test_a_run_on_fewer_images_says_so_and_resumes(tmp_path: Path) -> None:
    straight = train(tmp_path, "straight", with_report=True, **FEWER).run_dir
    data = json.loads((straight / "data.json").read_text())
    assert data["counts"] == {"train": 211, "val": 180, "test": 180}
    assert data["split"] == (
        "stratified split (seed 3): 1,437 train, 180 validation, 180 test; "
        "trained on 211 of 1,437 images by class with seed 5"
    )
    stopped = train(tmp_path, "stopped", reporter=StopAt(4), **FEWER).run_dir
    resume(stopped)
    assert records(stopped) == records(straight)
    assert weights(stopped) == weights(straight)
    own = open_own(straight, "test").splits
    assert {name: fingerprint(part) for name, part in own.parts().items()} == data["fingerprints"]
    found = open_given("builtin:digits", "test", load(straight).examples)
    assert len(found.splits.train) == 211
    (straight / "report.html").read_text().index("data:image")  # its images were found again


def test_settings_of_a_run_say_nothing_on_other_data(tmp_path: Path) -> None:
    run = train(tmp_path, **FEWER).run_dir
    images = np.zeros((31, 8, 8, 1), np.uint8)
    other = tmp_path / "other.npz"
    np.savez(
        other,
        train_images=images,
        train_labels=np.arange(31) % 10,
        val_images=images,
        val_labels=np.arange(31) % 10,
        test_images=images,
        test_labels=np.arange(31) % 10,
    )
    found = open_given(str(other), "test", load(run).examples)
    assert (found.how, len(found.splits.train)) == ("given", 31)


def test_the_seed_of_the_run_is_that_of_the_split(straight: Path, tmp_path: Path) -> None:
    """Naming it changes the settings and no bit."""
    run = train(tmp_path, data__split_seed=0, data__train_pictures=1437).run_dir
    assert records(run) == records(straight)
    assert weights(run) == weights(straight)
