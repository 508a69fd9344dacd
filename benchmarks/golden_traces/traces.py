"""The list of traces: what is run, in this order, and which files are recorded.

Commands run in one work directory that all traces share, so every path in them is relative. The
text and the exit code of every command are recorded too. `{base}` is the setting that makes runs
repeatable, `{tiny}` a run of 40 updates on the digits with it.
"""

from __future__ import annotations

from typing import NamedTuple

BASE = "--seed 0 --threads 1 --device cpu --precision float32"


def tiny(data: str = "builtin:digits", *, steps: int = 40, batch: int = 32) -> str:
    """A short run; no option may be given twice."""
    return f"train {data} --steps {steps} --batch-size {batch} -q {BASE}"


TINY = tiny()
LAST_STEP = "step-00000040"
STOP_AT = "runs/stopped/checkpoints/step-00000010"
VERBS = (
    "train eval probe predict convert explain study compare report models lr-find runs doctor "
    "data:check data:split data:show data:get"
)
FORMATS = ("google", "big_vision", "bit", "timm", "huggingface", "torchvision", "deit", "dinov2")
ENDING = {"timm": "", "huggingface": "", "torchvision": ".safetensors", "deit": ".safetensors"}
ENDING |= {"dinov2": ".safetensors", "google": ".npz", "big_vision": ".npz", "bit": ".npz"}
# Folder of shared/golden, its checkpoint, and the format that it is written back to.
CHECKPOINTS = (
    ("google_vit_token", "ViT-Ti_8.npz", "google"),
    ("google_hybrid_stem", "R_Ti_16.npz", "google"),
    ("bit_tf_npz", "BiT-M-R5x0.5.npz", "bit"),
    ("bv_vit_map_scan", "siglip_mu8.npz", "big_vision"),
    ("timm_vit_token", "", "timm"),
    ("hf_vit", "", "huggingface"),
    ("fb_deit", "deit_tiny_patch8_32.pth", "deit"),
    ("torchvision_vit", "vit_mu_8.pth", "torchvision"),
)


class Trace(NamedTuple):
    """Commands that follow one another, and the files and folders that are recorded of them."""

    name: str
    commands: tuple[str, ...]
    keep: tuple[str, ...] = ()
    needs: str = ""  # of the work directory: without it the trace is "not here"
    stop: bool = False  # the first command is interrupted as soon as STOP_AT is there


def train(name: str, options: str, start: str = TINY) -> Trace:
    """A run of its own."""
    return Trace(name, (f"{start} --out runs --name {name} {options}",), (f"runs/{name}",))


def exports(model: str, out: str) -> tuple[str, ...]:
    """The model converted to every format. A refusal is recorded as any other text."""
    return tuple(f"convert {model} {out}-{to}{ENDING[to]} --to {to}" for to in FORMATS)


def both_ways(folder: str, file: str, to: str) -> Trace:
    """A checkpoint of another library, to vitrail's format and back."""
    source, ours, back = f"golden/{folder}", f"{folder}/ours", f"{folder}/back{ENDING[to]}"
    commands = (
        f"convert {source}/{file} {ours} --to vitrail",
        f"convert {ours} {back} --to {to}",
    )
    return Trace(f"golden {folder}", commands, (ours, back), needs=source)


# The others read what these leave.
FIRST = (
    Trace("data get", ("data get digits files",), ("files/test/0",)),
    train("plain", "--model vit_digits"),
    Trace(
        "stopped and resumed",
        (
            f"{TINY} --model vit_digits --save-every-steps 10 --out runs --name stopped",
            "train --resume runs/stopped -q",
        ),
        ("runs/stopped",),
        stop=True,
    ),
)

TRACES = (
    Trace("help", ("--help", *(verb.replace(":", " ") + " --help" for verb in VERBS.split()))),
    Trace("models", ("models", "models --json", "models vit_b16", "models --weights")),
    Trace(
        "settings",
        (
            f"train builtin:digits --print-config {BASE}",
            f"train files --print-config --recipe paper.finetune --model vit_b16 {BASE}",
            f"train files --print-config --model auto --epochs 3 {BASE}",
        ),
    ),
    Trace("data check", ("data check files --json",)),
    Trace(
        "mistakes",
        (
            "train builtin:digits epochs=10",
            "train no-such-folder",
            "train builtin:digits --epohcs 3",
            "predict files files/test/0",
            "predict runs/plain no-such-image.png --json",
        ),
    ),
    *(both_ways(*checkpoint) for checkpoint in CHECKPOINTS),
    train("augmented", "--model vit_digits --augment randaugment --augment.mixup 0.2 --ema 0.9"),
    train("sgd", "--model vit_digits --optim.name sgd --lr 0.03"),
    train("lamb", "--model vit_digits --optim.name lamb"),
    train("masked", "--recipe paper.masked_patches --model vit_digits"),
    train("bit", "--model bit_r26x1_small --model.width_factor 0.5", tiny(batch=8)),
    train("residual", "--model resnet_ti"),
    train("hybrid", "--model vitr_ti --model.depth 1"),
    train("auto", "--model auto"),
    train("files_0", "--model vit_digits --workers 0", tiny("files")),
    train("files_2", "--model vit_digits --workers 2", tiny("files")),
    train("from", "--from runs/plain"),
    train("frozen", "--from runs/plain --freeze body"),
    train("lora", "--from runs/plain --lora-rank 2"),
    train("taught", "--model vit_digits --teacher runs/plain"),
    Trace(
        "stopped before, resumed now",
        ("train --resume before/stopped -q",),
        ("before/stopped",),
        needs="before/stopped",
    ),
    Trace(
        "study",
        (
            "study posemb --data builtin:digits --examples 64 --seeds 1 --processes 1 --device cpu"
            " --out studies",
        ),
        ("studies",),
    ),
    Trace(
        "predict",
        (
            "predict runs/plain files/test/0 --json",
            "predict runs/plain files/test/1 --out predictions.csv",
        ),
        ("predictions.csv",),
    ),
    Trace("eval", ("eval runs/plain files --out eval-files --json --device cpu",), ("eval-files",)),
    Trace(
        "explain",
        tuple(
            f"explain runs/plain files/test/3/{{image}} --method {method} --out explain-{method}"
            " --device cpu"
            for method in ("attention", "relevance", "gradcam")
        ),
        ("explain-attention", "explain-relevance", "explain-gradcam"),
    ),
    Trace(
        "explain model",
        ("explain runs/plain --figures --num 16 --out figures --device cpu",),
        ("figures",),
    ),
    Trace(
        "report",
        (
            f"{tiny(steps=4)} --model vit_digits --out runs --name reported",
            "report runs/reported",
        ),
        ("runs/reported/report.html", "runs/reported/report.md"),
    ),
    Trace(
        "convert",
        (
            f"{tiny(steps=4)} --model vit_ti4 --model.depth 2 --model.width 48 --data.channels 3"
            " --model.pool cls --model.posemb learned --image-size 16"
            " --out runs --name token",
            *exports("runs/token", "token"),
            "convert token-google.npz again-google --to vitrail",
            "convert token-huggingface again-huggingface --to vitrail",
        ),
        ("again-google", "again-huggingface") + tuple(f"token-{to}{ENDING[to]}" for to in FORMATS),
    ),
)
