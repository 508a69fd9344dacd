"""Both pages in a real browser: nothing is asked for, nothing complains, nothing sticks out.

Screenshots and the printed page lie in pytest's temporary folder (`--basetemp` keeps them).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.browser import Page, opened
from tests.report.made_run import HOSTILE, made_audit, made_inside, made_run
from tests.report.test_run_report import FakeImages
from vitrail.data.images.preprocess import Preprocess
from vitrail.explain.explanation import Explanation
from vitrail.report.data_page import data_page
from vitrail.report.explain_page import explain_page, image_section
from vitrail.report.run_report import write_report

CLASSES = [*HOSTILE, "a_class_whose_name_is_much_longer_than_any_column_is_wide", "dog", "owl"]
WIDE, NARROW = 1280, 360


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = made_run(tmp_path_factory.mktemp("run") / "photos-1", CLASSES, n=97)
    (folder / "audit.json").write_text(json.dumps(made_audit(CLASSES)), encoding="utf-8")
    write_report(folder, FakeImages(), made_inside(CLASSES))
    return folder / "report.html"


@pytest.fixture(scope="module")
def data_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    audit = made_audit(CLASSES)
    record = {
        "problems": [f"bad {name}" for name in CLASSES],
        "how": "made",
        "classes": CLASSES,
        "splits": {"train": 30, "val": 9},
        "groups": audit["duplicates"]["shown"],
        "per_class": {name: {"train": 2, "val": 1} for name in CLASSES},
        "bad_files": [("x" * 90 + ".jpg", "truncated file (41312 of 98004 bytes)")],
        "label_suspects": audit["label_suspects"]["train"],
    }
    path = tmp_path_factory.mktemp("data") / "data_report.html"
    path.write_text(data_page("photos", record, FakeImages()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Preprocess(height=7, width=11, resize=(7, 11))
    rng, sections = np.random.default_rng(0), []
    for place, label in enumerate(CLASSES):
        image = rng.integers(0, 256, (70 * (place + 1), 110, 3), np.uint8)
        top = tuple((one, 0.3) for one in CLASSES[:5])
        found = [
            Explanation(
                label,
                one,
                image,
                made,
                rng.random(image.shape[:2]) - low,
                np.eye(3) - low,
                label=label,
                top=top,
            )
            for one, low in (("relevance", 0.0), ("integrated-gradients", 0.5))
        ]
        sections.append(image_section(place + 1, f"{label}.jpg", found))
    path = tmp_path_factory.mktemp("explain") / "explain.html"
    path.write_text(explain_page(HOSTILE[0], sections, 1), encoding="utf-8")
    return path


def check(page: Page, path: Path, width: int, scheme: str, shot: Path) -> np.ndarray:
    """Open a page; returns its screenshot, uint8 (H, W, 3)."""
    page.visit(path.as_uri(), width=width, height=900, media={"prefers-color-scheme": scheme})
    assert page.requests() == [path.as_uri()]
    assert page.complaints() == []
    assert page.value("document.documentElement.scrollWidth") == width
    outside = page.value(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, pre, svg') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"
    )
    assert outside == []
    assert page.value("[...document.images].filter(i => !i.naturalWidth).length") == 0
    return np.asarray(Image.open(page.screenshot(shot)).convert("RGB"))


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_the_report(browser: Page, report: Path, tmp_path: Path, width: int, scheme: str) -> None:
    pixels = check(browser, report, width, scheme, tmp_path / f"report-{width}-{scheme}.png")
    assert pixels.shape[1] == width
    assert pixels.shape[0] > 3000
    corner = int(pixels[5, 5].mean())  # the page's own background
    assert corner > 230 if scheme == "light" else corner < 40
    assert len(np.unique(pixels[::9, ::9].reshape(-1, 3), axis=0)) > 300


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "light"), (WIDE, "dark")])
def test_the_report_of_data(
    browser: Page, data_report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    check(browser, data_report, width, scheme, tmp_path / f"data-{width}-{scheme}.png")


@pytest.mark.parametrize(("width", "scheme"), [(NARROW, "dark"), (WIDE, "light")])
def test_the_page_of_explanations(
    browser: Page, explained: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    check(browser, explained, width, scheme, tmp_path / f"explain-{width}-{scheme}.png")
    shown = browser.value("[...document.images].filter(i => !i.alt).length")
    assert shown == 0


def test_a_click_sorts_the_classes(browser: Page, report: Path) -> None:
    browser.visit(report.as_uri(), width=WIDE, height=900, media={})
    column = "[...document.querySelectorAll('#classes tbody tr')].map(r => +r.cells[5].dataset.v)"
    click = "document.querySelectorAll('#classes th button')[5].click()"
    browser.value(click)
    down = browser.value(column)
    assert down == sorted(down, reverse=True)
    assert down != sorted(down)
    browser.value(click)
    assert browser.value(column) == sorted(down)
    told = "document.querySelectorAll('#classes th')[5].getAttribute('aria-sort')"
    assert browser.value(told) == "ascending"


def test_it_prints_on_some_pages(browser: Page, report: Path, tmp_path: Path) -> None:
    browser.visit(report.as_uri(), width=WIDE, height=900, media={})
    assert 4 <= browser.printed(tmp_path / "report.pdf") <= 25


def test_the_check_would_see_a_request(browser: Page, report: Path, tmp_path: Path) -> None:
    """The negative control: a page that loads something and complains is caught."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='absent.png'><script>console.error('x')</script>", encoding="utf-8")
    browser.visit(bad.as_uri(), width=WIDE, height=900, media={})
    assert (tmp_path / "absent.png").as_uri() in browser.requests()
    assert browser.complaints()
    worse = tmp_path / "worse.html"
    content = report.read_text(encoding="utf-8").replace("<main>", "<main><img src='absent.png'>")
    worse.write_text(content, encoding="utf-8")
    browser.visit(worse.as_uri(), width=WIDE, height=900, media={})
    assert browser.complaints()  # the content policy forbids it
