"""Settings while a run is planned: of each its value, where it came from, and why it was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrail.config import TrainConfig, flatten
from vitrail.models.names import ModelConfig
from vitrail.settings.layers import DURATIONS, build

LEFT_TO_US = ("auto", "auto-vit")


@dataclass
class Draft:
    """Flat values, the source of each, and the reasons so far: (key, value, why). start: the
    architecture that it goes on with, which may have no name; others: the values before a user's
    own were put over them.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    reasons: list[tuple[str, Any, str]] = field(default_factory=list)
    start: ModelConfig | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, name: str, recipe: TrainConfig, asked: TrainConfig, sources: Mapping[str, str]
    ) -> Draft:
        """A recipe with what a user asked for over it, a duration in the place of its own.

        asked, sources: as `resolve` gives them.
        """
        values, given = flatten(TrainConfig()), flatten(asked)
        draft = cls(values, dict.fromkeys(values, "built-in"))
        draft._put(flatten(recipe), dict.fromkeys(flatten(recipe), f"recipe {name}"))
        draft.others = dict(draft.values)
        named = {key: source for key, source in sources.items() if source != "built-in"}
        for key in DURATIONS if set(DURATIONS) & set(named) else ():
            draft.drop(key)
        draft._put({key: given[key] for key in named}, named)
        return draft

    def _put(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        self.values |= values
        self.sources |= sources

    def set(self, key: str, value: Any, why: str) -> None:
        """Choose `value` for `key`, unless a user chose one: a user's word goes before it."""
        if self.is_asked(key) and self.values.get(key) != value:
            return
        self.values[key] = value
        self.sources[key] = f"auto: {why}"
        self.reasons.append((key, value, why))

    def drop(self, key: str) -> None:
        """Take a setting back."""
        self.values.pop(key, None)
        self.sources.pop(key, None)

    def is_free(self, key: str) -> bool:
        """Whether no user set `key`."""
        source = self.sources.get(key, "built-in")
        return source == "built-in" or source.startswith("recipe ")

    def is_asked(self, key: str) -> bool:
        """Whether a user chose a value for `key`, and did not leave the choice to us."""
        is_ours = self.is_free(key) or self.sources[key].startswith("auto: ")
        return not is_ours and self.values.get(key) not in LEFT_TO_US

    def is_auto(self, key: str) -> bool:
        """Whether `key` still waits for a choice."""
        return bool(self.values.get(key) == "auto")

    def fields(self) -> dict[str, Any]:
        """Fields of the architecture beside its name, without "model."."""
        first = "model."
        return {
            key.removeprefix(first): value
            for key, value in self.values.items()
            if key.startswith(first) and key != "model.name"
        }

    def config(self) -> TrainConfig:
        """The settings of the run. Raises UsageError VIT-212."""
        return build(self.values, self.sources)
