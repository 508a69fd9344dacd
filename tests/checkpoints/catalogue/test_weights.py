"""The catalogue: sound rows, sources agree with the spec, names find their files (spec 2.1-2.6)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitrail.checkpoints.catalogue.augreg_names import is_augreg, parse_augreg
from vitrail.checkpoints.catalogue.weights import CATALOGUE, ROWS, weights_named
from vitrail.checkpoints.hub import resolve
from vitrail.checkpoints.hub.download import DownloadRequest, cached_path, check_address
from vitrail.checkpoints.hub.hf_download import parse_repository
from vitrail.checkpoints.hub.resolve import (
    address_of,
    catalogue_entry_at,
    folders_of,
    google_address,
    resolve_weights,
)
from vitrail.errors import ModelError
from vitrail.models.names import resolve_model

GOOGLE = "https://storage.googleapis.com"
B16 = "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"


def test_names_are_unique_and_say_the_architecture() -> None:
    assert len(CATALOGUE) == len(ROWS) > 100
    assert len({row.address for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", row.name), row.name
        assert row.name.startswith(f"{row.model}.")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row(row: Any) -> None:
    if row.address.startswith("hf:"):
        parse_repository(row.address[3:])
        assert row.preprocess is None
    else:
        check_address(row.address)
        assert Path(row.address).suffix in (".npz", ".pth")
    resolve_model(row.model, num_classes=row.num_classes, image_size=row.image_size)
    if row.preprocess is not None:
        assert (row.preprocess.height, row.preprocess.width) == row.image_size
    assert (row.top1 is None) == (row.reported_by == "")
    assert row.top1 is None or 0.7 < row.top1 < 0.9
    assert row.sha256 is None  # no publisher states one; a first download notes it
    assert row.licence
    assert row.num_classes in (0, 1000, 21843)
    assert address_of(row.name) == row.address


def test_files_of_augreg_are_what_their_names_say() -> None:
    rows = [row for row in ROWS if "/augreg/" in row.address]
    assert len(rows) == 2 * 9 + 9
    for row in rows:
        name = parse_augreg(Path(row.address).name)
        assert (name.slug, name.image_size, name.num_classes) == (
            row.model,
            row.image_size,
            row.num_classes,
        )


def test_the_recommended_table_of_the_spec() -> None:
    """Spec 2.4, [VT README], in the order of the table."""
    models = "vit_l16 vit_b16 vit_s16 r50_vit_l32 r26_vit_s32 vit_ti16 vit_b32 vit_s32 r_vit_ti16"
    figures = (85.59, 85.49, 83.73, 85.99, 83.85, 78.22, 83.59, 79.58, 75.40)
    for model, figure in zip(models.split(), figures, strict=True):
        row = weights_named(f"{model}.augreg_i21k_i1k_384")
        assert row.top1 == pytest.approx(figure / 100)
        assert row.reported_by == "VT"


def test_the_start_of_a_sha256_in_a_file_name() -> None:
    assert weights_named("vit_b16.deit_i1k_224").sha256_start == "b5f2ef4d"
    assert weights_named("vit_b16.tv_i1k_224").sha256_start == "c867db91"
    assert weights_named("vit_b16.deit3_1k_224").sha256_start == ""
    assert weights_named("vit_b16.i21k").sha256_start == ""


def test_preprocessing_is_that_of_the_readers() -> None:
    from vitrail.checkpoints.origins import big_vision, bit_npz, google

    rows = {row.name: row.preprocess for row in ROWS}
    assert rows["vit_b16.augreg_i21k_i1k_384"] == google.squashed((384, 384))
    assert rows["bit_r50x1.m_i21k_i1k_480"] == bit_npz.squashed((480, 480))
    assert rows["vit_s16.plain_i1k_90ep"] == big_vision.cropped((224, 224))


def test_what_a_file_cannot_tell_is_in_the_catalogue() -> None:
    """torchvision's L/16 resizes to 242, and two B/16 at 224 differ in the filter (spec 2.6)."""
    large = weights_named("vit_l16.tv_i1k_224").preprocess
    plain = weights_named("vit_b16.tv_i1k_224").preprocess
    linear = weights_named("vit_b16.tv_swag_linear_i1k_224").preprocess
    assert large is not None
    assert plain is not None
    assert linear is not None
    assert (large.resize, plain.resize, linear.resize) == (242, 256, 224)
    assert (plain.interpolation, linear.interpolation) == ("bilinear", "bicubic")


