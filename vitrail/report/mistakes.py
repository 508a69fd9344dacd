"""The pictures of a report: mistakes and doubtful ones, with what spoke for the answer, and
training pictures as training saw them.
"""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.report import verdict
from vitrail.report.explanations import ModelExplanations
from vitrail.report.frame import name, section, text
from vitrail.report.run_images import Pixels, RunImages, Thumbnail
from vitrail.report.run_record import PredictionRow, SplitRecord

MISTAKES, DOUBTFUL = 18, 12


def mistakes_section(
    split: SplitRecord, pictures: RunImages, inside: ModelExplanations | None
) -> str:
    """Thumbnails of what went most wrong, and of what was least sure."""
    wrong = verdict.worst_mistakes(split.rows, MISTAKES)
    doubtful = verdict.most_doubtful(split.rows, DOUBTFUL)
    number_wrong = sum(not row.is_right for row in split.rows)
    parts = []
    if pictures.why_not:
        parts.append(f'<p class="lead">{text(pictures.why_not)}</p>')
    for title, rows in (("Worst mistakes, by loss", wrong),
                        ("Least sure, right or wrong", doubtful)):  # fmt: skip
        if rows:
            cards = "".join(_card(row, split.name, pictures, inside) for row in rows)
            kind = "pictures beside" if inside is not None else "pictures"
            parts.append(f'<h3>{title}</h3><ul class="{kind}">{cards}</ul>')
    lead = f"{number_wrong} of {len(split.rows)} pictures are wrong; "
    lead += f"eval/{split.name}/predictions.csv lists every one."
    if inside is not None and not pictures.why_not:
        lead += f" Beside each picture: what spoke for the answer given ({inside.method})."
    return section("mistakes", "Mistakes", *parts, lead=text(lead))


def _card(
    row: PredictionRow, split: str, pictures: RunImages, inside: ModelExplanations | None
) -> str:
    kind = "right" if row.is_right else "wrong"
    said = f'<i>called</i> <b class="{kind}">{name(row.predicted)}</b> {row.p_predicted:.2f}'
    if not row.is_right:
        said += f"<br><i>is</i> <b>{name(row.label)}</b> {row.p_label:.2f}"
    pixels = pictures.find(split, row.source)
    frames = picture_frame(pixels, f"{row.label}, taken for {row.predicted}")
    if inside is not None:
        why = None if pixels is None else inside.overlay(pixels, row.predicted)
        words = f"where {row.predicted} was seen"
        frames += picture_frame(why, words, missing="" if pixels is None else "not explained")
        frames = f'<div class="frames">{frames}</div>'
    return (
        f'<li>{frames}<div class="said">{said}<small>loss {row.loss:.2f} &middot; '
        f"{name(row.source)}</small></div></li>"
    )


def picture_frame(pixels: Pixels | None, words: str, *, missing: str = "not at hand") -> str:
    """A thumbnail, or a note in its place."""
    if pixels is None:
        return f'<div class="frame"><span>{missing}</span></div>'
    thumbnail = Thumbnail(pixels)
    kind = ' class="tiny"' if thumbnail.is_tiny else ""
    return f'<div class="frame"><img{kind} alt="{text(words)}" src="{thumbnail.uri}"></div>'


def samples_section(pictures: RunImages) -> list[str]:
    """Training pictures as they are and as training saw them."""
    found = pictures.samples()
    if not found:
        return []
    cards = "".join(
        '<li><div class="versions">'
        + "".join(picture_frame(one, sample.label) for one in (sample.original, *sample.versions))
        + f'</div><div class="said">{name(sample.label)}</div></li>'
        for sample in found
    )
    lead = "Left as in the data, then three times as training sees them (without Mixup and CutMix)."
    return [
        section(
            "samples", "Training pictures", f'<ul class="pictures samples">{cards}</ul>', lead=lead
        )
    ]


def frames_of(found: Sequence[tuple[Pixels | None, str]]) -> str:
    """Several pictures side by side, each with words for those who cannot see it."""
    frames = "".join(picture_frame(pixels, words) for pixels, words in found)
    return f'<div class="frames">{frames}</div>'
