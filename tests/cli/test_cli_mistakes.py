"""Typical mistakes: exit code 2 to 7, a VIT code, a way out, no traceback (promise U7)."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.cli import mistakes_place
from tests.cli.cli_command import run
from vitrail.cli.registry import GLOBAL, VERBS, option_names, setting_options

PICTURE = "photos/cat/0.png"
GOOD = "runs/good"
TRAIN = " ".join(mistakes_place.TRAIN)

# (what people type, exit code, VIT code, words that say the way out)
MISTAKES = [
    # the command line
    ("trian photos", 2, "VIT-211", "Did you mean train?"),
    ("--epochs 3", 2, "VIT-211", "All verbs: vitrail --help"),
    ("train photos --epoch 3", 2, "VIT-211", "Did you mean --epochs?"),
    ("train photos --optim.lrr 3", 2, "VIT-211", "Did you mean --optim.lr?"),
    ("train photos epochs=10", 2, "VIT-205", "--epochs 10"),
    ("train photos batch_size=10", 2, "VIT-205", "--batch-size 10"),
    ("train", 2, "VIT-201", "vitrail train builtin:digits"),
    ("train photos more", 2, "VIT-201", "vitrail train --help"),
    ("train photos --model", 2, "VIT-201", "vitrail train --help"),
    ("train photos --seed 1 --seed 2", 2, "VIT-201", "Keep one"),
    ("train photos --optim.lr", 2, "VIT-201", "--optim.lr VALUE"),
    ("data chek photos", 2, "VIT-211", "Did you mean check?"),
    ("data get digit", 3, "VIT-303", "builtin:digits"),
    ("models --classes ten", 2, "VIT-202", "vitrail models --help"),
    # settings
    ("train photos --epochs ten", 2, "VIT-212", "--print-config"),
    ("train photos --epochs -1", 2, "VIT-212", "greater than 0"),
    ("train photos --batch-size 0", 2, "VIT-212", "batch_size"),
    ("train photos --augment rotate", 2, "VIT-212", "randaugment"),
    ("train photos --precision float16", 2, "VIT-212", "bfloat16"),
    ("train photos --val-fraction 15", 2, "VIT-212", "less than 1"),
    ("train photos --epochs 3 --steps 9", 2, "VIT-213", "Keep one of --epochs, --steps"),
    ("train photos --lr 1 --optim.lr 2", 2, "VIT-203", "Keep one"),
    ("train photos --config bad.toml", 2, "VIT-215", "line 1"),
    ("train photos --config none.toml", 2, "VIT-215", "No such file"),
    ("train photos --config key.toml", 2, "VIT-211", "Did you mean optim.weight_decay?"),
    ("train photos --recipe smal.scratch", 2, "VIT-217", "Did you mean small.scratch?"),
    ("train photos --model vit_q16", 2, "VIT-221", "vit_"),
    ("train photos --model vit_s16 --model.dept 3", 2, "VIT-211", "Did you mean depth?"),
    ("train photos --model vit_s16 --image-size 225", 2, "VIT-214", "224"),
    ("train photos --model vit_s16 --model.num_heads 5", 2, "VIT-222", "num_heads"),
    ("train photos --batch-size 100", 2, "VIT-219", "--batch-size auto"),
    ("train photos --freeze body", 2, "VIT-226", "--freeze"),
    ("train photos --lora-rank 8", 2, "VIT-248", "--from MODEL"),
    ("train photos --start.head by_name", 2, "VIT-246", "Leave it out"),
    ("train photos --from runs/good --model vit_s16", 2, "VIT-245", "Leave --model out"),
    ("train photos --from runs/good --model.depth 9", 2, "VIT-245", "leave --from out"),
    ("train photos --from runs/good --freeze body --lora-rank 8", 2, "VIT-249", "Keep one"),
    ("train photos --from nowhere", 4, "VIT-430", "run directory"),
    ("train more --teacher runs/good", 2, "VIT-252", "trained on these classes"),
    ("train photos --recipe paper.masked_patches --augment.mixup 0.5", 2, "VIT-251", "--recipe"),
    ("train --resume runs/good --from runs/good", 2, "VIT-203", "--resume runs/good"),
    ("train photos --device gpu", 2, "VIT-241", "Did you mean cuda?"),
    ("train photos --time-limit 60", 2, "VIT-212", "--time-limit 60s or --time-limit 60m"),
    ("train photos --device cuda:97", 5, "VIT-501", "--device"),
    # data
    ("train phtos", 3, "VIT-303", "photos/CLASS/IMAGE"),
    ("train builtin:mnist", 3, "VIT-303", "builtin:digits"),
    ("train hf:mnist", 3, "VIT-337", "hf:OWNER/NAME"),
    ("train notes.txt", 3, "VIT-310", "path,label"),
    ("train only.zip", 3, "VIT-303", "Accepted"),
    ("train empty", 3, "VIT-305", "CLASS/IMAGE"),
    ("train hollow", 3, "VIT-305", "Put images"),
    ("train flat", 3, "VIT-302", "labels.csv"),
    ("train alone", 3, "VIT-304", "two classes"),
    ("train columns.csv", 3, "VIT-310", "path,label"),
    ("train missing.csv", 3, "VIT-312", "relative to"),
    (f"train broken {TRAIN} --steps 1", 3, "VIT-301", "--on-bad-file skip"),
    ("data check empty", 3, "VIT-305", "CLASS/IMAGE"),
    ("data check broken --strict", 7, "VIT-702", "vitrail data check broken --out DIR"),
    ("data check photos --out report", 2, "VIT-206", "--out"),
    ("data split photos notes.txt", 2, "VIT-206", "another name"),
    ("data split photos s.csv --val-fraction 2", 2, "VIT-202", "0.15"),
    ("data show photos --split holdout", 2, "VIT-202", "test"),
    ("data show alone --count 0", 2, "VIT-202", "--count 5"),
    ("data get digits photos", 2, "VIT-206", "vitrail data get digits OUT"),
    # runs
    (f"train photos {TRAIN} --steps 1 --name good", 2, "VIT-218", "--resume runs/good"),
    (f"train photos {TRAIN} --steps 1 --name a/b", 2, "VIT-218", "--out"),
    (f"train photos {TRAIN} --steps 1 --out notes.txt/runs", 5, "VIT-506", "--out"),
    ("train --resume runs/good --epochs 3", 2, "VIT-203", "vitrail train --resume runs/good"),
    ("train photos --resume runs/good", 4, "VIT-408", "vitrail report runs/good"),
    ("train --resume runs/god", 4, "VIT-407", "runs/"),
    ("train --resume photos", 4, "VIT-407", "vitrail train"),
    ("train --resume runs/good", 4, "VIT-408", "vitrail report runs/good"),
    ("train --resume runs/lost", 4, "VIT-405", "new run"),
    ("train --resume runs/foreign", 4, "VIT-410", "new run"),
    ("report photos", 4, "VIT-407", "vitrail train"),
    # models
    (f"predict model.pth {PICTURE}", 4, "VIT-402", ".safetensors"),
    (f"predict nowhere {PICTURE}", 4, "VIT-430", "run directory"),
    (f"predict photos {PICTURE}", 4, "VIT-43", "run directory"),
    (f"predict record {PICTURE}", 4, "VIT-434", "again"),
    (f"predict weights {PICTURE}", 4, "VIT-437", "again"),
    (f"predict half {PICTURE}", 4, "VIT-433", "run directory"),
    (f"predict newer {PICTURE}", 4, "VIT-435", "Update vitrail"),
    (f"predict {GOOD}", 2, "VIT-201", "vitrail predict MODEL a.jpg"),
    (f"predict {GOOD} photos/cat/O.png", 3, "VIT-360", "Did you mean photos/cat/"),
    (f"predict {GOOD} empty", 3, "VIT-361", ".png"),
    (f"predict {GOOD} notes.txt", 3, "VIT-362", "jpeg png"),
    (f"predict {GOOD} {PICTURE} --top 0", 2, "VIT-202", "--top 5"),
    (f"predict {GOOD} {PICTURE} --out notes.txt", 2, "VIT-202", "notes.csv"),
    (f"predict {GOOD} {PICTURE} --out columns.csv", 2, "VIT-206", "another name"),
    (f"predict {GOOD} {PICTURE} --out notes.txt/p.csv", 5, "VIT-506", "--out"),
    (f"eval {GOOD} --split holdout", 2, "VIT-240", "test"),
    (f"eval {GOOD} more", 4, "VIT-403", "classes"),
    (f"eval {GOOD}/model", 2, "VIT-208", f"vitrail eval {GOOD}/model DATA"),
    (f"eval {GOOD} --min-top1 90", 2, "VIT-202", "--min-top1 0.9"),
    (f"eval {GOOD} --out photos", 2, "VIT-206", "another"),
    ("models vit_z9", 2, "VIT-221", "vit_"),
    ("models vit_b16 --image-size 225", 2, "VIT-214", "224"),
    ("models vit_b16 --image-size big", 2, "VIT-202", "--image-size 224"),
    ("lr-find photos --out report", 2, "VIT-206", "--out"),
    # words of other tools
    ("fit photos", 2, "VIT-211", "Did you mean train?"),
    ("test runs/good", 2, "VIT-211", "Did you mean eval?"),
    ("infer runs/good", 2, "VIT-211", "Did you mean predict?"),
    ("train photos --gpu", 2, "VIT-211", "Did you mean --device?"),
    ("train photos --pretrained", 2, "VIT-211", "Did you mean --from?"),
    ("train photos --batch_siz 3", 2, "VIT-211", "Did you mean --batch-size?"),
    ("train photos --bs 3", 2, "VIT-211", "Did you mean --batch-size?"),
    ("train photos -b 3", 2, "VIT-211", "Did you mean --batch-size?"),
    ("train photos --learning-rate 1", 2, "VIT-211", "Did you mean --lr?"),
    ("train photos --weight-decay 1", 2, "VIT-211", "Did you mean --optim.weight-decay?"),
    ("train photos weight_decay=1", 2, "VIT-205", "--optim.weight-decay 1"),
    ("train photos --num-workers 1", 2, "VIT-211", "Did you mean --workers?"),
    ("train photos --output x", 2, "VIT-211", "Did you mean --out?"),
    ("train photos --img-size 9", 2, "VIT-211", "Did you mean --image-size?"),
    ("train photos --amp", 2, "VIT-211", "Did you mean --precision?"),
    ("train photos --fp16", 2, "VIT-211", "Did you mean --precision?"),
    ("train photos --optimizer sgd", 2, "VIT-211", "Did you mean --optim.name?"),
    ("train photos --drop-path 0.1", 2, "VIT-211", "Did you mean --model.drop_path?"),
    ("train photos --data x", 2, "VIT-211", "vitrail train DATA"),
    ("train photos --num-classes 3", 2, "VIT-211", "those of the data"),
    ("train photos --overwrite", 2, "VIT-211", "Nothing is overwritten"),
    ("eval runs/good --epochs 3", 2, "VIT-211", "It is an option of train"),
    (f"predict {GOOD} {PICTURE} --topk 3", 2, "VIT-211", "Did you mean --top?"),
    (f"predict {GOOD} {PICTURE} -o x", 2, "VIT-211", "Did you mean --out?"),
    ("data check photos --num_workers 3", 2, "VIT-211", "Did you mean --workers?"),
    ("study head --dataset photos", 2, "VIT-211", "Did you mean --data?"),
    ("train photos --device 0", 2, "VIT-241", "Did you mean cuda:0?"),
    ("train photos --loss.name categorical_crossentropy", 2, "VIT-212", "softmax"),
    ("train photos --optim.name adam", 2, "VIT-212", "adamw"),
    ("train photos --model resnet50", 2, "VIT-221", "nearest is bit_r50x1"),
    ("train photos --model vit_base_patch16_224", 2, "VIT-221", "Here it is vit_b16"),
    ("train photos --model google/vit-base-patch16-224", 2, "VIT-221", "Here it is vit_b16"),
    ("models deit_tiny_patch16_224", 2, "VIT-221", "Here it is vit_ti16"),
    ("train photos --from deit_tiny_patch16_224", 4, "VIT-430", "vit_ti16.deit_i1k_224"),
    (f"predict vit_base_patch16_224 {PICTURE}", 4, "VIT-430", "vit_b16.augreg_i21k_i1k_224"),
    (f"predict facebook/dinov2-small {PICTURE}", 4, "VIT-430", "hf:facebook/dinov2-small"),
    ("convert resnet50 o --to timm", 4, "VIT-430", "nearest is bit_r50x1"),
    ("models --get vit_small_patch16_224.augreg_in21k", 2, "VIT-202", "vit_s16.augreg_i21k"),
    ("lr-find photos --lr 3", 2, "VIT-203", "Leave it out"),
    ("lr-find photos --steps 3", 2, "VIT-203", "Leave it out"),
]


OPTIONS = {
    *setting_options(),
    *(name for verb in VERBS.values() for name in option_names(import_module(verb.module).app)),
    *(name for names in GLOBAL for name in names.split(", ")),
}


def suggested_verbs(text: str) -> set[str]:
    """Verbs of the commands that an error names."""
    return set(re.findall(r"(?:^|: |\()vitrail ([a-z][a-z-]*)", text, flags=re.MULTILINE))


def suggested_options(text: str) -> set[str]:
    """Options that an error names."""
    found = re.findall(r"(?<![\w.-])--[a-z][a-z0-9._-]*[a-z0-9]", text)
    return {word.replace("_", "-") for word in found if not word.startswith("--model.")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of `mistakes_place`, as the working directory."""
    folder = tmp_path_factory.mktemp("mistakes")
    before = Path.cwd()
    os.chdir(folder)
    mistakes_place.build(folder)
    (folder / "report").mkdir()
    (folder / "report" / "data_report.html").touch()
    (folder / "report" / "lr_find.json").touch()
    yield folder
    os.chdir(before)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("typed", "code", "vit", "way_out"), MISTAKES, ids=lambda value: str(value)
)
def test_mistake(typed: str, code: int, vit: str, way_out: str) -> None:
    done = run(*typed.split())
    assert done.err.startswith(f"error {vit}"), done.err
    assert re.match(r"error VIT-[2-7]\d\d: \S", done.err)
    assert done.code == code, done.err
    assert way_out in done.err
    assert "Traceback" not in done.err
    assert "VIT-100" not in done.err
    assert done.err[10] == str(done.code)
    assert suggested_verbs(done.err) <= set(VERBS)
    assert suggested_options(done.err) - set(typed.replace("_", "-").split()) <= OPTIONS


