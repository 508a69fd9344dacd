"""Which option somebody means who types that of another tool: by meaning first, then by spelling.

The words are those of timm's train.py, transformers' Trainer, torchvision's references, Keras,
Lightning and Ultralytics, as their pages list them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CUTOFF = 0.6  # of alike letters, below which a guess misleads
OPTIONS: dict[str, str] = {  # ours (the first that the verb has): other tools' words for it
    "--device": "gpu gpus gpu-id cuda no-cuda cpu use-gpu accelerator devices use-cpu mps tpu",
    "--from": "pretrained pretrain pretrained-model finetune fine-tune checkpoint ckpt weights "
    "load init init-from model-path model-name-or-path pretrained-weights load-weights base-model "
    "initial-checkpoint init-checkpoint load-from",
    "--resume": "continue resume-from resume-from-checkpoint ckpt-path last-ckpt auto-resume",
    "--batch-size": "bs b batch batchsize train-batch-size per-device-train-batch-size "
    "per-device-eval-batch-size eval-batch-size batch-size-per-gpu validation-batch-size nbs "
    "train-bs micro-batch-size",
    "--lr": "learning-rate base-lr max-lr lr0 blr learningrate peak-lr",
    "--optim.weight-decay": "weight-decay wd l2-reg l2-regularization decay",
    "--workers": "num-workers j nw dataloader-num-workers n-workers nworkers worker "
    "num-proc preprocessing-num-workers loader-workers",
    "--out": "output o output-dir out-dir outdir save-dir save-path log-dir logdir project dest "
    "destination model-dir default-root-dir result-dir results results-dir output-path save "
    "save-to",
    "--image-size": "img-size imgsz input-size resolution img size image-height crop-size "
    "train-crop-size train-image-size target-size",
    "--precision": "amp fp16 bf16 half mixed-precision dtype use-amp autocast fp32 float16 "
    "bfloat16 amp-dtype tf32 model-dtype int8 quantize quantization",
    "--optim.name": "optimizer opt optim solver optimizer-type optim-type optimizer-name",
    "--optim.momentum": "momentum",
    "--optim.betas": "betas opt-betas adam-beta1 adam-beta2 beta1 beta2",
    "--optim.eps": "eps opt-eps adam-epsilon epsilon",
    "--optim.clip": "clip-grad grad-clip max-grad-norm gradient-clip-val clip clipnorm "
    "clip-grad-norm max-norm",
    "--optim.layer-decay": "layer-decay llrd layerwise-lr-decay",
    "--optim.accumulate --accumulate": "grad-accum-steps gradient-accumulation-steps accum-iter "
    "accumulate-grad-batches update-freq accumulation-steps accumulate grad-accum accum",
    "--schedule.name": "scheduler sched lr-scheduler lr-schedule lr-scheduler-type schedule "
    "lr-policy cos-lr cosine decay-epochs decay-rate lr-step-size lr-gamma",
    "--schedule.warmup": "warmup warmup-epochs warmup-steps warmup-ratio lr-warmup-epochs "
    "epochs-warmup num-warmup-steps",
    "--schedule.end-lr": "min-lr end-lr final-lr lrf warmup-min-lr eta-min",
    "--loss.label-smoothing": "label-smoothing smoothing label-smoothing-factor",
    "--loss.name": "loss criterion loss-fn bce-loss",
    "--loss.class-weights": "class-weights class-weight weighted-loss",
    "--augment": "aa auto-augment autoaugment randaugment rand-augment augmentation aug "
    "augmentations data-augmentation trivial-augment",
    "--augment.mixup": "mixup mixup-alpha mixup-prob",
    "--augment.cutmix": "cutmix cutmix-alpha",
    "--augment.erasing": "reprob random-erasing random-erase erasing",
    "--augment.flip": "hflip vflip flip random-flip horizontal-flip fliplr",
    "--augment.color-jitter": "color-jitter colour-jitter jitter",
    "--ema": "model-ema ema-decay model-ema-decay use-ema",
    "--checkpoint-activations": "gradient-checkpointing grad-checkpointing grad-ckpt "
    "use-checkpoint",
    "--compile": "torch-compile torchcompile use-compile",
    "--model --models": "arch a backbone net network model-name architecture model-type m model "
    "variant models",
    "--epochs": "max-epochs num-epochs num-train-epochs n-epochs e ep epoch nb-epochs train-epochs",
    "--steps": "max-steps iterations iters max-iter num-steps total-steps train-steps max-iters "
    "num-iterations steps-per-epoch",
    "--patience": "early-stopping early-stop early-stopping-patience es-patience",
    "--val-fraction": "val-split validation-split valid-fraction val-size val-ratio "
    "validation-fraction test-size split-ratio val-percent valid-pct",
    "--top": "topk top-k k n num-predictions",
    "--seed": "random-seed manual-seed random-state rng-seed",
    "--name": "experiment run-name exp-name experiment-name exp run-id version tag",
    "--save-every": "save-freq save-interval checkpoint-every checkpoint-interval save-steps "
    "save-strategy save-period",
    "--eval-every-epochs": "eval-freq eval-interval val-interval validate-every eval-every "
    "eval-steps eval-strategy evaluation-strategy check-val-every-n-epoch",
    "--keep-checkpoints": "save-total-limit save-top-k checkpoint-hist max-to-keep",
    "--freeze": "freeze-backbone linear-probe head-only freeze-layers freeze-encoder "
    "feature-extract linear-probing train-head-only",
    "--teacher": "teacher-model distill distillation teacher-path kd",
    "--time-limit --budget": "max-time timeout time time-budget time-limit max-hours duration",
    "--threads": "num-threads nthreads cpus cores n-jobs intra-op-threads",
    "--lora-rank": "lora lora-r lora-dim r rank use-lora",
    "--model.drop_path": "drop-path drop-path-rate stochastic-depth",
    "--model.dropout": "dropout drop drop-rate hidden-dropout-prob",
    "--model.patch_size": "patch-size patch",
    "--model.depth": "depth num-layers num-hidden-layers n-layers layers",
    "--model.width": "width hidden-size embed-dim hidden-dim d-model",
    "--model.num_heads": "num-heads heads num-attention-heads n-heads",
    "--config": "cfg config-file yaml config-path c",
    "--nproc": "local-rank world-size nproc-per-node num-gpus n-gpu n-gpus distributed ddp "
    "dist-url num-processes",
    "--dry-run": "dryrun plan no-train",
    "--method": "explainer attribution saliency cam",
    "--target": "class target-class class-name label",
    "--split": "subset partition eval-split",
    "--to": "format output-format export-format include",
    "--port": "p port-number http-port",
    "--host": "host ip address bind bind-address",
    "--tta": "test-time-augmentation flip-test augment-test",
    "--features": "feature-extractor embedding embeddings",
    "--labels": "label-errors cleanlab noisy-labels",
    "--data": "dataset data-path data-dir train-dir dataset-name source images input",
    "-v": "debug trace verbosity log-level",
    "-q": "silent no-progress disable-tqdm progress",
    "--json": "as-json output-json print-json",
}
EVERYWHERE = ("-v", "-q", "--json")
SAID: dict[str, str] = {  # what is no option here, and what to do instead
    "data data-dir dataset data-path train-dir root d train-data dataset-name train-file source "
    "input folder image-folder images": "The data are the first word: vitrail {verb} {data}.",
    "conf threshold confidence score-threshold": "All probabilities are in --json and --out; "
    "choose among them there.",
    "num-classes nb-classes classes num-labels n-classes "
    "class-names": "Leave it out: the classes are those of the data.",
    "force overwrite f yes y exist-ok "
    "overwrite-output-dir": "Nothing is overwritten: choose another --name, --out or file.",
    "recursive r": "Folders are read with all folders in them.",
    "wandb tensorboard report-to log-wandb logger mlflow": "Figures are in metrics.jsonl and "
    "report.html of the run; for other tools: vitrail train --track tensorboard,mlflow,wandb",
    "log-interval logging-steps log-every log-every-n-steps print-freq logging-strategy "
    "log-freq": "Figures are written to metrics.jsonl of the run as it trains.",
    "metric-for-best-model load-best-model-at-end greater-is-better save-best monitor eval-metric "
    "save-best-only checkpoint-metric": "The best model by validation is kept by itself.",
    "push-to-hub hub-model-id hub-token hub-private-repo hub-strategy": "Send it when it is "
    "trained: vitrail push RUN OWNER/NAME.",
    "do-train do-eval do-predict mode task": "Leave it out: the verb says what is done.",
    "shuffle pin-mem pin-memory dataloader-pin-memory channels-last cudnn-benchmark deterministic "
    "use-deterministic-algorithms persistent-workers": "Leave it out: training images are shuffled "
    "by --seed, and runs are reproducible without it.",
    "class-mode label-mode color-mode": "Leave it out: classes and channels are those of the data.",
    "mean std normalize": "Images are normalised as the model was trained: --data.normalize.",
}
VERBS: dict[str, str] = {
    "train": "fit finetune fine-tune learn training run start",
    "eval": "test evaluate val validate validation score evaluation benchmark-model",
    "predict": "infer inference classify label detect run-inference pred",
    "convert": "import save",
    "export": "onnx quantize quantise",
    "serve": "server http host deploy",
    "models": "model list zoo download weights ls hub list-models architectures",
    "data": "dataset datasets check split show",
    "explain": "attention gradcam cam saliency interpret visualize visualise heatmap",
    "report": "summary plot results html",
    "lr-find": "lr_find lrfind find-lr lr-finder tune-lr lr",
    "doctor": "info env version system check-env sysinfo settings",
    "study": "experiment experiments ablate ablation",
    "tune": "sweep hpo optuna hyperparameters hyperparameter-search ray-tune",
    "compare": "benchmark baseline versus",
    "probe": "knn linear-probe linear features embed",
}


def option_meant(
    typed: str, known: Iterable[str], verb: str = "", others: Iterable[str] = ()
) -> str:
    """A sentence on what to type in the place of the option `typed`, which `others` (verbs) have
    under that name.
    """
    names = [*known, *EVERYWHERE]
    if ours := option_named(typed, names):
        return f"Did you mean {ours}?"
    word = typed.strip("-").lower().replace("_", "-")
    said = next((text for words, text in SAID.items() if word in words.split()), "")
    if said:
        data = "MODEL FILES" if verb == "predict" else "DATA"
        return said.format(verb=verb or "VERB", data=data)
    close = closest(f"--{word}", names)
    is_number = close.rstrip("s") == f"--{word}".rstrip("s")  # --seed, where a verb has --seeds
    if (found := ", ".join(one for one in others if one != verb)) and not is_number:
        return f"It is an option of {found}; not of {verb}."
    if close:
        return f"Did you mean {close}?"
    return f"Known: {', '.join(sorted({name for name in known if '.' not in name}))}."


def option_named(typed: str, known: Iterable[str]) -> str:
    """The option that other tools call `typed`; "" for none."""
    word, names = typed.strip("-").lower().replace("_", "-"), set(known)
    wanted = [ours for ours, words in OPTIONS.items() if word in words.split()]
    return next(
        (
            ours
            for ours in " ".join(wanted).split()
            if ours in names or (ours.startswith("--model.") and "--model" in names)
        ),
        "",
    )


def closest(word: str, names: Iterable[str]) -> str:
    """The option most like `word`, with or without the section before its dot; "" for none."""
    best, found = CUTOFF, ""
    for name in names:
        for spelling in {name, "--" + name.rpartition(".")[2].strip("-")}:
            ratio = difflib.SequenceMatcher(None, word, spelling).ratio()
            # a beginning counts: --epo for --epochs
            ratio = max(ratio, 0.8) if spelling.startswith(word) and len(word) > 4 else ratio
            if ratio > best:
                best, found = ratio, name
    return found


def verb_meant(typed: str) -> str:
    """The verb that another tool calls `typed`; "" for none."""
    word = typed.lower()
    return next((verb for verb, words in VERBS.items() if word in words.split()), "")
