"""README.md does what it says: its commands, its Python and its links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.cli_command import run
from tests.shown_commands import commands, photos, serve, small

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_commands_run_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos")
    Image.fromarray(np.full((17, 20, 3), 210, np.uint8)).save(tmp_path / "new.jpg")
    shown = commands(README)
    assert [line.split()[1] for line in shown] == [
        "train",
        "predict",
        "report",
        "train",
        "train",
        "data",
        "explain",
        "compare",
        "export",
        "serve",
    ]
    for line in shown:
        if line.startswith("vitrail serve "):
            serve(tmp_path / line.split()[2], tmp_path)
            continue
        done = run(*small(line))
        assert done.code == 0, f"{line}\n{done.err}"
    assert (tmp_path / "runs" / "photos-1" / "report.html").is_file()
    assert (tmp_path / "runs" / "photos-2" / "model").is_dir()


@pytest.mark.parametrize("option", re.findall(r"`(--[a-z.-]+(?: [\w.-]+)?)`", README))
def test_options_are_known(option: str) -> None:
    words = ["train", "builtin:digits", "--model", "vit_digits", *option.split()]
    value = [] if option == "--print-config" else ["--print-config"]
    if option == "--resume":
        assert "--resume" in run("train", "--help").out
    else:
        assert run(*words, *value).code == 0


def test_python_runs_as_printed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, Any] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert len(names["clf"].classes) == 10
    assert names["run"].test["top1"] > 0.1
    net, tap = names["net"].eval(), names["tap"]
    assert isinstance(net, torch.nn.Module)
    with torch.no_grad():
        net(torch.zeros(1, 3, 224, 224), tap=tap)
    assert tap["block03/attention"].shape == (1, 12, 197, 197)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.split("#")[0] for link in links if "://" not in link and link[0] != "#"]
    assert [link for link in files if not (page.parent / link).exists()] == []


def test_the_tree_names_every_room_and_only_what_exists() -> None:
    tree = README.split("## What is where")[1].split("tests/ mirrors it")[0]
    names = set(re.findall(r"(?<=\s)([a-z_]+(?:/|\.py))(?=\s)", tree)) - {"vitrail/"}
    places = [path for path in (ROOT / "vitrail").iterdir() if not path.name.startswith("_")]
    rooms = {f"{path.name}/" for path in places if (path / "__init__.py").is_file()}
    assert {name for name in names if name.endswith("/")} == rooms
    assert names - rooms <= {path.name for path in places}


def shared(text: str) -> dict[str, list[str]]:
    """What a translation has in common with its original, in the order of the page."""
    text = re.sub(r"^(English|\[English\]).*$", "", text, flags=re.MULTILINE)
    bare = re.sub(r"#[^\n`]*$", "", text, flags=re.MULTILINE)  # comments of commands and code
    prose = re.sub(r"^(?: {4}|```).*$", "", bare, flags=re.MULTILINE)
    return {
        "headings": re.findall(r"^#+(?= )", text, flags=re.MULTILINE),
        "commands": [
            one.strip() for one in re.findall(r"^    (?:vitrail|pip|make) .*$", bare, re.M)
        ],
        "code": [
            re.sub(r" *#.*$", "", one, flags=re.MULTILINE)
            for one in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        ],
        "names": sorted(set(re.findall(r"`([^`\n]+)`", prose))),
        "links": re.findall(r"\]\(([^)]+)\)", text),
        "rooms": re.findall(r"(?<=\s)([a-z_]+(?:/|\.py))(?=\s)", text.split("vitrail/\n")[1]),
        "figures": sorted(re.findall(r"\d+(?:[.,]\d+)*", prose)),
        "rows": [str(line.count(" | ")) for line in text.splitlines() if line.startswith("|")],
    }


@pytest.mark.parametrize("what", list(shared(README)))
def test_the_chinese_readme_is_in_step(what: str) -> None:
    ours, theirs = shared(README)[what], shared(CHINESE)[what]
    if what == "commands":  # of make, the words beside them are translated
        ours, theirs = ([re.split(r" {2,}", one)[0] for one in own] for own in (ours, theirs))
    assert theirs == ours
    assert len(ours) >= 1
