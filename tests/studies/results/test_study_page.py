"""study.html as text, and in a real browser: nothing is asked for, nothing sticks out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.figures.test_plot import made_figure
from tests.report.browser import Page, opened
from tests.report.checked_page import Checked
from tests.report.test_browser import NARROW, WIDE, check
from tests.studies.made_rows import made_row
from vitrail.errors import EnvironmentFault
from vitrail.studies.engine.row import Row
from vitrail.studies.results.result import Outcome, Verdict
from vitrail.studies.results.study_page import _table, _value, address, write_page
from vitrail.studies.results.tables import write_csv

HOSTILE = '<script>alert("1")</script> & \u202e\x1b[31m'
COMMAND = "vitrail study made --data a&b\nvitrail study made --seeds 3"


def made_outcome(word: str = "ViT") -> Outcome:
    verdict = Verdict(
        answer=f"{word} is ahead by 3 points.",
        claim="ViT overtakes ResNets with much data.",
        source="arXiv 2010.11929, section 4.3",
        evidence=[f"{word} is 3.2 points above BiT (1.1 to 5.3, 3 seeds)."],
        limits=[f"4,000 images of {word} are few."],
    )
    figure = made_figure(names=(word, "BiT"))
    tables = {f"Top-1 of {word}": [["pictures", word], ["500", "0.612 (0.5 to 0.7)"]]}
    return Outcome(verdict, [figure], tables, {})


def made_rows(word: str = "ViT") -> list[Row]:
    return [
        made_row(
            word,
            seed,
            {"pictures": 500, "kind": word},
            {"test/top1": 0.5 + seed / 7, "macs": 27e6},
            run=run,
        )
        for seed, run in enumerate(["runs/a b#1", "runs/plain", "runs/gone", "../out", "/etc", ""])
    ]


def written(folder: Path, word: str = "ViT") -> Path:
    (folder / "runs" / "a b#1").mkdir(parents=True)
    (folder / "runs" / "plain").mkdir()
    (folder / "runs" / "plain" / "report.html").write_text("")
    rows = made_rows(word)
    write_csv(rows, folder / "rows.csv")
    facts = [("Data", word), ("Cells", "6 of 6")]
    return write_page(folder, f"made on {word}", made_outcome(word), rows, facts, COMMAND)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("study"), HOSTILE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


def test_the_verdict_comes_first_and_everything_is_there(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path == tmp_path / "study.html"
    page = Checked(path.read_text(encoding="utf-8"))
    words = " ".join(" ".join(page.words).split())
    said = [
        "made on ViT",
        "ViT is ahead by 3 points.",
        "ViT overtakes ResNets",
        "section 4.3",
        "What we saw",
        "1.1 to 5.3",
        "What this scale cannot show",
        "images of ViT are few",
        "6 of 6",
        "Top-1 of ViT",
        "0.612",
        "6 cells",
        "27,000,000",
        "0.6429",
        "vitrail study made --data a&b",
        "--seeds 3",
    ]
    places = [words.index(one) for one in said]
    assert places == sorted(places)


def test_figures_are_inside_the_page_with_their_words_and_numbers(tmp_path: Path) -> None:
    page = Checked(written(tmp_path).read_text(encoding="utf-8"))
    drawings = [found for tag, found in page.tags if tag == "svg" and found.get("role") == "img"]
    (label,) = [str(found["aria-label"]) for found in drawings]
    assert label.startswith("More images, fewer mistakes. top-1 over images.")
    assert {"ViT", "BiT", "500", "4k"} <= set(page.words)
    assert "circle" in [tag for tag, _ in page.tags]
    assert (tmp_path / "made.svg").is_file()
    assert (tmp_path / "made.png").is_file()
    assert "95 % from" in page.words


def test_links_lead_to_runs_that_are_there_and_nowhere_else(tmp_path: Path) -> None:
    page = Checked(written(tmp_path).read_text(encoding="utf-8"))
    links = [found["href"] for tag, found in page.tags if tag == "a"]
    assert [one for one in links if one and not one.startswith("#")] == [
        "./made.png",
        "./made.svg",
        "./rows.csv",
        "./runs/a%20b%231/",
        "./runs/plain/report.html",
    ]
    assert address("javascript:alert(1)") == "./javascript%3Aalert%281%29"
    assert address("a\udcff/\u00e4") == "./a%FF/%C3%A4"


def test_names_are_text(study: Path) -> None:
    document = study.read_text(encoding="utf-8")
    page = Checked(document)
    assert "<script>alert" not in document
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "\u202e" not in document
    assert "\x1b" not in document
    assert "is ahead by 3 points." in document
    assert any('<script>alert("1")</script> & \\u202e\\x1b[31m' in one for one in page.words)


def test_numbers_are_short_and_what_is_missing_is_a_dash() -> None:
    shown = [_value(one).text for one in (0.694, 3.14159, 27e6, 12345.67, 3e-5, None, math.nan)]
    assert shown == ["0.6940", "3.142", "27,000,000", "12,345.7", "3e-05", "\u2013", "\u2013"]
    assert _value(0.003, is_measured=False).text == "0.003"


@pytest.mark.parametrize(
    ("column", "is_of_numbers"),
    [
        (("0.5", "-", "3 s"), True),
        (("", "-"), True),
        (("ViT", "BiT"), False),
        (("0.5", "none"), False),
    ],
)
def test_a_column_of_numbers_stands_to_the_right(
    column: tuple[str, ...], is_of_numbers: bool
) -> None:
    """The first column, of names, never does."""
    rows = [("1", cell) for cell in column]
    (first, second) = zip(*(line for line in _table([("", "x"), *rows]).lines), strict=True)
    assert {cell.style for cell in first} == {"text"}
    assert {cell.style for cell in second} == {"number" if is_of_numbers else "text"}


def test_a_study_of_nothing_yet(tmp_path: Path) -> None:
    verdict = Verdict("No cell is finished.", "", "", [], [])
    path = write_page(tmp_path, "made", Outcome(verdict, [], {}, {}), [], [], "")
    words = " ".join(Checked(path.read_text(encoding="utf-8")).words)
    assert "No cell is finished." in words
    assert "0 cells" in words
    for absent in ("The paper says", "What we saw", "Figures", "Tables", "To repeat it"):
        assert absent not in words


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nothing = Outcome(Verdict("", "", "", [], []), [], {}, {})
    with pytest.raises(EnvironmentFault, match="VIT-506"):
        write_page(tmp_path / "file", "made", nothing, [], [], "")


@pytest.mark.parametrize(
    ("width", "scheme"), [(WIDE, "light"), (NARROW, "dark"), (NARROW, "light"), (WIDE, "dark")]
)
def test_in_a_browser(browser: Page, study: Path, tmp_path: Path, width: int, scheme: str) -> None:
    pixels = check(browser, study, width, scheme, tmp_path / "study.png")
    corner = int(pixels[5, 5].mean())
    assert corner > 230 if scheme == "light" else corner < 40
    box = browser.value(
        "(() => { const b = document.querySelector('.drawn > svg').getBoundingClientRect(); "
        "return [b.left, b.top, b.right, b.bottom] })()"
    )
    left, top, right, bottom = (int(side) for side in box)
    card = pixels[top + 4 : bottom - 4, left + 4 : right - 4]
    ground = int(np.median(card))
    assert ground > 230 if scheme == "light" else ground < 40
    assert bottom - top > 0.4 * (right - left)


def test_sorting_by_a_column(browser: Page, study: Path) -> None:
    browser.visit(study.as_uri(), width=WIDE, height=900, media={})
    column = (
        "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[3].textContent)"
    )
    assert browser.value(column) == ["0", "1", "2", "3", "4", "5"]
    browser.value("document.querySelectorAll('table.sortable th button')[3].click()")
    assert browser.value(column) == ["5", "4", "3", "2", "1", "0"]
