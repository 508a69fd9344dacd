"""Home-made ViTs by a table of names: the examples of docs/checkpoints.md and the same numbers as
the models' own code; what a table leaves over or unsaid is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.checkpoints.plain_vit import State, forward, images, state
from vitrail.checkpoints.external import ExternalCheckpoint, read_external
from vitrail.checkpoints.origins.name_map import read_map
from vitrail.errors import ModelError, UsageError
from vitrail.models.vit.config import ViTConfig

DOCS = Path(__file__).parents[3] / "docs" / "checkpoints.md"


pytestmark = pytest.mark.usefixtures("no_gradients")


def example(word: str) -> str:
    """The TOML of docs/checkpoints.md that begins with a comment of that word."""
    texts = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    found: list[str] = [text for text in texts if word in text.splitlines()[0]]
    assert len(found) == 1
    return found[0]


def mapped(folder: Path, text: str, tensors: dict[str, Any], **given: Any) -> ExternalCheckpoint:
    (folder / "map.toml").write_text(text, encoding="utf-8")
    torch.save(tensors, folder / "a.pth")
    return read_external(folder / "a.pth", name_map=read_map(folder / "map.toml"), given=given)


class HomeMade(nn.Module):
    """What people write who train a small ViT: torch's encoder layers, a class token, a table."""

    def __init__(self, **layer: Any) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, 24))
        self.positions = nn.Parameter(torch.randn(1, 10, 24))
        one = nn.TransformerEncoderLayer(24, 4, 40, batch_first=True, **layer)
        self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)
        self.classify = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), patches], dim=1)
        found: Tensor = self.classify(self.encoder(tokens + self.positions)[:, 0])
        return found


def home_made(**layer: Any) -> HomeMade:
    torch.manual_seed(0)
    model = HomeMade(**layer)
    for value in model.parameters():
        nn.init.normal_(value, 0.0 if value.ndim > 1 else 0.7, 0.3)
    return model.eval()


@pytest.mark.promise("M6")
@pytest.mark.parametrize(
    ("layer", "block", "gelu"),
    [
        ({}, "post", "relu"),
        ({"norm_first": True, "activation": "gelu"}, "pre", "gelu"),
        ({"activation": "gelu"}, "post", "gelu"),
    ],
)
def test_torchs_encoder(tmp_path: Path, layer: dict[str, Any], block: str, gelu: str) -> None:
    """The first example of the docs, in the orders of norms and activations that torch has."""
    model = home_made(**layer)
    text = example("nn.TransformerEncoder")
    text = text.replace('block = "post"', f'block = "{block}"')
    text = text.replace('gelu = "relu"', f'gelu = "{gelu}"')
    foreign = mapped(tmp_path, text, model.state_dict())
    assert (foreign.model(images()) - model(images())).abs().max() <= 1e-5
    assert foreign.classes == ("ant", "bee", "cat", "dog", "eel")
    assert foreign.preprocess.mean == (0.4914, 0.4822, 0.4465)
    told = {fact.field: (fact.value, fact.source) for fact in foreign.facts}
    assert told["block"] == (block, "stated")
    assert told["num_heads"] == (4, "stated")


def lucidrains(own: State) -> State:
    """The names of vit-pytorch until 2022: a linear patch kernel, no biases of q, k and v."""
    names = {
        "cls_token": "cls_token",
        "pos_embed": "pos_embedding",
        "patch_embed.proj": "to_patch_embedding.1",
        "norm": "mlp_head.0",
        "head": "mlp_head.1",
        "norm1": "0.norm",
        "attn.qkv": "0.fn.to_qkv",
        "attn.proj": "0.fn.to_out.0",
        "norm2": "1.norm",
        "mlp.fc1": "1.fn.net.0",
        "mlp.fc2": "1.fn.net.3",
    }
    found: State = {}
    for name, value in own.items():
        match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+?)(\.weight|\.bias)?", name)
        assert match is not None
        at = f"transformer.layers.{match[1]}." if match[1] else ""
        if match[2] == "patch_embed.proj" and value.ndim == 4:
            value = value.permute(0, 2, 3, 1).flatten(1)
        found[f"{at}{names[match[2]]}{match[3] or ''}"] = value
    return found


@pytest.mark.promise("M6")
def test_a_linear_patch_kernel(tmp_path: Path) -> None:
    """The second example of the docs."""
    own = {name: value for name, value in state().items() if not name.endswith("qkv.bias")}
    foreign = mapped(tmp_path, example("vit-pytorch"), lucidrains(own))
    assert (foreign.model(images()) - forward(own, images(), 3, eps=1e-5)).abs().max() <= 1e-5
    text = example("vit-pytorch").replace('"hwc"', '"chw"')
    other = mapped(tmp_path, text, lucidrains(own))
    assert (foreign.model(images()) - other.model(images())).abs().max() > 1e-3
    with pytest.raises(UsageError, match="patch_order"):
        mapped(tmp_path, text.replace('patch_order = "chw"', ""), lucidrains(own))


MODEL = '[model]\nnum_heads = 3\ngelu = "gelu"\nln_eps = 1e-6\nblock = "pre"\npool = "cls"\n'
TOP = "".join(
    f'"{name}" = "{name}"\n'
    for name in ("cls_token", "pos_embed", "patch_embed.proj", "norm", "head")
)
BLOCK = "".join(
    f'"blocks.{{i}}.{name}" = "blocks.{{i}}.{name}"\n'
    for name in ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2")
)


