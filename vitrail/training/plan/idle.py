"""Settings that a user chose and that nothing reads: refused where they would change the result,
said where they only concern how images are read.

What a setting has an effect with is declared beside it (`Only` and `ReadOf` in `config.py`). What a
recipe or "auto" set is no user's word: it is there for other values of the setting that it belongs
to. So is what a lower layer says, as a file of settings, where a higher one changed that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitrail.config import FIELDS, TrainConfig, flatten
from vitrail.data.shards.cached_store import is_url
from vitrail.data.sources.open_data import Splits
from vitrail.errors import UsageError
from vitrail.setting_values import Only, ReadOf
from vitrail.training.plan.draft import Draft

NOT_GIVEN = {  # a setting -> what is said where it is not given
    "start.model": "no model to start from was given (--from)",
    "lora.rank": "there are no adapters (--lora-rank)",
    "distill.teacher": "there is no teacher (--teacher)",
}
FROM_START = ("data.resize", "data.interpolation", "data.normalize")


@dataclass(frozen=True)
class Said:
    """What users said. ranks: of each of their settings the layer, counted from the lowest; others:
    what those settings would be without their word; sources: of every setting.
    """

    ranks: Mapping[str, int]
    others: Mapping[str, Any]
    sources: Mapping[str, str]

    @classmethod
    def of(cls, draft: Draft, layers: Sequence[tuple[str, object]]) -> Said:
        """Of a draft that was made of `layers`, as `resolve` takes them."""
        places = {source: place for place, (source, _) in enumerate(layers)}
        ranks = {key: places[one] for key, one in draft.sources.items() if one in places}
        return cls(ranks, draft.others, draft.sources)

    def rank(self, key: str) -> int:
        """The layer that has the last word on `key`; -1 where none has."""
        return self.ranks.get(key, -1)


def refuse_idle(config: TrainConfig, splits: Splits, said: Said) -> None:
    """Raise UsageError VIT-246 for a setting that a user chose and that changes nothing."""
    for key, why, way in idle_settings(config, splits, said):
        hint = f"Leave it out, or use {way}." if way else "Leave it out."
        raise UsageError("VIT-246", f"{key} has no effect: {why}.", hint=hint)


def idle_settings(
    config: TrainConfig, splits: Splits, said: Said
) -> Iterator[tuple[str, str, str]]:
    """(setting, why nothing reads it, what would make it read or "")."""
    values = flatten(config)
    if config.start.model == "":
        for key in FROM_START:
            if values[key] == "source":
                yield f"{key} source", NOT_GIVEN["start.model"], ""
    for key in _chosen(values, said):
        for mark in FIELDS[key].metadata:
            if isinstance(mark, Only) and said.rank(key) >= said.rank(mark.key):
                if (found := _idle(mark, values, said)) is not None:
                    yield key, *found
    if config.patience and splits.val is None and "patience" in said.ranks:
        yield "patience", "there are no validation images", ""


def unread(config: TrainConfig, splits: Splits, said: Said) -> tuple[str, ...]:
    """A sentence for each setting of files or stores that a user chose for other data."""
    values, is_files = flatten(config), splits.train.images is None
    read = {"files": is_files, "store": is_url(config.data.path)}
    why = {"files": "the images are in memory", "store": "the data lies in no object store"}
    return tuple(
        f"{key} {_shown(values[key])}: not used, {why[mark.kind]}"
        for key in _chosen(values, said)
        for mark in FIELDS[key].metadata
        if isinstance(mark, ReadOf) and not read[mark.kind] and values[key] != 0
    )


def _chosen(values: Mapping[str, Any], said: Said) -> list[str]:
    """Settings that are other than without what users said."""
    return [
        key
        for key in said.ranks
        if key in FIELDS and key in values and values[key] != said.others.get(key)
    ]


def _idle(mark: Only, values: Mapping[str, Any], said: Said) -> tuple[str, str] | None:
    """Why nothing reads a setting with this mark, and what would; None where it is read."""
    owner = values.get(mark.key)
    if not mark.values:
        return None if owner else (NOT_GIVEN[mark.key], "")
    if owner in mark.values:
        return None
    source = said.sources.get(mark.key, "built-in")
    belongs = " or ".join(map(str, mark.values))
    option = "--" + mark.key.replace("_", "-")
    why = f"it belongs to {mark.key} {belongs}, and {mark.key} is {owner} ({source})"
    return why, f"{option} {mark.values[0]}"


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
