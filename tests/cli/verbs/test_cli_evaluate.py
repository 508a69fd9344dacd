"""`vitrail eval` beyond the usual figures: temperature, another model, corruptions, ReaL, views."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from tests.cli.cli_command import Done, run
from vitrail.classifier import Classifier
from vitrail.cli.display.output import Output
from vitrail.cli.display.progress import count_text, eta
from vitrail.data.images.preprocess import Preprocess
from vitrail.model_folder.description import Meta
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig

CLASSES = ("cat", "dog", "fox")
SIDE = 8
PREPROCESS = Preprocess(height=SIDE, width=SIDE, resize=(SIDE, SIDE), mean=(0.5,), std=(0.5,))
SIZES = {"train": 30, "val": 97, "test": 83}


def classifier(seed: int) -> Classifier:
    """A random network with logits of mean 0 and deviation 3 on noise."""
    config = ViTConfig(
        image_size=(SIDE, SIDE),
        patch_size=(4, 4),
        channels=1,
        width=16,
        depth=1,
        num_heads=2,
        mlp_dim=16,
        num_classes=3,
    )
    model = create_model(config, seed=seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        head = cast(nn.Linear, model.head)
        head.weight.copy_(torch.randn(3, 16, generator=generator))
        logits = model(2 * torch.rand(99, 1, SIDE, SIDE, generator=generator) - 1)
        factor = 3 / logits.std(dim=0)
        head.weight.mul_(factor[:, None])
        head.bias.copy_(-logits.mean(dim=0) * factor)
    meta = Meta(
        trained_on={"data": "pictures.npz"},
        metrics={"test": {"n": 83, "top1": 0.5, "nll": 9.0, "ece": 0.5}},
    )
    return Classifier(model, PREPROCESS, CLASSES, meta=meta)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with models a and b and images.npz, labelled mostly as a says."""
    folder, before = tmp_path_factory.mktemp("evaluate"), Path.cwd()
    os.chdir(folder)
    rng = np.random.default_rng(0)
    first = classifier(1)
    first.save("a")
    classifier(2).save("b")
    arrays: dict[str, Any] = {"classes": np.array(CLASSES)}
    for split, n in SIZES.items():
        images = rng.integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8)
        pixels = torch.stack([PREPROCESS(image) for image in images])
        labels = first.probabilities(pixels).argmax(axis=1)
        noisy = np.arange(n) % 3 == 0
        labels[noisy] = (labels[noisy] + 1 + np.arange(noisy.sum()) % 2) % 3
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez("pictures.npz", **arrays)
    yield folder
    os.chdir(before)


def good(*argv: object) -> Done:
    done = run("eval", *argv)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    return done


def bad(code: str, *argv: object) -> Done:
    done = run("eval", *argv)
    assert f"error {code}:" in done.err
    assert done.code == int(code[4])
    return done


@pytest.mark.usefixtures("place")
def test_figures_have_intervals_and_every_image_counts() -> None:
    record = good("a", "pictures.npz", "--batch-size", "64", "--json").document
    assert record["n"] == SIZES["test"] == 64 + 19  # the last batch is not dropped
    assert record["pictures"] == {"seen": 83, "skipped": 0}
    for name, (low, high) in record["intervals"].items():
        value = record["selective"]["area"] if name == "selective_area" else record[name]
        assert low <= value <= high, name
    text = good("a", "pictures.npz").out
    low, high = record["intervals"]["f1_macro"]
    assert f"{record['f1_macro']:.4f}" in text
    assert f"{low:.4f}-{high:.4f}" in text
    assert "83 images, every one" in text
    assert "on the most confident 50 %" in text


