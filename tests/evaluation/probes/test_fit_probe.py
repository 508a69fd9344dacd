"""Probes end to end on a model whose features are known: figures, choices, intervals, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.frozen_model import (
    CLASSES,
    PREPROCESS,
    Rows,
    expected,
    made_splits,
    pictures,
    runtime_of,
    save_folder,
)
from tests.reference.ridge_numpy import ridge_scores
from vitrail.data.sources.open_data import Splits, open_data, subset
from vitrail.data.sources.split import hold_out
from vitrail.errors import UsageError
from vitrail.evaluation.metrics.intervals import mean_interval, wilson
from vitrail.evaluation.probes import neighbours
from vitrail.evaluation.probes.features import FeatureOptions, Frozen
from vitrail.evaluation.probes.fit_probe import SWEEPS, check, probe
from vitrail.evaluation.probes.probe_record import ProbeSettings

FROZEN = Frozen(runtime_of(Rows()), PREPROCESS)
SPLITS = made_splits()


def arrays(splits: Splits, part: str) -> tuple[Any, Any]:
    """Features in float32 and labels of a split, without the code under test."""
    source: Any = splits.parts()[part]
    return expected(source.images).astype(np.float32), source.labels


def test_few_shot_is_the_reference_for_each_k_and_seed() -> None:
    found = probe(FROZEN, SPLITS, ProbeSettings(k=(1, 5), seeds=2))
    assert [one.k for one in found.figures] == [1, 5]
    x, y = arrays(SPLITS, "train")
    x_test, y_test = arrays(SPLITS, "test")
    for figure in found.figures:
        by_seed = []
        for seed in range(2):
            rng = np.random.default_rng(seed)
            rows = np.concatenate(
                [rng.permutation(np.flatnonzero(y == c))[: figure.k] for c in range(3)]
            )
            scores = ridge_scores(x[rows], y[rows], x_test, 3, 1024.0)
            by_seed.append(float((scores.argmax(axis=1) == y_test).mean()))
        assert figure.by_seed == pytest.approx(by_seed, abs=1e-12)
        assert figure.top1 == pytest.approx(np.mean(by_seed))
        assert figure.seeds_interval == mean_interval(by_seed)
        assert figure.interval == wilson(round(figure.top1 * 53), 53)
        assert figure.l2 == 1024
    assert found.figures[1].top1 > 0.7 > found.majority == pytest.approx(18 / 53)
    assert found.chosen_on is None


def test_few_shot_computes_what_it_needs() -> None:
    model = Rows()
    probe(replace(FROZEN, runtime=runtime_of(model)), SPLITS, ProbeSettings(k=(1, 2), seeds=2))
    assert 53 + 6 <= model.seen <= 53 + 12


def test_defaults_of_few_shot_are_the_papers() -> None:
    splits = replace(SPLITS, train=pictures(97, 1))
    found = probe(FROZEN, splits, ProbeSettings())
    assert [(one.k, one.num_train, len(one.by_seed)) for one in found.figures] == [
        (1, 3, 3),
        (5, 15, 3),
        (10, 30, 3),
        (25, 75, 3),
    ]
    assert found.notes == ()


def test_classes_with_few_images_give_all_of_theirs_and_it_is_said() -> None:
    rows = np.flatnonzero((SPLITS.train.labels != 2) | (np.arange(101) < 12))  # 4 of class 2
    found = probe(FROZEN, replace(SPLITS, train=subset(SPLITS.train, rows)), ProbeSettings())
    assert [(one.k, one.num_train) for one in found.figures] == [
        (1, 3),
        (5, 14),
        (10, 24),
        (25, 54),
    ]
    assert len(found.notes) == 3
    assert "k = 10: 1 of 3 classes have fewer training images (the smallest 4)" in found.notes[1]
    small = replace(SPLITS, train=pictures(15, 1))
    found = probe(FROZEN, small, ProbeSettings())
    assert [one.k for one in found.figures] == [1, 5]
    assert found.notes == (
        "k = 10 is left out: no class has more than 5 images",
        "k = 25 is left out: no class has more than 5 images",
    )


def test_one_of_several_l2_is_chosen_on_validation_never_on_the_judged_images() -> None:
    settings = ProbeSettings(k=(3,), l2=SWEEPS["few-shot"], seeds=2)
    found = probe(FROZEN, SPLITS, settings)
    (figure,) = found.figures
    x, y = arrays(SPLITS, "train")
    x_val, y_val = arrays(SPLITS, "val")
    for l2, top1 in figure.sweep.items():
        right = []
        for seed in range(2):
            rng = np.random.default_rng(seed)
            rows = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:3] for c in range(3)])
            scores = ridge_scores(x[rows], y[rows], x_val, 3, l2)
            right.append((scores.argmax(axis=1) == y_val).mean())
        assert top1 == pytest.approx(np.mean(right))
    assert figure.sweep[figure.l2 or 0] == max(figure.sweep.values())
    assert found.chosen_on == "the val split (29 images)"


@pytest.mark.parametrize("kind", ["few-shot", "linear", "knn"])
def test_labels_of_the_judged_images_change_no_choice(kind: str) -> None:
    """Judged on shuffled labels: accuracy falls, what was chosen stays."""
    settings = ProbeSettings(kind, l2=SWEEPS.get(kind), k=(3, 7) if kind != "linear" else None)
    before = probe(FROZEN, SPLITS, settings)
    test: Any = SPLITS.test
    wrong = replace(SPLITS, test=replace(test, labels=(test.labels + 1) % 3))
    after = probe(FROZEN, wrong, settings)
    assert [(one.l2, one.is_chosen, one.sweep) for one in before.figures] == [
        (one.l2, one.is_chosen, one.sweep) for one in after.figures
    ]
    assert before.figures[0].top1 > 0.6 > 0.3 > after.figures[0].top1


@pytest.mark.parametrize("kind", ["few-shot", "linear", "knn"])
def test_without_a_validation_split_choices_are_made_on_training_images(kind: str) -> None:
    settings = ProbeSettings(kind, l2=SWEEPS.get(kind))
    assert probe(FROZEN, SPLITS, settings).chosen_on == "the val split (29 images)"
    bare = probe(FROZEN, replace(SPLITS, val=None), settings)
    assert bare.chosen_on == "20 held out of 101 training images"
    judged_val = probe(FROZEN, replace(SPLITS, test=None), replace(settings, split="val"))
    assert judged_val.chosen_on == bare.chosen_on
    assert judged_val.n == 29


def test_shots_are_not_drawn_from_the_images_held_out_for_the_choice() -> None:
    found = probe(FROZEN, replace(SPLITS, val=None), ProbeSettings(k=(4,), l2=(1024.0, 1024.0001)))
    x, y = arrays(SPLITS, "train")
    kept, held = hold_out(y, 0.2, 0)
    assert found.chosen_on == f"{len(held)} held out of 101 training images"
    x, y, (x_test, y_test) = x[kept], y[kept], arrays(SPLITS, "test")
    for seed, top1 in enumerate(found.figures[0].by_seed):
        rng = np.random.default_rng(seed)
        rows = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:4] for c in range(3)])
        scores = ridge_scores(x[rows], y[rows], x_test, 3, 1024.0)
        assert top1 == pytest.approx((scores.argmax(axis=1) == y_test).mean())


def test_linear_reads_the_class_and_is_fitted_on_all_training_images() -> None:
    found = probe(FROZEN, SPLITS, ProbeSettings("linear"))
    (figure,) = found.figures
    assert figure.top1 > 0.8
    assert figure.num_train == 101
    assert figure.by_seed == ()
    assert figure.seeds_interval is None
    assert list(figure.sweep) == sorted(SWEEPS["linear"], reverse=True)
    assert figure.sweep[figure.l2 or 0] == max(figure.sweep.values())
    alone = probe(FROZEN, SPLITS, ProbeSettings("linear", l2=(figure.l2 or 0,)))
    assert alone.figures[0].top1 == pytest.approx(figure.top1, abs=0.02)
    assert alone.chosen_on is None
    assert "end of the sweep" in probe(FROZEN, SPLITS, ProbeSettings("linear", l2=(5, 9))).notes[0]


def test_knn_gives_both_votes_for_each_k_and_marks_one() -> None:
    found = probe(FROZEN, SPLITS, ProbeSettings("knn"))
    assert [(one.k, one.votes) for one in found.figures] == [
        (k, votes) for k in (1, 5, 10, 20, 100) for votes in ("plain", "weighted")
    ]
    assert found.notes == ("k = 200 is left out: there are only 101 training images",)
    (chosen,) = [one for one in found.figures if one.is_chosen]
    assert chosen.val_top1 == max(one.val_top1 or 0 for one in found.figures)
    bank, judged = arrays(SPLITS, "train"), arrays(SPLITS, "test")
    flat = [top1 for row in neighbours.accuracies(bank, judged, 3, (1, 5)) for top1 in row]
    assert [one.top1 for one in found.figures[:4]] == flat


def test_images_that_say_nothing_are_not_read() -> None:
    """Negative control: with shuffled training labels the figures fall to those of guessing."""
    train: Any = SPLITS.train
    labels = np.random.default_rng(0).permutation(train.labels)
    splits = replace(SPLITS, train=replace(train, labels=labels))
    for kind in ("few-shot", "linear", "knn"):
        assert probe(FROZEN, splits, ProbeSettings(kind)).figures[-1].top1 < 0.6


def test_the_record_is_plain_data_without_what_does_not_apply() -> None:
    few, linear, near = (
        json.loads(json.dumps(probe(FROZEN, SPLITS, ProbeSettings(kind)).to_json()))
        for kind in ("few-shot", "linear", "knn")
    )
    assert list(few) == [
        "schema",
        "kind",
        "data",
        "split",
        "n",
        "num_classes",
        "num_features",
        "baselines",
        "results",
        "chosen_on",
        "notes",
        "bad_files",
    ]
    assert (few["n"], few["num_classes"], few["num_features"]) == (53, 3, 5)
    assert list(few["baselines"]) == ["majority class"]
    assert list(few["results"][0]) == [
        "k",
        "l2",
        "num_train",
        "top1",
        "top1_interval",
        "by_seed",
        "seeds_interval",
    ]
    assert list(linear["results"][0]) == ["l2", "num_train", "top1", "top1_interval", "sweep"]
    assert list(linear["results"][0]["sweep"][0]) == ["l2", "val/top1"]
    assert list(near["results"][0]) == [
        "k",
        "votes",
        "num_train",
        "top1",
        "top1_interval",
        "val/top1",
        "is_chosen",
    ]


@pytest.mark.parametrize(
    ("settings", "code", "word"),
    [
        (ProbeSettings("mlp"), "VIT-202", "few-shot"),
        (ProbeSettings(split="train"), "VIT-261", "--split test"),
        (ProbeSettings(split="holdout"), "VIT-240", "train, val, test"),
        (ProbeSettings("linear", k=(3,)), "VIT-262", "few-shot and knn"),
        (ProbeSettings("knn", l2=(3.0,)), "VIT-262", "--l2 has no effect on --kind knn"),
        (ProbeSettings("linear", seeds=2), "VIT-262", "--seeds"),
        (ProbeSettings(temperature=0.1), "VIT-262", "knn"),
        (ProbeSettings(k=(0,)), "VIT-202", "--k"),
        (ProbeSettings(k=()), "VIT-202", "--k"),
        (ProbeSettings(l2=(1.0, -1.0)), "VIT-202", "--l2"),
        (ProbeSettings(l2=(float("nan"),)), "VIT-202", "--l2"),
        (ProbeSettings(l2=(float("inf"),)), "VIT-202", "--l2"),
        (ProbeSettings(seeds=0), "VIT-202", "--seeds"),
        (ProbeSettings("knn", temperature=0.0), "VIT-202", "--temperature"),
        (ProbeSettings("knn", k=(500,)), "VIT-263", "101 training images"),
    ],
)
def test_settings_that_cannot_be_used(settings: ProbeSettings, code: str, word: str) -> None:
    with pytest.raises(UsageError, match=word) as error:
        probe(FROZEN, SPLITS, settings)
    assert error.value.code == code


def test_settings_are_checked_before_anything_is_read() -> None:
    with pytest.raises(UsageError):
        check(ProbeSettings(split="train"))
    check(ProbeSettings())


def test_several_labels_an_image_are_refused() -> None:
    with pytest.raises(UsageError, match="several labels") as error:
        probe(FROZEN, replace(SPLITS, multi_label=True), ProbeSettings())
    assert error.value.code == "VIT-260"


def test_too_few_images_to_hold_some_out() -> None:
    splits = replace(SPLITS, val=None, train=pictures(3, 1))
    with pytest.raises(UsageError, match="too few training images") as error:
        probe(FROZEN, splits, ProbeSettings("linear"))
    assert error.value.code == "VIT-264"
    assert probe(FROZEN, splits, ProbeSettings()).figures[0].num_train == 3


def test_files_that_cannot_be_decoded_are_left_out_where_asked_and_named(tmp_path: Path) -> None:
    for part, source in made_splits(train=31).parts().items():
        save_folder(tmp_path / part, source)  # type: ignore[arg-type]
    (tmp_path / "train" / CLASSES[0] / "a.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "test" / CLASSES[1] / "b.png").write_bytes(b"\x89PNG\r\n")
    reading = FeatureOptions(on_bad_file="skip")
    found = probe(replace(FROZEN, reading=reading), open_data(tmp_path), ProbeSettings(k=(2,)))
    assert (found.n, len(found.bad_files)) == (53, 2)
    assert [name.rsplit("/", 1)[1] for name, _ in found.bad_files] == ["a.png", "b.png"]
    assert all(reason for _, reason in found.bad_files)
