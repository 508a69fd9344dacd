"""What "auto" becomes, and that a user's word goes before it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.odd_images import encoded, noise
from vitrail.config import TrainConfig, flatten
from vitrail.data.sources.open_data import open_data, subset
from vitrail.data.sources.sample import sample
from vitrail.errors import UsageError
from vitrail.models.bit.config import BiTConfig
from vitrail.models.names import resolve_model
from vitrail.models.vit.config import ViTConfig
from vitrail.training import run_files
from vitrail.training.plan import auto
from vitrail.training.plan.auto import patch_size
from vitrail.training.plan.auto_model import beside
from vitrail.training.plan.compatibility import largest_batch, training_bytes, weight_bytes
from vitrail.training.plan.draft import Draft
from vitrail.training.plan.facts import measure
from vitrail.training.plan.plan_run import Plan, plan_run

PIXEL = encoded(noise(5, 7), "PNG")


def plan(path: str | Path, **settings: Any) -> Plan:
    return plan_run([("test", {"data.path": str(path), "device": "cpu", **settings})])


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """28 x 28 px: a bar on the left or the right; a mirrored image is of the other class."""
    generator = np.random.default_rng(2)
    images = generator.integers(0, 60, (1409, 28, 28), dtype=np.uint8)
    labels = np.arange(len(images)) % 2
    images[labels == 0, 10:18, :9] = 250
    images[labels == 1, 10:18, -9:] = 250
    path = tmp_path_factory.mktemp("gray") / "data.npz"
    np.savez(path, images=images, labels=labels)
    return path


@pytest.mark.parametrize(
    ("size", "patch"),
    [((28, 28), 4), ((32, 32), 4), ((64, 64), 8), ((96, 96), 8), ((224, 224), 16), ((29, 31), 1)],
)
def test_patch_fits_the_image(size: tuple[int, int], patch: int) -> None:
    assert patch_size(size) == patch


def test_small_gray_images(gray: Path) -> None:
    config = plan(gray).config
    assert config.data.image_size == (28, 28)
    assert config.data.channels == 1
    assert config.data.workers == 0
    assert config.augment.flip == 0.0  # a mirrored arrow points the other way
    assert config.model.name.startswith("resnet_")
    assert config.optim.name == "muon"
    assert plan(gray, model="auto-vit").config.model.name == "cct_2_3x2"


def test_a_flip_is_not_given_up_for_noise(gray: Path) -> None:
    """Of 500 images 100 are asked: 4 points less than 29 are within their noise."""
    facts = replace(plan(gray).facts, num_train=500, mirrored=(0.29, 0.25))
    chosen = Draft(flatten(TrainConfig()), {})
    auto._flip(chosen, facts)
    assert not chosen.reasons
    auto._flip(chosen, replace(facts, mirrored=(0.9, 0.5)))
    assert chosen.values["augment.flip"] == 0.0


def test_a_choice_names_the_next_best_family(gray: Path) -> None:
    why = {key: reason for key, _, reason in plan(gray).choices}
    assert re.search(r"with .* images of .* points above a ", why["model.name"])
    why = {key: reason for key, _, reason in plan(gray, model="auto-vit").choices}
    assert "points below a residual network" in why["model.name"]


@pytest.mark.parametrize(
    ("images", "passes", "data"),
    [
        (1000, 40.0, "1,000 images of Fashion-MNIST"),
        (3000, 40.0, "2,890 images of CIFAR-10"),
        (50_000, 15.0, "2,890 images of CIFAR-10"),
    ],
)
def test_the_nearest_setting_of_the_search_is_named(images: int, passes: float, data: str) -> None:
    assert f"with {data} " in beside("a residual network", images, passes)


def test_another_optimiser_gets_a_rate_of_its_own(gray: Path) -> None:
    assert plan(gray).config.optim.lr == 2e-2
    chosen = plan(gray, **{"optim.name": "adamw"}).config
    assert (chosen.optim.lr, chosen.optim.weight_decay) == (3e-3, 0.05)
    assert plan(gray, **{"optim.name": "adamw", "optim.lr": 7e-4}).config.optim.lr == 7e-4


@pytest.mark.parametrize("name", ["bit_r26x1", "r_vit_ti16"])
def test_what_muon_was_not_searched_for_has_adamw(gray: Path, name: str) -> None:
    chosen = plan(gray, model=name).config.optim
    assert (chosen.name, chosen.lr, chosen.weight_decay) == ("adamw", 3e-3, 0.05)
    assert plan(gray, model=name, **{"optim.name": "muon"}).config.optim.name == "muon"


@pytest.mark.parametrize(
    "settings",
    [{"model.patch_size": 4}, {"recipe": "small.scratch"}, {"model.depth": 3}],
    ids=str,
)
def test_a_word_that_only_a_vit_has_asks_for_one(gray: Path, settings: dict[str, Any]) -> None:
    assert isinstance(plan(gray, **settings).model, ViTConfig)


@pytest.mark.parametrize(
    ("minutes", "name"),
    [(0.05, "resnet_ti"), (2, "resnet_s"), (120, "resnet_m"), (4000, "resnet_b")],
)
def test_a_longer_time_gets_a_larger_network(gray: Path, minutes: float, name: str) -> None:
    settings = {"time_limit_secs": 60 * minutes, "threads": 1, "precision": "float32"}
    assert plan(gray, **settings).config.model.name == name


@pytest.mark.parametrize(
    ("settings", "crop", "pad", "depth"),
    [
        ({"epochs": 5}, "none", None, 2),
        ({"epochs": 50}, "pad_crop", 1, 2),
        ({"epochs": 150}, "pad_crop", 3, 2),
        ({"epochs": 2000}, "pad_crop", 3, 4),
        ({"time_limit": "1s"}, "none", None, 2),  # a few passes
    ],
)
def test_longer_runs_get_larger_vits_and_larger_shifts(
    gray: Path, settings: dict[str, Any], crop: str, pad: int | None, depth: int
) -> None:
    chosen = plan(gray, model="auto-vit", **settings)
    assert chosen.config.augment.crop == crop
    assert isinstance(chosen.model, ViTConfig)
    assert chosen.model.depth == depth
    if pad:
        assert chosen.config.augment.crop_pad == pad


def test_a_users_word_goes_first(gray: Path) -> None:
    config = plan(
        gray,
        **{"augment.flip": 0.5, "augment.crop": "pad_crop", "model.width": 32, "batch_size": 17},
    ).config
    assert config.augment.flip == 0.5
    assert config.augment.crop == "pad_crop"
    assert config.model.overrides["width"] == 32
    assert config.batch_size == 17


def test_residual_networks_on_small_images(gray: Path) -> None:
    """No strides in the root, patches that fit, and no field of the recipe that they lack."""
    chosen = plan(gray, model="bit_r26x1")
    assert isinstance(chosen.model, BiTConfig)
    assert chosen.model.stem == "small"
    left = {key for key, value, _ in chosen.choices if value == "left out"}
    assert left == {"model.pool", "model.posemb"}
    hybrid = plan(gray, model="r_vit_ti16").model
    assert isinstance(hybrid, ViTConfig)
    assert (hybrid.stem_root, hybrid.patch_size, hybrid.grid) == ("small", (4, 4), (7, 7))
    assert (hybrid.pool, hybrid.posemb) == ("gap", "sincos_2d")  # of the recipe
    cct = plan(gray, model="cct_7_3x1").model
    assert isinstance(cct, ViTConfig)
    assert (cct.pool, cct.posemb, cct.grid) == ("seq", "sincos_2d", (14, 14))


def test_a_users_root_goes_first(gray: Path) -> None:
    given = {"model": "bit_r50x1_gn", "model.stem": "imagenet", "model.depths": "1,1"}
    model = plan(gray, **given).model
    assert isinstance(model, BiTConfig)
    assert (model.stem, model.depths, model.map_size) == ("imagenet", (1, 1), (4, 4))


def test_photographs_are_cropped_and_sized_from_the_median(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(11):
            pixels = generator.integers(0, 256, (75, 131, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.jpg")
    chosen = plan(tmp_path)
    assert chosen.config.data.image_size == (64, 64)  # the largest usual size up to the short side
    assert chosen.config.augment.crop == "inception"
    assert chosen.facts.size == (75, 131)
    assert chosen.facts.mirrored is None


def two_sizes(folder: Path) -> None:
    """40 images of two classes; one differs in its size, so that they are photographs."""
    for number in range(40):
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        colour = (7 * number, 250 - 5 * number, 3)
        Image.new("RGB", (33, 29 + (number == 7)), colour).save(place / f"{number}.png")


@pytest.mark.parametrize(("epochs", "policy"), [(99, "none"), (101, "trivialaugment")])
def test_colours_that_are_seen_often_are_changed_more(
    tmp_path: Path, epochs: int, policy: str
) -> None:
    two_sizes(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (40, 26, 29, 3), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", images=images, labels=np.arange(40) % 2)
    settings = {"model.name": "resnet_ti", "epochs": epochs}
    for data in (tmp_path, tmp_path / "small.npz"):
        assert plan(data, **settings).config.augment.policy == policy
        asked = plan(data, **settings, **{"augment.policy": "randaugment"})
        assert asked.config.augment.policy == "randaugment"
        assert plan(data, **settings, **{"data.channels": 1}).config.augment.policy == "none"


OTHERS = {  # for each setting that may be chosen, what a user says instead
    "recipe": "small.residual",
    "data.channels": 3,
    "data.image_size": (24, 40),
    "batch_size": 7,
    "model.name": "vit_ti8",
    "model.depth": 5,
    "model.num_heads": 2,
    "model.mlp_dim": 77,
    "augment.crop": "resize_crop",
    "augment.crop_pad": 3,
    "augment.crop_scale": (0.2, 0.9),
    "augment.policy": "three_augment",
    "augment.num_ops": 3,
    "augment.magnitude": 7.0,
    "eval_every_epochs": 11.0,
    "precision": "float32",
    "threads": 1,
    "data.workers": 0,
}


@pytest.mark.parametrize("kind", ["photographs", "small", "smallest", "a ViT of a user's"])
def test_what_a_user_says_is_never_replaced(tmp_path: Path, kind: str) -> None:
    """Each setting that `auto` chooses, said by a user, alone and beside the other choices."""
    settings: dict[str, Any] = {"epochs": 150}
    if kind == "photographs":
        two_sizes(tmp_path)
        data = tmp_path
    else:
        side = 8 if kind == "smallest" else 28
        images = np.random.default_rng(0).integers(0, 255, (300, side, side), dtype=np.uint8)
        data = tmp_path / "data.npz"
        np.savez(data, images=images, labels=np.arange(300) % 3)
        if kind == "a ViT of a user's":
            settings |= {"model.name": "auto-vit", "model.width": 48}
    chosen = [key for key, _, _ in plan(data, **settings).choices]
    assert len(chosen) >= 10
    refused = []
    for key in sorted(set(chosen) - set(settings)):
        try:
            made = plan(data, **settings | {key: OTHERS[key]})
        except UsageError:
            refused.append(key)
        else:
            assert flatten(made.config)[key] == OTHERS[key], key
    assert len(refused) < 4, refused


def test_every_choice_has_a_reason_and_nothing_stays_auto(gray: Path) -> None:
    chosen = plan(gray)
    assert all(why for _, _, why in chosen.choices)
    left = [key for key, value, _ in chosen.choices if value == "auto"]
    assert not left


@pytest.mark.parametrize("name", ["vit_ti16", "r26_vit_s32", "bit_r26x1", "bit_r26x1_gn"])
def test_memory_grows_with_the_batch_and_bounds_it(name: str) -> None:
    model = resolve_model(name, num_classes=7)
    one, many = training_bytes(model, 1), training_bytes(model, 101)
    assert many > 50 * (one - weight_bytes(model)) > 0
    fits = largest_batch(model, many)
    assert fits == 101
    assert largest_batch(model, 1000) == 0


@pytest.mark.parametrize(
    ("kind", "cores", "free", "workers"),
    [
        ("arrays", 8, 1e12, 0),
        ("files", 4, 1e12, 4),
        ("files", 64, 1e12, 8),
        ("files", 8, 1.0e9, 3),
        ("files", 8, 1e8, 0),
    ],
)
def test_workers_fit_into_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, kind: str, cores: int, free: float, workers: int
) -> None:
    monkeypatch.setattr("vitrail.training.plan.auto.num_cores", lambda: cores)
    monkeypatch.setattr("vitrail.training.plan.auto.memory_bytes", lambda: int(free))
    found, why = auto._workers(kind)
    assert found == workers
    assert ("memory" in why) == (workers == 0 or free < 1e10)


def test_defaults_are_all_auto_or_plain() -> None:
    config = TrainConfig()
    assert config.recipe == config.batch_size == config.precision == "auto"


def save_arrays(path: Path, order: np.ndarray[Any, Any], **splits: tuple[Any, Any]) -> Path:
    """An .npz of the given splits, the training images in `order`."""
    images, labels = splits.pop("train")
    rest = {f"{part}_images": x for part, (x, _) in splits.items()}
    rest |= {f"{part}_labels": y for part, (_, y) in splits.items()}
    np.savez(path, train_images=images[order], train_labels=labels[order], **rest)
    return path


@pytest.mark.promise("D8")
def test_a_sorted_and_a_shuffled_copy_give_the_same_plan(tmp_path: Path) -> None:
    digits = open_data("builtin:digits").parts()
    parts = {name: (one.images, one.labels) for name, one in digits.items()}
    labels = np.asarray(digits["train"].labels)
    orders = {
        "sorted": np.argsort(labels, kind="stable"),
        "backwards": np.argsort(-labels, kind="stable"),
        "shuffled": np.random.default_rng(1).permutation(len(labels)),
    }
    plans = [
        plan(save_arrays(tmp_path / f"{name}.npz", order, **parts))
        for name, order in orders.items()
    ]
    for other in plans[1:]:
        assert other.facts == plans[0].facts
        assert other.choices == plans[0].choices
    assert plans[0].facts.mirrored is not None
    assert plans[0].facts.mirrored[0] > 0.9  # neighbours of every class are in the bank


@pytest.mark.promise("D8")
def test_files_are_sampled_by_name_from_every_class(tmp_path: Path) -> None:
    for label, side in (("a", 40), ("b", 60), ("c", 80)):
        (tmp_path / label).mkdir()
        for number in range(200):
            gray = Image.new("L", (side, side), number)
            (gray if label != "b" else gray.convert("RGB")).save(tmp_path / label / f"{number}.png")
    source = open_data(tmp_path, val_fraction=0, test_fraction=0).train
    first = sample(source, 64, "facts")
    assert {int(source.labels[i]) for i in first} == {0, 1, 2}
    turned = subset(source, np.arange(len(source))[::-1].copy())
    again = sample(turned, 64, "facts")
    assert [turned.source_id(i) for i in again] == [source.source_id(i) for i in first]
    assert measure(turned) == measure(source)


@pytest.mark.promise("D8")
@pytest.mark.parametrize("is_coloured", [False, True])
def test_small_images_are_planned_alike_in_files_and_in_memory(
    tmp_path: Path, is_coloured: bool
) -> None:
    digits = open_data("builtin:digits").train
    labels = np.asarray(digits.labels)
    assert digits.images is not None
    gray = digits.images[:700, :, :7]  # 8 px high, 7 wide
    images = (gray // np.array([1, 2, 3])).astype(np.uint8) if is_coloured else gray
    np.savez(tmp_path / "arrays.npz", images=images, labels=labels[:700])
    for number, (pixels, label) in enumerate(zip(images, labels, strict=False)):
        folder = tmp_path / "files" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze()).save(folder / f"{number:03d}.png")
    settings = {"data.val_fraction": 0.2, "data.test_fraction": 0, "model.name": "resnet_ti"}
    found = [plan(tmp_path / name, **settings) for name in ("arrays.npz", "files")]
    chosen = [
        {key: value for key, value, _ in one.choices if key != "data.workers"} for one in found
    ]
    assert chosen[0] == chosen[1]
    assert chosen[0]["data.image_size"] == (8, 7)
    assert chosen[0]["augment.flip"] == 0.0


def test_the_smallest_images_are_planned(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (40, 5, 7, 1), dtype=np.uint8)
    np.savez(tmp_path / "tiny.npz", images=noise, labels=np.arange(40) % 2)
    assert plan(tmp_path / "tiny.npz").config.data.image_size == (6, 8)


def test_files_of_two_sizes_are_photographs(tmp_path: Path) -> None:
    two_sizes(tmp_path)
    chosen = plan(tmp_path, **{"model.name": "resnet_ti"})
    assert chosen.facts.is_photos
    assert chosen.config.augment.crop == "inception"


@pytest.mark.parametrize(
    ("name", "size"), [("vit_ti8", (32, 32)), ("cct_2_3x2", (28, 28)), ("R+Ti/16", (28, 28))]
)
def test_small_images_are_resized_to_whole_patches_of_a_named_model(
    gray: Path, name: str, size: tuple[int, int]
) -> None:
    assert plan(gray, **{"model.name": name}).config.data.image_size == size


@pytest.mark.parametrize("num", [2, 3, 4, 8, 40])
def test_very_few_arrays_are_planned(tmp_path: Path, num: int) -> None:
    images = np.random.default_rng(num).integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(num) % 2)
    chosen = plan(tmp_path / "few.npz")
    assert chosen.facts.mirrored is None
    assert "augment.flip" not in {key for key, _, _ in chosen.choices}


@pytest.mark.promise("D8")
def test_a_check_that_runs_out_of_time_has_looked_at_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in "abcd":
        (tmp_path / label).mkdir()
        for number in range(100):
            content = b"damaged" if number % 10 == 0 else PIXEL
            (tmp_path / label / f"{number}.png").write_bytes(content)
    chosen = plan(tmp_path, **{"data.val_fraction": 0.0, "data.test_fraction": 0.0})
    clock = iter(range(100))
    mine = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(run_files, "time", mine)
    monkeypatch.setattr(run_files, "AT_ONCE", 50)
    checked = run_files.checked_plan(chosen, max_secs=2.5)
    assert checked.found.unseen == 300
    assert {name[0] for name, _ in checked.bad} == set("abcd")
    assert len(checked.plan.splits.train) == 400 - len(checked.bad)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_scale", (2.0, 1.0)),
        ("crop_scale", (0.9, 0.2)),
        ("crop_scale", (0.0, 1.0)),
        ("crop_ratio", (2.0, 0.5)),
        ("crop_ratio", (-1.0, 1.0)),
    ],
)
def test_crops_that_cannot_be_are_refused(gray: Path, key: str, value: object) -> None:
    with pytest.raises(UsageError, match="the smaller first"):
        plan(gray, **{f"augment.{key}": value})
