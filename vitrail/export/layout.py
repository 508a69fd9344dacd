"""What another tool wants in the folder of an export: its files, and a section of the card."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitrail.classifier import Classifier
from vitrail.export.check_images import CheckImages
from vitrail.export.engine_file import Form, Say
from vitrail.files import write_whole

Finish = Callable[[Path], str]  # writes into the filled folder; the section of the card


@dataclass(frozen=True)
class Job:
    """An export that is being made. out: the name that its folder gets; images: of the gate."""

    classifier: Classifier
    out: Path
    images: CheckImages
    form: Form
    say: Say


def nothing_else(job: Job) -> Finish:
    """The export alone."""
    return lambda folder: ""


@dataclass(frozen=True)
class Layout:
    """files: refuses what cannot be written, before anything is; then writes. is_public: whoever
    has the digests of what a model was trained on can ask which images those were, so a public
    folder leaves them out.
    """

    files: Callable[[Job], Finish] = nothing_else
    is_public: bool = False

    def of(self, classifier: Classifier) -> Classifier:
        """The classifier as it is exported."""
        if not self.is_public:
            return classifier
        public = copy.copy(classifier)
        public.examples = "left out of a public page"
        return public


PLAIN = Layout()


def add_section(folder: Path, section: str) -> None:
    """At the end of the card; nothing where it is empty."""
    if section:
        card = folder / "README.md"
        write_whole(card, card.read_text(encoding="utf-8") + section, replace=True)
