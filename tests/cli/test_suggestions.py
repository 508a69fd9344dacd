"""What is suggested for words of other tools exists, and is what they mean."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from tests.cli.cli_command import run
from vitrail.checkpoints.catalogue.meant import way_out
from vitrail.checkpoints.catalogue.weights import CATALOGUE, ROWS
from vitrail.cli.main import SWITCHES
from vitrail.cli.registry import VERBS, option_names, setting_options, verbs_with
from vitrail.cli.suggestions import OPTIONS, SAID, closest, option_meant
from vitrail.cli.suggestions import VERBS as VERBS_OF_OTHERS
from vitrail.device import device_meant
from vitrail.models.names import parse_name
from vitrail.models.other_names import NEAREST, our_name
from vitrail.models.vit.config import ViTConfig

OF_VERB = {
    name: {
        *option_names(import_module(verb.module).app),
        *(setting_options() if verb.takes_settings else ()),
    }
    for name, verb in VERBS.items()
}
KNOWN = set().union(*OF_VERB.values())


def test_everything_that_is_suggested_exists() -> None:
    fields = {f"--model.{name}" for name in ViTConfig.model_fields}
    for ours in OPTIONS:
        assert set(ours.split()) <= {*KNOWN, *fields, *SWITCHES}, ours
    assert set(VERBS_OF_OTHERS) <= set(VERBS)
    assert all(parse_name(ours) for ours in NEAREST.values())


def test_no_word_means_two_things() -> None:
    words = [word for text in [*OPTIONS.values(), *SAID] for word in text.split()]
    doubles = {word for word in words if words.count(word) > 1}
    # what an option is called depends on the verb
    assert doubles <= {"k", "n", "r", "f", "classes", *OPTIONS["--data"].split()}
    verbs = [word for text in VERBS_OF_OTHERS.values() for word in text.split()]
    assert len(verbs) == len(set(verbs))
    assert not set(verbs) & set(VERBS)


@pytest.mark.parametrize("option", sorted(KNOWN))
def test_an_option_with_a_letter_less_is_recognised(option: str) -> None:
    known = next(names for names in OF_VERB.values() if option in names)
    tail = option.rpartition(".")[2].strip("-")  # --lr is --optim.lr
    same = {name for name in known if name.rpartition(".")[2].strip("-") == tail}
    if len(option) > 6:
        assert closest(option[:-2] + option[-1], known) in same


@pytest.mark.parametrize(
    ("typed", "verb", "meant"),
    [
        ("--top", "train", "It is an option of predict"),
        ("--lr", "eval", "It is an option of train"),
    ],
)
def test_options_of_other_verbs(typed: str, verb: str, meant: str) -> None:
    assert meant in option_meant(typed, OF_VERB[verb], verb, verbs_with(typed))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gpu", "cuda?"),
        ("0", "cuda:0?"),
        ("gpu:1", "cuda:1?"),
        ("CUDA", "cuda?"),
        ("metal", "mps?"),
        ("tpu", "cpu"),
        ("", "auto"),
    ],
)
def test_devices(typed: str, meant: str) -> None:
    assert meant in device_meant(typed)


NAMES = {  # a name of another library: what is here
    "vit_base_patch16_224": "vit_b16.augreg_i21k_i1k_224",
    "vit_base_patch16_384": "vit_b16.augreg_i21k_i1k_384",
    "vit_small_patch16_224.augreg_in21k": "vit_s16.augreg_i21k",
    "vit_base_patch16_224.orig_in21k": "vit_b16.i21k",
    "deit_tiny_patch16_224": "vit_ti16.deit_i1k_224",
    "deit_base_distilled_patch16_384": "vit_b16.deit_distilled_i1k_384",
    "deit3_base_patch16_224.fb_in22k_ft_in1k": "vit_b16.deit3_21k_224",
    "google/vit-base-patch16-224": "vit_b16.hf_i21k_i1k_224",
    "google/vit-huge-patch14-224-in21k": "vit_h14.i21k",
    "facebook/dinov2-small": "vit_s14.dinov2",
    "dinov2_vitb14_reg4": "vit_b14.dinov2_reg4",
    "vit_b_16": "vit_b16.tv_i1k_224",
    "vit_large_patch14_reg4_dinov2": "vit_l14.dinov2_reg4",
    "resnetv2_50x1_bit.goog_in21k": "bit_r50x1.m_i21k",
}


@pytest.mark.parametrize("theirs", NAMES)
def test_weights_of_other_libraries(theirs: str) -> None:
    found = re.findall(r"[a-z0-9_]+\.[a-z0-9_]+", way_out(theirs).replace(f"timm/{theirs}", ""))
    assert found[:1] == [NAMES[theirs]]
    assert NAMES[theirs] in CATALOGUE


def test_every_repository_of_the_catalogue_is_recognised() -> None:
    hub = [row for row in ROWS if row.address.startswith("hf:")]
    assert len(hub) == 13
    for row in hub:
        repository = row.address.removeprefix("hf:")
        assert row.name in way_out(repository)
        assert our_name(repository) == row.model


HABITS = """
train builtin:digits --pretrained | --from
train builtin:digits --weights vit.pt | --from
train builtin:digits --checkpoint vit.pt | --from
train builtin:digits --gpu 0 | --device
train builtin:digits --gpus 1 | --device
train builtin:digits --accelerator gpu | --device
train builtin:digits --device 0 | cuda:0
train builtin:digits --lr-scheduler cosine | --schedule.name
train builtin:digits --lr_scheduler_type cosine | --schedule.name
train builtin:digits --sched cosine | --schedule.name
train builtin:digits --warmup-epochs 5 | --schedule.warmup
train builtin:digits --opt adamw | --optim.name
train builtin:digits --optimizer adamw | --optim.name
train builtin:digits --wd 0.1 | --optim.weight-decay
train builtin:digits --clip-grad 1 | --optim.clip
train builtin:digits --imgsz 224 | --image-size
train builtin:digits --img-size 224 | --image-size
train builtin:digits -b 8 | --batch-size
train builtin:digits --per_device_train_batch_size 8 | --batch-size
train builtin:digits --gradient_accumulation_steps 4 | --optim.accumulate
train builtin:digits -j 4 | --workers
train builtin:digits --num-workers 4 | --workers
train builtin:digits --num_train_epochs 3 | --epochs
train builtin:digits epochs=3 | --epochs 3
train builtin:digits --learning_rate 1e-3 | --lr
train builtin:digits --output_dir out | --out
train builtin:digits --project out | --out
train builtin:digits --fp16 | --precision
train builtin:digits --amp | --precision
train builtin:digits --smoothing 0.1 | --loss.label-smoothing
train builtin:digits --aa rand-m9 | --augment
train builtin:digits --drop-path 0.1 | --model.drop_path
train builtin:digits --num-classes 10 | classes are those of the data
train builtin:digits --early-stopping | --patience
train builtin:digits --validation_split 0.2 | --val-fraction
train builtin:digits --resume_from_checkpoint x | --resume
train builtin:digits --model-ema | --ema
train builtin:digits --exist-ok | --name
train builtin:digits --use_lora | --lora-rank
train builtin:digits --freeze-backbone | --freeze
train --data photos | vitrail train DATA
train builtin:digits --model vit_base_patch16_224 | Here it is vit_b16
train builtin:digits --model google/vit-base-patch16-224 | Here it is vit_b16
train builtin:digits --model ViTForImageClassification | nearest is vit_b16
train builtin:digits --model vit-tiny | nearest is vit_ti16
train builtin:digits --model resnet50 | nearest is bit_r50x1
train builtin:digits --model yolov8n-cls | nearest is vit_s16
train builtin:digits --from vit_base_patch16_224 | vit_b16.augreg_i21k_i1k_224
predict m x.jpg --topk 3 | --top
predict m --source x.jpg | vitrail predict MODEL FILES
predict m x.jpg --conf 0.5 | --json
export m o --format onnx | --to
export m o --half | --precision
serve m -p 8000 | --port
fit builtin:digits | train
finetune d | train
val m | eval
evaluate m | eval
infer m | predict
benchmark d | compare
gradcam m | explain
list | models
"""


# Thirty more, written down before the answers were looked at (10 of the first 28 were right then),
# and what was to be told: words of timm's train.py, the Trainer, Keras and Ultralytics.
LATER = """
train builtin:digits --in-chans 1 | channels
train builtin:digits --warmup_ratio 0.1 | --schedule.warmup
train builtin:digits --weight_decay 0.05 | --optim.weight-decay
train builtin:digits --decay-epochs 30 | --schedule.name
train builtin:digits --color_jitter 0.4 | --augment.color-jitter
train builtin:digits --log_interval 10 | metrics.jsonl
train builtin:digits --pin-mem | Leave it out
train builtin:digits --channels-last | Leave it out
train builtin:digits --local_rank 0 | --nproc
train builtin:digits --world-size 2 | --nproc
train builtin:digits --model-ema-decay 0.999 | --ema
train builtin:digits --cos_lr | --schedule.name
train builtin:digits --cache ram | --data.cache
train builtin:digits --nbs 64 | --batch-size
train builtin:digits --dropout 0.1 | --model.dropout
train builtin:digits --load_best_model_at_end | best model
train builtin:digits --metric_for_best_model acc | best model
train builtin:digits --push_to_hub | vitrail push
train builtin:digits --hub_model_id a/b | vitrail push
train builtin:digits --do_train | the verb says
train builtin:digits --train_batch_size 8 | --batch-size
train builtin:digits --optimizer_type adamw | --optim.name
train builtin:digits --shuffle | shuffled
train builtin:digits --class_mode categorical | those of the data
train builtin:digits --epochs_warmup 3 | --schedule.warmup
train builtin:digits --model-dir out | --out
train builtin:digits --model swin_tiny_patch4_window7_224 | nearest is vit_s16
train builtin:digits --model yolo11n-cls.pt | nearest is vit_s16
export m o --include onnx | --to
export m o --int8 | --precision
"""


@pytest.mark.parametrize("habit", [*HABITS.strip().splitlines(), *LATER.strip().splitlines()])
def test_habits_of_other_tools_lead_to_ours(habit: str) -> None:
    """What people type who come from timm, Ultralytics, transformers, Keras or torchvision."""
    words, _, meant = habit.partition(" | ")
    done = run(*words.split())
    assert done.code in (2, 4, 5)
    assert meant in done.err


@pytest.mark.parametrize("path", ["runs/god", "nowhere", "a/model", "a/b/c", "", "~/x", "run.1"])
def test_paths_are_not_taken_for_names(path: str) -> None:
    assert way_out(path) == ""
    assert our_name(path) == ""
