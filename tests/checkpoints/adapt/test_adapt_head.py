"""Heads of adapted checkpoints: which rows stay, and when everything starts at zero."""

from __future__ import annotations

import torch

from tests.checkpoints.adapt_models import PETS, pictures, run, values, vit
from vitrail.checkpoints.adapt.adapt_model import adapt, target_config


def test_classes_of_the_same_name_keep_their_rows() -> None:
    config = vit(distillation_token=True)
    target = target_config(config, num_classes=4)
    state = values(config)
    wanted = ("emu", "fox", "ape", "yak")
    adapted, sentences = adapt(
        state, config, target, resample="deit", classes=PETS, target_classes=wanted
    )
    for head in ("head", "head_dist"):
        weight, bias = adapted[f"{head}.weight"], adapted[f"{head}.bias"]
        assert torch.equal(weight[1], state[f"{head}.weight"][5])
        assert torch.equal(weight[2], state[f"{head}.weight"][0])
        assert torch.equal(bias[1:3], state[f"{head}.bias"][[5, 0]])
        assert not weight[[0, 3]].any()
        assert not bias[[0, 3]].any()
    assert sentences[0] == (
        "head: 2 of 4 classes keep the row of their name (fox, ape); 2 start at zero (emu, yak)."
    )


def test_the_same_classes_in_another_order_give_the_same_answers_by_name() -> None:
    config = vit()
    state = values(config)
    order = tuple(reversed(PETS))
    adapted, sentences = adapt(
        state, config, config, resample="google", classes=PETS, target_classes=order
    )
    images = pictures(config)
    expected = run(config, state, images).flip(1)
    torch.testing.assert_close(run(config, adapted, images), expected, rtol=1e-5, atol=1e-5)
    assert sentences == [f"head: 7 of 7 classes keep the row of their name ({', '.join(order)})."]


def test_a_name_that_stands_twice_names_no_row() -> None:
    """ImageNet has two classes "crane"."""
    config = vit()
    twice = ("ape", "bee", "cat", "cat", "eel", "fox", "gnu")
    adapted, sentences = adapt(
        values(config), config, config, resample="google", classes=twice, target_classes=PETS
    )
    assert "5 of 7 classes" in sentences[0]
    assert not adapted["head.weight"][2].any()


def test_a_head_is_kept_where_nobody_asks_for_other_classes_and_reset_otherwise() -> None:
    config = vit(head_bias_init=-3.0)
    state = values(config)
    for names, wanted, kept in (((), (), True), (PETS, PETS, True), (PETS, (), True)):
        adapted, said = adapt(
            state, config, config, resample="google", classes=names, target_classes=wanted
        )
        assert (adapted["head.weight"] is state["head.weight"]) is kept
        assert said == []
    adapted, said = adapt(state, config, config, resample="google", target_classes=PETS)
    assert not adapted["head.weight"].any()
    assert (adapted["head.bias"] == -3).all()
    assert said == ["head: reset to zero for 7 classes: the checkpoint does not name its own."]
    others = ("oak", "elm", "fir")
    target = target_config(config, num_classes=3)
    adapted, said = adapt(
        state, config, target, resample="google", classes=PETS, target_classes=others
    )
    assert said == ["head: reset to zero for 3 classes: none has the name of an old one."]
    assert not adapted["head.weight"].any()


def test_heads_come_and_go() -> None:
    config, features = vit(), vit(num_classes=0)
    state = values(config)
    without, said = adapt(state, config, features, resample="google")
    assert said == ["head: left out: no classes are asked for."]
    assert "head.weight" not in without
    back, said = adapt(without, features, config, resample="google", target_classes=PETS)
    assert said == ["head: new, for 7 classes, starting at zero."]
    assert not back["head.weight"].any()


def test_pre_logits_are_kept_dropped_or_new() -> None:
    config = vit(representation_size=13)
    state = values(config)
    kept, said = adapt(state, config, target_config(config, num_classes=5), resample="google")
    assert kept["pre_logits.weight"] is state["pre_logits.weight"]
    assert said == ["head: reset to zero for 5 classes: they were 7."]
    target = target_config(config, keep_pre_logits=False)
    dropped, said = adapt(
        state, config, target, resample="google", classes=PETS, target_classes=PETS
    )
    assert dropped["head.weight"].shape == (7, 24)
    assert said == [
        "pre_logits: the layer of 13 outputs is left out.",
        "head: reset to zero for 7 classes: its inputs are others.",
    ]
    again, said = adapt(dropped, target, config, resample="google", seed=5)
    assert again["pre_logits.weight"].std() > 0.1
    assert said[0] == "pre_logits: a new layer of 13 outputs, where the checkpoint has none."


def test_a_distillation_token_comes_and_goes_with_its_row() -> None:
    plain, distilled = vit(), vit(distillation_token=True)
    state = values(plain)
    more, said = adapt(state, plain, distilled, resample="deit")
    table = more["pos_embed"]
    assert torch.equal(table[:, :1], state["pos_embed"][:, :1])
    assert not table[:, 1].any()
    assert torch.equal(table[:, 2:], state["pos_embed"][:, 1:])
    assert said == [
        "dist_token: new, drawn from normal(0.02); its position row starts at zero.",
        "head_dist: new, for 7 classes, starting at zero.",
    ]
    less, said = adapt(more, distilled, plain, resample="deit")
    assert {name: value.tolist() for name, value in less.items()} == {
        name: value.tolist() for name, value in state.items()
    }
    assert said[0] == "dist_token: left out with its position row."
