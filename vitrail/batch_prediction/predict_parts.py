"""A table of answers for any number of images, made of parts that survive a kill.

The same command goes on where the last one ended, and does nothing more where the table is there.
The table is that of a straight run, byte for byte: each part is divided into batches by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import vitrail
from vitrail.batch_prediction.part_store import JOB, SUCCESS, WHOLE, Counts, PartStore
from vitrail.batch_prediction.parts import SCHEMA, Images, Part, key_of
from vitrail.batch_prediction.records import Record, record_of, write_table
from vitrail.files import give_name, refuse_existing, writing
from vitrail.prediction import Prediction

if TYPE_CHECKING:
    from vitrail.classifier import Classifier

Tell = Callable[[int, int], None]  # rows done, of all


class Compute(Protocol):
    """Whoever computes parts and commits them to the store; `told` is called with rows done."""

    def __call__(
        self, store: PartStore, parts: Sequence[Part], told: Callable[[int], None]
    ) -> Iterator[tuple[Part, Counts]]: ...


@dataclass(frozen=True)
class Result:
    """What lies in the table, and how many of its parts were computed by this call."""

    counts: Counts
    parts: int
    computed: int


def is_begun(out: Path) -> bool:
    """Whether parts of the table `out`, or the record of a finished one, lie beside it."""
    return PartStore(out).folder.has(JOB)


def predict_parts(
    out: Path, parts: Sequence[Part], about: Mapping[str, Any], compute: Compute, tell: Tell
) -> Result:
    """Write `out` from its parts, those that are missing by `compute`; about: facts for job.json.

    Raises UsageError VIT-206 where `out` is another table; EnvironmentFault VIT-504, VIT-506; what
    `compute` raises.
    """
    store, key = PartStore(out), key_of(parts)
    with store.lock():
        if (found := _finished(store, out, key)) is not None:
            _close(store, found)
            return Result(_counts(found), len(parts), 0)
        refuse_existing(out)
        facts = {"schema": SCHEMA, "key": key, "parts": len(parts), **about}
        store.keep(parts)
        store.write(JOB, facts)
        counts, computed = _computed(store, parts, compute, tell)
        result = _assemble(store, out, parts, counts)
        store.write(JOB, {**facts, "result": result})
        with writing(out):
            give_name(store.folder.at(WHOLE + out.suffix), out)
        _close(store, result)
    return Result(counts, len(parts), computed)


def _finished(store: PartStore, out: Path, key: str) -> dict[str, Any] | None:
    """What job.json says of `out`, where that is the table asked for and nobody changed it."""
    job = store.document(JOB)
    result = job.get("result")
    if job.get("key") != key or not isinstance(result, dict) or not out.is_file():
        return None
    return result if result.get("sha256") == _sha256_of(out) else None


def _counts(result: Mapping[str, Any]) -> Counts:
    return Counts(*(int(result[name]) for name in ("rows", "errors", "most")))


def _close(store: PartStore, result: Mapping[str, Any]) -> None:
    """The table has its name: say so, and let go of the parts."""
    store.write(SUCCESS, result)
    store.keep(())


def _computed(
    store: PartStore, parts: Sequence[Part], compute: Compute, tell: Tell
) -> tuple[Counts, int]:
    """The counts of all parts, those that are missing computed now; how many these were."""
    there = {part.index: store.counts_of(part) for part in parts}
    missing = [part for part in parts if there[part.index] is None]
    done, total = sum(map(len, parts)) - sum(map(len, missing)), sum(map(len, parts))
    tell(done, total)

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        tell(done, total)

    for part, counts in compute(store, missing, told):
        there[part.index] = counts
    return sum((one for one in there.values() if one is not None), Counts()), len(missing)


def _assemble(
    store: PartStore, out: Path, parts: Sequence[Part], counts: Counts
) -> dict[str, object]:
    """The whole table under a name of the store; what is said of it."""
    place = store.folder.at(WHOLE + out.suffix)
    write_table(place, store.records(parts), counts.most, replace=True)
    sha256, size = _sha256_of(place), place.stat().st_size
    facts = {"file": out.name, "bytes": size, "sha256": sha256, "vitrail": vitrail.__version__}
    return {"schema": SCHEMA, **facts, **asdict(counts)}


def _sha256_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class OnThisMachine:
    """Computes parts one after another, in this process."""

    classifier: Classifier
    top: int
    batch_size: int

    def __call__(
        self, store: PartStore, parts: Sequence[Part], told: Callable[[int], None]
    ) -> Iterator[tuple[Part, Counts]]:
        for part in parts:
            found = answers(self.classifier, part.images, self.top, self.batch_size)
            yield part, store.commit(part, _telling(found, told))


def _telling(records: Iterator[Record], told: Callable[[int], None]) -> Iterator[Record]:
    for record in records:
        yield record
        told(1)


def answers(classifier: Classifier, images: Images, top: int, batch_size: int) -> Iterator[Record]:
    """A record an image, in order, with the reason where there is no answer."""
    return map(record_of, predictions(classifier, images, top, batch_size))


def predictions(
    classifier: Classifier, images: Images, top: int, batch_size: int
) -> Iterator[Prediction]:
    """As `answers`, as Python has them."""
    readable = [path for path in images.paths if path not in images.refused]
    with closing(classifier.stream_files(readable, top, batch_size)) as found:
        for path in images.paths:
            why = images.refused.get(path)
            yield next(found) if why is None else Prediction(path, error=why)