def test_weights_of_an_architecture() -> None:
    assert sum(row.model == "vit_b16" for row in ROWS) > 15


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("vit_models/imagenet21k/ViT-B_16.npz", "vit_models/imagenet21k/ViT-B_16.npz"),
        ("imagenet21k/ViT-B_16", "vit_models/imagenet21k/ViT-B_16.npz"),
        ("gs://vit_models/sam/ViT-B_32.npz", "vit_models/sam/ViT-B_32.npz"),
        ("gs:/vit_models/sam/ViT-B_32.npz", "vit_models/sam/ViT-B_32.npz"),  # through Path()
        (f"{GOOGLE}/bit_models/BiT-M-R50x1.npz", "bit_models/BiT-M-R50x1.npz"),
        (f"augreg/{B16}", f"vit_models/augreg/{B16}.npz"),
        (f"{B16}.npz", f"vit_models/augreg/{B16}.npz"),
        ("ViT-B_16-224", "vit_models/imagenet21k+imagenet2012/ViT-B_16-224.npz"),
        ("R50+ViT-B_16", "vit_models/imagenet21k/R50+ViT-B_16.npz"),
        ("BiT-S-R101x3", "bit_models/BiT-S-R101x3.npz"),
        ("BiT-M-R152x4-ILSVRC2012", "bit_models/BiT-M-R152x4-ILSVRC2012.npz"),
        ("BiT-M-R50x1-run0-caltech101", "bit_models/vtab/BiT-M-R50x1-run0-caltech101.npz"),
        ("R152x2_T_384", "bit_models/distill/R152x2_T_384.npz"),
        ("vit_s16_i1k_90ep", "big_vision/vit_s16_i1k_90ep.npz"),
        ("bv_deit_3_base_384_21k", "big_vision/zoo/deit3/bv_deit_3_base_384_21k.npz"),
        ("flexivit_b_i21k_300ep", "big_vision/flexivit/flexivit_b_i21k_300ep.npz"),
    ],
)
def test_files_of_google(file: str, path: str) -> None:
    assert google_address(file) == f"{GOOGLE}/{path}"
    assert address_of(f"google:{file}") == f"{GOOGLE}/{path}"


@pytest.mark.parametrize(
    "row", [row for row in ROWS if GOOGLE in row.address], ids=lambda r: r.name
)
def test_a_file_name_alone_finds_its_folder(row: Any) -> None:
    folder, _, file = row.address.removeprefix(f"{GOOGLE}/").rpartition("/")
    assert folder in folders_of(file.removesuffix(".npz"))


@pytest.mark.parametrize(
    ("file", "code", "part"),
    [
        ("ViT-B_16", "VIT-467", "google:sam/ViT-B_16"),
        ("ViT-B_17", "VIT-467", "not known"),
        ("other_bucket/a", "VIT-467", "begins with one of"),
        ("vit_models/../secret", "VIT-467", "a path such as"),
        ("vit_models//a", "VIT-467", "a path such as"),
        ("vit_models/a?b=c", "VIT-467", "a path such as"),
        ("/vit_models/a", "VIT-467", "a path such as"),
        ("", "VIT-467", "a path such as"),
        (B16.replace("medium1", "medium"), "VIT-462", "aug_medium"),
        ("augreg/" + B16.replace("i21k", "i22k"), "VIT-462", "i22k"),
    ],
)
def test_wrong_names_of_google(file: str, code: str, part: str) -> None:
    with pytest.raises(ModelError) as caught:
        google_address(file)
    assert caught.value.code == code
    assert part in caught.value.message


def test_paths_stay_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("runs/a", "model.npz", "C:/x", "vit_b16.npz", "./hf:a/b", "weights.v2.zip"):
        assert address_of(path) == ""
        assert resolve_weights(path) == Path(path)
    Path("vit_b16.i21k").mkdir()
    assert resolve_weights("vit_b16.i21k") == Path("vit_b16.i21k")  # what exists is a path


def test_a_misspelt_catalogue_name_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        resolve_weights("vit_b16.augreg_i21k_i1k_383")
    assert caught.value.code == "VIT-463"
    assert "Did you mean vit_b16.augreg_i21k_i1k_384?" in caught.value.message


def test_names_are_downloaded_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[DownloadRequest, Path]] = []

    def fake(wanted: DownloadRequest, target: Path, *, progress: object = None) -> Path:
        asked.append((wanted, target))
        return target

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(resolve, "download", fake)
    place = resolve_weights("vit_b16.deit_i1k_224")
    address = "https://dl.fbaipublicfiles.com/deit/deit_base_patch16_224-b5f2ef4d.pth"
    assert asked == [(DownloadRequest(address, "b5f2ef4d"), place)]
    assert place == tmp_path / "vitrail/weights" / address.removeprefix("https://")
    row = catalogue_entry_at(place)
    assert row is not None
    assert row.name == "vit_b16.deit_i1k_224"
    assert catalogue_entry_at(tmp_path / place.name) is None
    assert resolve_weights(Path(f"google:{B16}")) == cached_path(
        f"{GOOGLE}/vit_models/augreg/{B16}.npz"
    )
    assert is_augreg(asked[-1][1].name)


def test_the_catalogue_loads_no_torch_and_opens_nothing() -> None:
    program = (
        "import sys; "
        "sys.addaudithook(lambda event, _: event.startswith('socket.') and print(event)); "
        "import vitrail.checkpoints.hub.resolve; "
        "print('torch' in sys.modules, 'huggingface_hub' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["False", "False"]
