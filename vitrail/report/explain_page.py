"""explain.html: many images, each with its answer and what several methods show of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from vitrail.explain.explanation import Explanation
from vitrail.explain.overlay import enlarged
from vitrail.explain.sheet import Column
from vitrail.report.frame import PageSection, Table, TableCell, name, number, page
from vitrail.spelling import count

LONGEST_PX, TINY_PX, QUALITY = 480, 64, 85
ABOUT = (
    "A map shows what the answer rests on, not whether it is right. Which methods hold for this "
    "model is measured by"
)
FAITHFULNESS = "vitrail explain MODEL IMAGES --faithfulness"


@dataclass(frozen=True)
class Shown:
    """An image inside the page, and the words for those who cannot see it."""

    uri: str
    words: str


@dataclass(frozen=True)
class Panel:
    """What a method shows: overlay, map, scale and its ends."""

    title: str
    overlay: Shown
    drawn: Shown
    scale: Shown
    ends: tuple[str, str]


def explain_page(model: str, sections: Sequence[PageSection], refused: int = 0) -> str:
    """The document. sections: of `image_section`; refused: images that cannot be read."""
    said = f"{count(len(sections), 'image')} explained"
    said += f"; {count(refused, 'file')} cannot be read" if refused else ""
    told = {"model": model, "said": said, "about": ABOUT, "command": FAITHFULNESS}
    head = PageSection("explain_head", "", told)
    return page(f"{model} - vitrail explain", head, sections)


def image_section(place: int, title: str, found: Sequence[Explanation]) -> PageSection:
    """The part of the page about one image. found: one image by several methods, at least one."""
    first = found[0]
    best: list[list[TableCell | str]] = [
        [name(label), number(score, 3)] for label, score in first.top
    ]
    is_tiny = max(first.picture.shape[:2]) <= TINY_PX
    told = {
        "best": Table(["class", "probability"], best) if best else None,
        "image": shown(enlarged(first.picture), f"{title}: the image", is_tiny=is_tiny),
        "is_tiny": is_tiny,
        "panels": [panel(one.column(), title, is_tiny=is_tiny) for one in found],
    }
    return PageSection(f"image-{place}", title, told, template="explained")


def panel(one: Column, title: str, *, is_tiny: bool) -> Panel:
    """A column of the sheet, as images of a page."""
    low, high = one.ends
    words = f"{title}: {one.title}"
    return Panel(
        one.title,
        shown(one.overlay, f"{words}, over the image", is_tiny=is_tiny),
        shown(one.drawn, f"{words}, alone", is_tiny=is_tiny),
        shown(one.scale, f"colours from {low} to {high}", is_tiny=True),
        one.ends,
    )


def shown(image: Image.Image, words: str, *, is_tiny: bool) -> Shown:
    """A data: URI of the image, PNG where its pixels are squares, else JPEG of at most 480 px."""
    image = image.convert("RGB")
    stream = io.BytesIO()
    if is_tiny:
        image.save(stream, "PNG", optimize=True)
    else:
        image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.BICUBIC)
        image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    kind = "png" if is_tiny else "jpeg"
    return Shown(f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}", words)