@pytest.mark.usefixtures("place")
def test_nothing_is_written_by_a_mistake(place: Path) -> None:
    before = sorted(str(path) for path in place.rglob("*"))
    for typed in ("train photos --model vit_q16", "train flat", "train photos --batch-size 100"):
        assert run(*typed.split()).code in (2, 3)
    assert sorted(str(path) for path in place.rglob("*")) == before


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("name", "value", "vit", "way_out"),
    [
        ("VITRAIL_EPOCH", "3", "VIT-216", "VITRAIL_EPOCHS"),
        ("VITRAIL_OPTIM_LR", "fast", "VIT-212", "from environment"),
    ],
)
def test_mistakes_in_the_environment(
    name: str, value: str, vit: str, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    done = run("train", "photos")
    assert (done.code, done.err.startswith(f"error {vit}")) == (2, True)
    assert way_out in done.err


@pytest.mark.usefixtures("place")
def test_a_gate_that_is_not_met() -> None:
    done = run("eval", GOOD, "--split", "train", "--min-top1", "1.0", "--json")
    top1 = json_of(done.out.splitlines()[0])["top1"]
    assert isinstance(top1, float)
    assert top1 < 1  # noise, two steps
    assert done.code == 7
    assert "VIT-701" in done.err


def json_of(text: str) -> dict[str, object]:
    """One JSON object."""
    document: dict[str, object] = json.loads(text)
    return document


def vitrail(place: Path, *argv: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A real process; `limit` is the largest file it may write, bytes."""

    def lower() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "vitrail", *argv],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lower,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_process_says_the_same(place: Path) -> None:
    done = vitrail(place, "train", "photos", "--epoch", "3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error VIT-211: unknown option --epoch. Did you mean --epochs?\nSee vitrail train --help\n"
    )


def test_a_process_with_json(place: Path) -> None:
    done = vitrail(place, "train", "flat", "--json")
    assert done.returncode == 3
    assert json_of(done.stdout)["code"] == "VIT-302"


def test_a_full_disk(place: Path) -> None:
    argv = ("train", "photos", *mistakes_place.TRAIN, "--steps", "2", "--name", "full")
    done = vitrail(place, *argv, limit=100_000)
    assert done.returncode == 5, done.stderr
    assert re.search(r"^error VIT-50\d: ", done.stderr, flags=re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert "--" in done.stderr
