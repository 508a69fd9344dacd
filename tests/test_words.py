"""The words of messages, help, pages and documents: the field's terms, right plurals."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from vitrail.spelling import count, times

ROOT = Path(__file__).resolve().parents[1]
SPOKEN = ROOT / "vitrail" / "cli" / "verbs"  # whose docstrings are help
QUOTED = ("decisions.md",)  # a diary
BANNED = [  # what was said before, and words that only this project used in such a sense
    r"(?<!data)[^-<\"]\bpictures? (?!FOLDER|\[OPT|--f|pictures|pic)",
    r"\b(an|of|in) updates?\b(?! rule)",
    r"everything random",
    r"learn from beside",
    r"at a time on this machine",
    r"labels a picture|labels an image\.",
    r"count as bad\b(?! files)",
    r"parts that every batch",
    r"(measure|judge) a classifier",
    r"both ways$",
    r"look(s|ing|ed)? at (it )?once\b",
    r"least sure|\bsurest\b",
    r"not at hand",
    r"\btaken for [{}\w]+, ",
    r"answers a second",
    r"[Dd]oubtful labels|are doubted|most doubtful",
    r"be told apart",
    r"too few cells",
    r"frozen features are worth:",
    r"would more of them",
    r"answers as it does",
    r" as (val|test) held out of",
    r"are left out\b.*accuracy|when the least",
    r"called so|of what is so",
    r"images right \(95",
    r"too good by",
    r"have a copy|saved again",
    r"for lack of time",
    r"no labels are listed",
    r"more than chance: true",
    r"area under risk and coverage \{",
    r"confidence lies",
    r"dots far up|a tile a patch",
    r"went into waiting",
    r"are shuffled$",
    r"claims on the latter",
    r"if its curve",
    r"same command goes on",
    r"is to be expected on",
    r"search for the rate",
    r"no peer promises|executed to be read",
    r"told by (its|their|the) ",
    r"\bbeside (?!\{)(the|it|them|that|those|each|this|its|another|chance|trivial)\b",
    r"\bwhole (picture|image|data|model|page)\b",
    r"\(s\)",
]
NUMBERED = re.compile(
    r" (?:training |validation |test |input |class |other |more )?"
    r"(images|classes|labels|files|runs|cells|seeds|draws|threads|steps|processes|workers|tensors"
    r"|outputs|answers|predictions)\b(?!/)"
)
NAMES = {
    "split",
    "part",
    "role",
    "name",
    "kind",
    "which",
    "path",
    "data",
    "title",
    "folder",
    "test",
    "fit",
    "precision",
}


@functools.cache
def texts() -> list[tuple[str, str]]:
    """(where, text) of everything that people read."""
    found = []
    for path in sorted((ROOT / "vitrail").rglob("*.py")):
        found += [(f"{path.name}:{line}", text) for line, text in strings(path)]
    pages = [*(ROOT / "vitrail").rglob("*.html"), *(ROOT / "docs").rglob("*.md")]
    for path in sorted([*pages, *ROOT.glob("*.md")]):
        if path.name not in (*QUOTED, "CHANGELOG.md"):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [(f"{path.name}:{number}", text) for number, text in enumerate(lines, 1)]
    return found


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """The sentences in a module; of docstrings those of functions that are help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    helped = {
        id(node.body[0].value)
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and isinstance(node.body[0], ast.Expr)
        and "Parameters\n" in (ast.get_docstring(node) or "")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            said = (one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)
            yield node.lineno, "".join(map(str, said))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            if id(node) not in docstrings or id(node) in helped:
                yield node.lineno, node.value


def test_nothing_is_said_in_a_dialect() -> None:
    pattern = re.compile("|".join(BANNED), re.IGNORECASE)
    found = [f"{where}: {text.strip()[:120]}" for where, text in texts() if pattern.search(text)]
    assert found == []


def test_a_banned_phrase_would_be_found() -> None:
    assert any("Teacher model" in text or "near-duplicate" in text for _, text in texts())
    assert len(texts()) > 4000
    assert re.search(BANNED[0], "every picture of it", re.IGNORECASE)


def plurals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Numbers that stand before a plural as they are: `{n} images`, which 1 makes wrong."""
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for number, word in zip(parts, parts[1:], strict=False):
            if not isinstance(number, ast.FormattedValue) or not isinstance(word, ast.Constant):
                continue
            following = str(word.value)
            last = re.findall(r"\w+", ast.unparse(number.value))[-1:]
            is_name = last and (last[0] in NAMES or last[0].isupper() or last[0] == "no")
            if NUMBERED.match(following) and not is_name:
                yield number.lineno, ast.unparse(number.value) + following


def test_plurals_are_counted() -> None:
    """Every number before a plural is written by `count`, or is always above one."""
    found = []
    for path in sorted((ROOT / "vitrail").rglob("*.py")):
        if path.parent.name != "experiments":  # of studies: numbers of images, thousands
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{path.name}:{line}: {text[:90]}" for line, text in plurals(tree)]
    assert found == []
    assert [text for _, text in plurals(ast.parse("f'{n} images'"))] == ["n images"]


def test_one_and_many() -> None:
    assert [count(n, "image") for n in (0, 1, 2, 2000)] == [
        "0 images",
        "1 image",
        "2 images",
        "2,000 images",
    ]
    assert [count(n, "class", "has") for n in (1, 3)] == ["1 class has", "3 classes have"]
    assert [count(n, "step", "fits") for n in (1, 3)] == ["1 step fits", "3 steps fit"]
    assert count(2, "entry") == "2 entries"
    assert [times(n) for n in (1, 2, 3, 1000)] == ["once", "twice", "3 times", "1,000 times"]
