"""`vitrail explain`: maps of images, the judgement of methods, figures, and every mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.cli.cli_command import Done, run
from tests.explain.small_models import bit, resnet, vit
from tests.report.checked_page import Checked
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.create import Model

CLASSES = ("ant", "bee", "cat", "dog", "eel")


def save(name: str, kind: str) -> None:
    """A classifier of colour images."""
    if kind == "bit":
        model: Model = bit(torch.float32, 1)
    elif kind == "resnet":
        model = resnet(torch.float32, channels=1)
    else:
        model = vit(kind, torch.float32, channels=3)
    height, width = model.config.image_size
    means = (0.5,) * model.config.channels
    preprocess = Preprocess(
        height=height, width=width, resize=(height, width), mean=means, std=means
    )
    Classifier(model, preprocess, CLASSES).save(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save("model", "cls")
        save("other", "gap")
        rng = np.random.default_rng(0)
        for name in ("a.png", "photos/b.png", "photos/sub/a.png"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (19, 23, 3), np.uint8)).save(name)
        Path("broken.jpg").write_text("no image")
        for index in range(20):
            path = Path("data", CLASSES[index % 5], f"{index}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (19, 23, 3), np.uint8)).save(path)
    return folder


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def good(*argv: object) -> Done:
    done = run("explain", *argv)
    assert done.code == 0, done.err
    return done


def test_maps_of_files_and_folders() -> None:
    done = good("model", "a.png", "photos", "--out", "maps")
    names = ["a-relevance", "b-relevance", "a-relevance-2"]
    files = [f"maps/{name}{suffix}" for name in names for suffix in (".png", ".npz")]
    assert sorted(str(path) for path in Path("maps").iterdir()) == sorted(files)
    said = vitrail.load("model").explain("a.png")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"a.png  {said.label} {said.top[0][1]:.4f}")
    assert len(lines[0].split("  ")) == 6
    assert lines[1] == f"  relevance of {said.label}  maps/a-relevance.png  maps/a-relevance.npz"
    with np.load("maps/a-relevance.npz", allow_pickle=False) as file:
        assert np.abs(file["map"] - said.map).max() <= 1e-6
        assert file["map"].shape == (19, 23)


def test_methods_side_by_side_on_a_page() -> None:
    done = good("model", "a.png", "photos", "broken.jpg", "--sheet", "all", "--out", "sheets")
    names = ["a-sheet.png", "a-sheet-2.png", "b-sheet.png", "explain.html"]
    assert sorted(path.name for path in Path("sheets").iterdir()) == sorted(names)
    lines = done.out.splitlines()
    assert lines[0].startswith("a.png  ")
    methods = "attention rollout relevance gradcam integrated-gradients occlusion"
    assert lines[1] == f"  {methods}  sheets/a-sheet.png"
    assert lines[-1] == "page  sheets/explain.html"
    assert "1 of 4 images cannot be read" in done.err
    page = Checked(Path("sheets/explain.html").read_text(encoding="utf-8"))
    assert [words for words in page.words if words.startswith("3 images explained")]
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * (1 + 3 * len(methods.split()))
    assert all(one["alt"] and (one["src"] or "").startswith("data:image/") for one in images)
    assert not [one for _, attributes in page.tags for one in attributes if one == "style"]
    said = vitrail.load("model").explain("a.png")
    assert f"{said.top[0][1]:.3f}" in "".join(page.words)


def test_a_sheet_of_named_methods() -> None:
    words = ["--sheet", "rollout,gradcam", "--target", "cat", "--json", "--out", "named"]
    (record,) = good("model", "a.png", *words).document
    assert [(one["method"], one["label"]) for one in record["methods"]] == [
        ("rollout", ""),
        ("gradcam", "cat"),
    ]
    assert record["files"] == ["named/a-sheet.png"]
    with Image.open("named/a-sheet.png") as sheet:
        assert sheet.width == 12 * 4 + 3 * 224
    for typed, code in (
        ("--sheet rolout", "VIT-270"),
        ("--sheet ,", "VIT-202"),
        ("--sheet all --head 1", "VIT-277"),
        ("--sheet all --faithfulness", "VIT-277"),
    ):
        done = run("explain", "model", "a.png", *typed.split(), "--out", "none")
        assert (done.code, code in done.err) == (2, True), done.err
        assert not Path("none").exists()


def test_json_is_a_list_of_records() -> None:
    words = ["--method", "attention", "--layer", "-1", "--head", "2", "--token", "1,2"]
    done = good("model", "a.png", "broken.jpg", *words, "--json", "--out", "tokens")
    first, second = done.document
    assert first["method"] == "attention"
    assert first["facts"] == {"layer": 1, "head": 2, "token": [1, 2]}
    assert first["files"] == ["tokens/a-attention.png", "tokens/a-attention.npz"]
    assert [set(item) for item in first["top"]] == [{"label", "score"}] * 5
    assert second["error"]
    assert second["files"] == []
    assert "1 of 2 images cannot be read" in done.err


def test_folders_are_numbered_and_never_overwritten() -> None:
    for name in ("explain", "explain-2"):
        done = good("model", "a.png", "--method", "random", "--seed", "3")
        assert f"{name}/a-random.png" in done.out


@pytest.mark.parametrize("kind", ["bit", "resnet"])
def test_a_residual_network_has_its_own_methods(kind: str) -> None:
    save(kind, kind)
    assert "gradcam of" in good(kind, "a.png", "--out", f"cam-{kind}").out
    done = run("explain", kind, "a.png", "--method", "rollout")
    assert done.code == 2
    assert "VIT-271" in done.err
    assert "gradcam, integrated-gradients, occlusion, random" in done.err


def test_judging_the_methods() -> None:
    done = good("model", "a.png", "photos", "broken.jpg", "--faithfulness", "--out", "judged")
    lines = done.out.splitlines()
    assert lines[0].startswith("3 images")
    assert [line.split()[0] for line in lines[2:9]] == [
        "attention",
        "rollout",
        "relevance",
        "gradcam",
        "integrated-gradients",
        "occlusion",
        "random",
    ]
    assert "broken.jpg" in done.err
    with open("judged/curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 7  # methods x (6 patches + 1)
    record = good(
        "model", "a.png", "--faithfulness", "--target", "dog", "--out", "one", "--json"
    ).document
    assert [row["method"] for row in record["results"]][-1] == "random"
    assert record["results"][0]["deletion"]["interval"] is None


def test_figures_of_one_and_of_two_models() -> None:
    done = good("model", "--figures", "--out", "plain")
    assert "wrote plain/filters.png" in done.out
    assert "need images" in done.out
    words = ["--data", "data", "--split", "train", "--num", "6", "--against", "other"]
    record = good("model", "--figures", *words, "--out", "both", "--json").document
    assert "both/cka.csv" in record["files"]
    with open("both/attention.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"model", "other"}
    assert {row["pictures"] for row in rows} == {"6"}


@pytest.mark.parametrize(
    ("words", "code", "way"),
    [
        ("model", "VIT-201", "vitrail explain MODEL a.jpg"),
        ("model photos/c.png", "VIT-360", "Did you mean photos/b.png?"),
        ("model a.png --method rolout", "VIT-202", "rollout"),
        ("model a.png --method rollout --head 1", "VIT-273", "Leave it out"),
        ("model a.png --method attention --layer 9", "VIT-274", "0 to 1"),
        ("model a.png --token 1", "VIT-202", "--token 0,0"),
        ("model a.png --token 5,5", "VIT-275", "1,2"),
        ("model a.png --target cow", "VIT-276", "Known: ant, bee"),
        ("model a.png --num 5", "VIT-277", "Leave it out"),
        ("model a.png --figures", "VIT-277", "--data DATA"),
        ("model --figures --method rollout", "VIT-277", "--method has no effect with --figures"),
        ("model a.png --faithfulness --layer 1", "VIT-277", "--layer"),
        ("model --figures --faithfulness", "VIT-277", "--faithfulness"),
        ("model --figures --num 0", "VIT-202", "--num 128"),
        ("model --figures --data data --split holdout", "VIT-240", "--split"),
        ("model a.png --out photos", "VIT-206", "Choose another"),
        ("model broken.jpg", "VIT-362", "jpeg png"),
        ("model broken.jpg --faithfulness", "VIT-362", "jpeg png"),
        ("nothing a.png", "VIT-430", "run directory"),
        ("model a.png --methods rollout", "VIT-211", "Did you mean --method?"),
    ],
)
def test_mistakes(words: str, code: str, way: str) -> None:
    before = sorted(path.name for path in Path().iterdir())
    done = run("explain", *words.split(), "--json")
    assert done.document["code"] == code
    assert done.code == int(code[4])
    assert way in done.err
    assert sorted(path.name for path in Path().iterdir()) == before
