"""Names that say which split they are: train/, Training, val, test_set, seg_train, train2017.

A name is taken apart into words. One of them says the split; words such as "set" and "images" and
years say nothing. What is left must be the same in another split's name, as in seg_train and
seg_test: `bullet_train` alone is a class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vitrail.errors import DataError
from vitrail.spelling import printable

# "eval" is the test split; where there is a test split too, it is validation.
_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "eval",
    "evaluation": "eval",
}
_SAY_NOTHING = frozenset(
    "set sets data dataset datasets split splits folder dir files"
    " image images img imgs picture pictures pic pics photo photos".split()
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]+")


def split_word(name: str) -> tuple[str, tuple[str, ...]] | None:
    """(train, val, test or eval; the other words) of a name; None where it names none or two."""
    words = [stem for word in _WORD.findall(name) for stem in _stems(word.lower())]
    parts = {_WORDS[word] for word in words if word in _WORDS}
    if len(parts) != 1:
        return None
    rest = (word for word in words if word not in _WORDS and word not in _SAY_NOTHING)
    return parts.pop(), tuple(word for word in rest if not re.fullmatch(r"(19|20)\d\d", word))


def _stems(word: str) -> tuple[str, ...]:
    """A word, or the two that it was written together of: trainset."""
    for known in _WORDS:
        if word.startswith(known) and word[len(known) :] in _SAY_NOTHING:
            return known, word[len(known) :]
    return (word,)


def splits_named(names: Iterable[str], where: str) -> dict[str, str]:
    """Split -> its name, of those of `names` that name one. Raises DataError VIT-307 for two names
    of one split.
    """
    found = {name: word for name in sorted(names) if (word := split_word(name)) is not None}
    parts_of: dict[tuple[str, ...], set[str]] = {}
    for part, rest in found.values():
        parts_of.setdefault(rest, set()).add(part)
    named: dict[str, str] = {}
    for name, (part, rest) in found.items():
        if rest and len(parts_of[rest]) < 2:
            continue
        if part in named:
            raise DataError(
                "VIT-307",
                f"{where} has both {printable(named[part])} and {printable(name)}; expected one "
                f"{part} split.",
                hint="Rename one of them, or put their classes together.",
            )
        named[part] = name
    return _with_eval(named, where)


def _with_eval(named: dict[str, str], where: str) -> dict[str, str]:
    name = named.pop("eval", None)
    if name is None:
        return named
    part = "val" if "test" in named else "test"
    if part in named:
        raise DataError(
            "VIT-307",
            f"{where} has {', '.join(map(printable, [*named.values(), name]))}: which "
            f"split is {printable(name)}?",
            hint="Rename or remove it.",
        )
    return named | {part: name}


def parts_of(words: Iterable[str]) -> dict[str, str]:
    """Split of each of `words`, as a table's column has them; without those that name none."""
    found = {word: read[0] for word in words if (read := split_word(word)) and not read[1]}
    judged = "val" if "test" in found.values() else "test"
    return {word: judged if part == "eval" else part for word, part in found.items()}


def reinterpreted(named: Mapping[str, str]) -> str:
    """A sentence about the names that are not the split's own; "" where all are."""
    usual = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
    told = [
        f"{printable(name)} is the {part} split"
        for part, name in named.items()
        if name.lower() not in usual[part]
    ]
    return f"detected from their names: {', '.join(told)}." if told else ""
