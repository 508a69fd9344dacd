"""What the names of classes may be: the limits of a model folder, in one place.

Every dataset is asked when it is opened (`open_data.py`), before anything is trained, and every
model.json when it is read or written (`model_folder/model_record.py`): a model that could not be
saved is never trained.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from vitrail.errors import DataError
from vitrail.spelling import count

MAX_CLASSES = 1_000_000
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")
MAX_LETTERS = 1000  # of a name
MAX_BYTES = 12_000_000  # of all names as model.json writes them
# Control characters, halves of code points, and what ends a line: no name is written with them.
_REFUSED = {
    "Cc": "a control character",
    "Cs": "bytes that are no text",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}


def fault_of(names: Sequence[str]) -> str:
    """What is wrong with `names` as the classes of a model, "" for nothing."""
    if len(names) > MAX_CLASSES:
        return f"{count(len(names), 'class')}; limit {MAX_CLASSES:,}"
    seen: dict[str, int] = {}
    total = 0
    for place, name in enumerate(names):
        if why := _fault(name):
            return f"class {place} ({shown(name)}) {why}"
        same = seen.setdefault(unicodedata.normalize("NFC", name), place)
        if same != place:
            return f"classes {same} and {place} have the same name {shown(name)}"
        total += written_bytes(name)
    if total > MAX_BYTES:
        return (
            f"the names of {count(len(names), 'class')} need {total:,} bytes; limit {MAX_BYTES:,}"
        )
    return ""


def check_names(names: Sequence[str], where: str) -> None:
    """Raises DataError VIT-308 where no model of these classes could be saved."""
    if why := fault_of(names):
        raise DataError(
            "VIT-308",
            f"{where}: {why}; a model of these classes could not be saved. Expected names that "
            f"differ, of 1 to {MAX_LETTERS} letters on one line.",
            hint="Rename the classes.",
        )


def look_alikes(names: Sequence[str]) -> str:
    """A sentence about names that differ only in case, in spaces and what joins words, or in
    forms of the same letters; "" where none do.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return ""
    pairs = "; ".join(", ".join(map(ascii, group[:4])) for group in alike[:3])
    more = "; ..." if len(alike) > 3 else ""
    return f"classes differ only in case, spaces or forms of letters: {pairs}{more}."


def plain(name: str) -> str:
    """A name without case, spaces, signs that join words, and letters of no width; a number as it
    counts ("1.0" is 1, "-1" is not).
    """
    if name.isascii() and name.isalpha():
        return name.casefold()
    whole = unicodedata.normalize("NFKC", name).casefold().strip()
    if len(whole) < 16 and _NUMBER.fullmatch(whole):
        return f"{float(whole):.16g}"
    letters = "".join(c for c in whole if unicodedata.category(c)[0] not in "ZC" and c not in "-_")
    return letters or name


def shown(name: str) -> str:
    """A name for a message: quoted, escaped and short."""
    return ascii(name) if len(name) <= 60 else f"{ascii(name[:60])}..."


def written_bytes(name: str) -> int:
    """Bytes of `name` in model.json: quotes, escapes, a comma, a line of its own."""
    return len(name.encode("utf-8")) + name.count('"') + name.count("\\") + 6


def _fault(name: str) -> str:
    if not name.strip():
        return "is empty"
    if len(name) > MAX_LETTERS:
        return f"has {len(name):,} letters; limit {MAX_LETTERS:,}"
    if not name.isprintable():
        kinds = (unicodedata.category(letter) for letter in name)
        what = next((_REFUSED[kind] for kind in kinds if kind in _REFUSED), "")
        return f"holds {what}" if what else ""
    return ""