@pytest.mark.usefixtures("place")
def test_calibrate_fits_on_val_judges_on_test_and_stores() -> None:
    shutil.copytree("a", "copy")
    before = json.loads(Path("copy/model.json").read_text())
    card = Path("copy/README.md").read_text()
    done = good("copy", "pictures.npz", "--calibrate", "--json", "--out", "calibrated")
    found = done.document["calibration"]
    assert (found["fitted_on"], found["n"], found["temperature_before"]) == ("val", 97, 1.0)
    assert found["nll"] < found["nll_before"]
    assert found["temperature"] > 1  # the labels are noisier than the network is doubtful
    plain = good("a", "pictures.npz", "--json").document
    assert found["judged"]["nll_before"] == plain["nll"]
    assert found["judged"]["nll"] == done.document["nll"] < plain["nll"]
    assert done.document["top1"] == plain["top1"]
    after = json.loads(Path("copy/model.json").read_text())
    assert after["temperature"] == done.document["temperature"] == found["temperature"]
    assert after["metrics"] == {"test": {"n": 83, "top1": 0.5}}  # what held for the old one is gone
    assert "97 val images" in after["trained_on"].pop("temperature_fitted_on")
    changed = {"temperature", "metrics", "digest"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert Path("copy/README.md").read_text() != card
    assert "97 val images" in Path("copy/README.md").read_text()
    assert json.loads(Path("calibrated/metrics.json").read_text())["calibration"] == found
    assert sorted(path.name for path in Path("copy").iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]
    again = good("copy", "pictures.npz", "--json").document
    assert again["nll"] == done.document["nll"]
    second = good("copy", "pictures.npz", "--calibrate").out  # fits from the logits again
    assert "temperature  " in second
    assert json.loads(Path("copy/model.json").read_text())["temperature"] == pytest.approx(
        found["temperature"], rel=1e-6
    )


@pytest.mark.usefixtures("place")
def test_an_edited_card_stays_and_says_so() -> None:
    shutil.copytree("a", "edited")
    with Path("edited/README.md").open("a") as file:
        file.write("licence: mine\n")
    text = Path("edited/README.md").read_text()
    done = good("edited", "pictures.npz", "--calibrate")
    assert Path("edited/README.md").read_text() == text
    assert "was edited and stays" in done.out
    assert "wrote the temperature into edited/model.json" in done.out
    assert "few images" in done.out


@pytest.mark.usefixtures("place")
def test_calibrate_never_sees_the_test_images() -> None:
    with np.load("pictures.npz") as file:
        arrays = dict(file)
    arrays["test_labels"] = (arrays["test_labels"] + 1) % 3
    np.savez("other_test.npz", **arrays)
    for name in ("one", "two"):
        shutil.copytree("a", name)
    good("one", "pictures.npz", "--calibrate")
    good("two", "other_test.npz", "--calibrate")
    one, two = (json.loads(Path(name, "model.json").read_text()) for name in ("one", "two"))
    assert one["temperature"] == two["temperature"]


@pytest.mark.usefixtures("place")
def test_what_cannot_be_calibrated() -> None:
    bad("VIT-283", "a", "pictures.npz", "--calibrate", "--split", "val")
    bad("VIT-282", "a", "pictures.npz", "--calibrate", "--tta", "flip")
    shutil.make_archive("packed", "zip", ".", "a")
    done = bad("VIT-285", "packed.zip", "pictures.npz", "--calibrate")
    assert "vitrail convert packed.zip OUT --to vitrail" in done.err
    bad("VIT-285", "hf:google/vit-base-patch16-224", "pictures.npz", "--calibrate")
    with np.load("pictures.npz") as file:
        arrays = dict(file)
    arrays["val_labels"] = (arrays["val_labels"] + 1) % 3
    np.savez("wrong.npz", **arrays)
    before = Path("a/model.json").read_bytes()
    assert "no better than chance" in bad("VIT-363", "a", "wrong.npz", "--calibrate").err
    assert Path("a/model.json").read_bytes() == before


@pytest.mark.usefixtures("place")
def test_a_model_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("a", "fixed")
    before = Path("fixed/model.json").read_bytes()

    def refuse(source: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("vitrail.files.os.replace", refuse)
    bad("VIT-506", "fixed", "pictures.npz", "--calibrate")
    assert Path("fixed/model.json").read_bytes() == before
    assert len(list(Path("fixed").iterdir())) == 3


@pytest.mark.usefixtures("place")
def test_against_another_model_and_against_itself() -> None:
    done = good("a", "pictures.npz", "--against", "b", "--json")
    found, mine = done.document["against"], done.document
    other = good("b", "pictures.npz", "--json").document
    assert (found["model"], found["n"], found["top1"]) == ("b", 83, other["top1"])
    assert found["top1_difference"] == pytest.approx(mine["top1"] - other["top1"])
    assert found["nll_difference"] == pytest.approx(mine["nll"] - other["nll"])
    assert found["p_value"] < 0.05
    text = good("a", "pictures.npz", "--against", "b").out
    assert "a is more accurate than b: difference +" in text
    text = good("a", "pictures.npz", "--against", "a").out
    assert "no evidence of a difference in top-1: difference +0.0000" in text
    assert "p = 1.00" in text


@pytest.mark.usefixtures("place")
def test_against_a_model_of_other_classes() -> None:
    other = classifier(3)
    other.classes = ["cat", "dog", "owl"]
    other.save("owls")
    bad("VIT-403", "a", "pictures.npz", "--against", "owls")
    shutil.copytree("a", "kept")
    before = Path("kept/model.json").read_bytes()
    bad("VIT-403", "kept", "pictures.npz", "--against", "owls", "--calibrate")
    bad("VIT-430", "kept", "pictures.npz", "--against", "absent", "--calibrate")
    assert Path("kept/model.json").read_bytes() == before


@pytest.mark.usefixtures("place")
def test_corruptions_by_name_and_severity() -> None:
    argv = ("a", "pictures.npz", "--corruptions", "fog,noise", "--severity", "1,5")
    done = good(*argv, "--json", "--out", "corrupted")
    found = done.document["corruptions"]
    assert list(found["top1"]) == ["gaussian_noise", "shot_noise", "impulse_noise", "fog"]
    assert (found["n"], found["severities"]) == (83, [1, 5])
    assert found["clean_top1"] == done.document["top1"]
    values = [value for row in found["top1"].values() for value in row.values()]
    assert found["mean_top1"] == pytest.approx(np.mean(values))
    assert json.loads(Path("corrupted/metrics.json").read_text())["corruptions"] == found
    assert good(*argv, "--json", "--batch-size", "7").document["corruptions"] == found
    flipped = good(*argv, "--json", "--tta", "flip").document["corruptions"]
    assert flipped["top1"].keys() == found["top1"].keys()
    assert (
        flipped["clean_top1"]
        == good("a", "pictures.npz", "--tta", "flip", "--json").document["top1"]
    )
    assert "4 corruptions at 2 severities of 83 images: 664 predictions" in done.err
    text = good(*argv).out
    assert f"mean corruption top-1  {found['mean_top1']:.4f}" in text
    bad("VIT-280", "a", "pictures.npz", "--corruptions", "fogg")
    bad("VIT-281", "a", "pictures.npz", "--corruptions", "fog", "--severity", "7")
    bad("VIT-282", "a", "pictures.npz", "--severity", "3")


@pytest.mark.usefixtures("place")
def test_flipped_views_are_averaged() -> None:
    plain = good("a", "pictures.npz", "--json").document
    flipped = good("a", "pictures.npz", "--tta", "flip", "--json").document
    assert (plain["tta"], flipped["tta"]) == ("none", "flip")
    assert flipped["nll"] != plain["nll"]
    with np.load("pictures.npz") as file:
        arrays = dict(file)
    arrays["test_images"] = arrays["test_images"][:, :, ::-1]
    np.savez("mirrored.npz", **arrays)
    mirrored = good("a", "mirrored.npz", "--tta", "flip", "--json").document
    assert mirrored["nll"] == pytest.approx(flipped["nll"], abs=1e-6)


@pytest.mark.usefixtures("place")
def test_real_labels_need_imagenet() -> None:
    Path("real.json").write_text("[[1], [2]]")
    for code, file, said in (
        ("VIT-284", "real.json", "ImageNet"),
        ("VIT-364", "absent.json", "absent.json"),
    ):
        done = bad(code, "a", "pictures.npz", "--real-labels", file)
        assert said in done.err


@pytest.mark.usefixtures("place")
def test_several_labels_an_image() -> None:
    from PIL import Image

    rng = np.random.default_rng(3)
    folder = Path("several")
    folder.mkdir()
    lines = ["path,label,split"]
    for split in ("train", "val", "test"):
        for i in range(31):
            name = f"{split}{i}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / name)
            labels = [c for c in CLASSES if rng.random() < 0.5] or ["fox"]
            lines.append(f"{name},{'|'.join(labels)},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    done = good(
        "a",
        folder / "labels.csv",
        "--corruptions",
        "fog",
        "--severity",
        "2",
        "--against",
        "b",
        "--json",
    )
    record = done.document
    assert record["n"] == 31
    assert {"f1_micro", "mean_average_precision"} <= set(record["intervals"])
    assert record["against"]["n"] == record["corruptions"]["n"] == 31
    assert "micro-F1" in good("a", folder / "labels.csv").out


@pytest.mark.usefixtures("place")
def test_bad_files_are_left_out_by_name() -> None:
    from PIL import Image

    rng = np.random.default_rng(4)
    for name in CLASSES:
        Path("files", name).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"files/{name}/{i}.png")
            if i % 4 == 0:
                Path(f"files/{name}/{i}.png").write_bytes(b"no image")
    bad("VIT-301", "a", "files", "--split", "train")
    done = good("a", "files", "--split", "train", "--on-bad-file", "skip", "--json")
    record = done.document
    assert record["pictures"]["skipped"] > 0
    assert record["n"] == record["pictures"]["seen"]
    assert done.err.count("left out") == record["pictures"]["skipped"]
    text = good("a", "files", "--split", "train", "--on-bad-file", "skip").out
    assert f"{record['pictures']['skipped']} that cannot be read left out" in text


def test_eta_says_when_it_will_be_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert count_text("fog", 250, 1000, 20.0) == "fog  250/1,000  12/s  eta 1:00"
    assert count_text("fog", 0, 1000, 20.0) == "fog  0/1,000  eta -"
    now = [0.0]
    monkeypatch.setattr("vitrail.cli.display.progress.time.monotonic", lambda: now[0])
    with eta(Output(), "fog") as tell:
        for done in (1, 2, 3, 4):
            now[0] += 20
            tell(done, 4)
    assert capsys.readouterr().err.splitlines() == ["fog  2/4  eta 0:40"]
    with eta(Output(quiet=True), "fog") as tell:
        now[0] += 100
        tell(1, 4)
    assert capsys.readouterr().err == ""