def split(own: State, how: str) -> State:
    """q, k and v apart; q and kv; a Linear a head; rows by head."""
    found: State = {}
    for name, value in own.items():
        if ".attn.qkv." not in name:
            found[name] = value
            continue
        left, part = name.split("qkv.")
        q, k, v = value.chunk(3)
        if how == "apart":
            found |= {f"{left}{key}.{part}": one for key, one in zip("qkv", (q, k, v), strict=True)}
        elif how == "q and kv":
            found |= {f"{left}q.{part}": q, f"{left}kv.{part}": torch.cat([k, v])}
        elif how == "heads":
            for key, one in zip("qkv", (q, k, v), strict=True):
                found |= {f"{left}{h}.{key}.{part}": x for h, x in enumerate(one.chunk(3))}
        else:
            heads = [torch.stack([x.chunk(3)[h] for x in (q, k, v)]) for h in range(3)]
            found[name] = torch.cat(heads).reshape(value.shape)
    return found


@pytest.mark.parametrize(
    ("how", "lines"),
    [
        ("apart", [("q", "q"), ("k", "k"), ("v", "v")]),
        ("q and kv", [("q", "q"), ("kv", "kv")]),
        ("heads", [("{h}.q", "q"), ("{h}.k", "k"), ("{h}.v", "v")]),
        ("by head", [("qkv", "qkv")]),
    ],
)
def test_queries_keys_and_values_in_any_parts(
    tmp_path: Path, how: str, lines: list[tuple[str, str]]
) -> None:
    own = state()
    attention = "".join(f'"blocks.{{i}}.attn.{a}" = "blocks.{{i}}.attn.{b}"\n' for a, b in lines)
    order = 'qkv_order = "by_head"\n' if how == "by head" else ""
    text = f"{order}[names]\n{TOP}{BLOCK}{attention}{MODEL}"
    foreign = mapped(tmp_path, text, split(own, how))
    assert (foreign.model(images()) - forward(own, images(), 3)).abs().max() <= 1e-5


@pytest.mark.parametrize("block", ["pre", "post", "branch", "between"])
def test_every_order_of_norms(tmp_path: Path, block: str) -> None:
    own = state()
    qkv = '"blocks.{i}.attn.qkv" = "blocks.{i}.attn.qkv"\n'
    text = f"[names]\n{TOP}{BLOCK}{qkv}{MODEL}".replace('"pre"', f'"{block}"')
    foreign = mapped(tmp_path, text, own)
    expected = forward(own, images(), 3, block=block)
    assert (foreign.model(images()) - expected).abs().max() <= 1e-5
    assert isinstance(foreign.config, ViTConfig)
    assert foreign.config.block == block


PLAIN = f'[names]\n{TOP}{BLOCK}"blocks.{{i}}.attn.qkv" = "blocks.{{i}}.attn.qkv"\n{MODEL}'


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("[model]", "[modell]"), "VIT-228", "unknown entry 'modell'"),
        (("num_heads = 3\n", ""), "VIT-228", "num_heads"),
        (('pool = "cls"\n', ""), "VIT-228", "cls | gap"),
        (("ln_eps", "eps"), "VIT-228", "ln_eps"),
        (("num_heads = 3", "num_heads = 3\nhidden = 7"), "VIT-228", "hidden"),
        (('"head" = "head"\n', ""), "VIT-424", "leaves over head.weight, head.bias"),
        (('"norm" = "norm"', '"norms" = "norm"'), "VIT-424", "'norms' is no tensor"),
        (('mlp.fc2"\n', 'mlp.fc3"\n'), "VIT-418", "fc2"),
        (("num_heads = 3", "num_heads = 5"), "VIT-418", "num_heads"),
        (("[names]", "[names"), "VIT-228", "TOML"),
    ],
)
def test_what_a_table_lacks_is_said(
    tmp_path: Path, change: tuple[str, str], code: str, words: str
) -> None:
    assert change[0] in PLAIN
    with pytest.raises((ModelError, UsageError)) as caught:
        mapped(tmp_path, PLAIN.replace(*change), state())
    assert (caught.value.code, words in str(caught.value)) == (code, True), str(caught.value)


def test_losses_and_counters_may_lie_beside(tmp_path: Path) -> None:
    tensors = state() | {"criterion.weight": torch.ones(5), "n_averaged": torch.tensor(3)}
    foreign = mapped(tmp_path, PLAIN, tensors)
    assert {name for name, _ in foreign.report.left_out} == {"criterion.weight", "n_averaged"}
    assert foreign.origin == "map"


def test_a_bias_that_a_model_lacks_is_zero_where_the_table_says_so(tmp_path: Path) -> None:
    own = {name: value for name, value in state().items() if name != "head.bias"}
    with pytest.raises(ModelError, match=r"head\.bias"):
        mapped(tmp_path, PLAIN, own)
    foreign = mapped(tmp_path, f'zeros = ["head.bias"]\n{PLAIN}', own)
    assert (foreign.model(images()) - forward(own, images(), 3)).abs().max() <= 1e-5
