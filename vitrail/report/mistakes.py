"""The images of a report: mistakes and doubtful ones, with what spoke for the answer, and
training images as training saw them.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.report import verdict
from vitrail.report.explanations import ModelExplanations
from vitrail.report.frame import PageSection
from vitrail.report.run_images import Pixels, RunImages, Thumbnail
from vitrail.report.run_record import PredictionRow, SplitRecord
from vitrail.spelling import count

MISTAKES, DOUBTFUL = 18, 12


@dataclass(frozen=True)
class Frame:
    """A thumbnail as a data: URI with words for those who cannot see it, or what is said in its
    place.
    """

    words: str
    uri: str = ""
    is_tiny: bool = False
    missing: str = "image not available"


def framed(pixels: Pixels | None, words: str, *, missing: str = "image not available") -> Frame:
    """A small copy of an image; the pixels themselves are not kept."""
    if pixels is None:
        return Frame(words, missing=missing)
    thumbnail = Thumbnail(pixels)
    return Frame(words, thumbnail.uri, thumbnail.is_tiny)


def mistakes_section(
    split: SplitRecord, images: RunImages, inside: ModelExplanations | None
) -> PageSection:
    """Thumbnails of what went most wrong, and of what was least sure."""
    wrong = verdict.worst_mistakes(split.rows, MISTAKES)
    doubtful = verdict.most_doubtful(split.rows, DOUBTFUL)
    number_wrong = sum(not row.is_right for row in split.rows)
    lists = [
        (title, [(_frames(row, split.name, images, inside), row) for row in rows])
        for title, rows in (
            ("Worst mistakes, by loss", wrong),
            ("Least confident predictions", doubtful),
        )
    ]
    lead = f"{number_wrong} of {count(len(split.rows), 'image')} are wrong; "
    lead += f"eval/{split.name}/predictions.csv lists every one."
    if inside is not None and not images.why_not:
        lead += f" Next to each image: what supports the prediction ({inside.method})."
    told = {"why_not": images.why_not, "is_explained": inside is not None, "lists": lists}
    return PageSection("mistakes", "Mistakes", told, lead)


def _frames(
    row: PredictionRow, split: str, images: RunImages, inside: ModelExplanations | None
) -> list[Frame]:
    """The image of a prediction and, with `inside`, what spoke for the answer."""
    pixels = images.find(split, row.source)
    frames = [framed(pixels, f"actual {row.label}, predicted {row.predicted}")]
    if inside is not None:
        why = None if pixels is None else inside.overlay(pixels, row.predicted)
        missing = "" if pixels is None else "not explained"
        frames.append(framed(why, f"where {row.predicted} was seen", missing=missing))
    return frames


def samples_section(images: RunImages) -> list[PageSection]:
    """Training images as they are and as training saw them."""
    samples = [
        (one.label, [framed(pixels, one.label) for pixels in (one.original, *one.versions)])
        for one in images.samples()
    ]
    lead = "Left: original; right: augmented, three times (without Mixup and CutMix)."
    return (
        [PageSection("samples", "Training images", {"samples": samples}, lead)] if samples else []
    )
