"""The page without a server in a real browser, against `vitrail predict` on the same files."""

from __future__ import annotations

import functools
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

import vitrail
from tests.export.web.sites import exported_page, static_server
from vitrail.checkpoints.hub.download import cached_path
from vitrail.data.sources.open_data import open_data
from vitrail.export.web.ort_web import ADDRESS, ort_web_files
from vitrail.prediction import Prediction

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PACKAGE = cached_path(ADDRESS)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(
        not PACKAGE.is_file(),
        reason=f"onnxruntime-web is not in the cache: curl --create-dirs -o {PACKAGE} {ADDRESS}",
    ),
]
expect = playwright.expect
READY = "The model is ready."
LARGEST_DIFFERENCE = 1e-3
SETTLED = """
() => [...document.querySelectorAll("#sheet .item")].map((item) => ({
  name: item.querySelector("h3").textContent,
  problem: item.querySelector(".problem")?.textContent ?? "",
  labels: [...item.querySelectorAll(".label")].map((one) => one.textContent),
}))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "photos"
    exported_page(out, ort_web_files(None))
    return out


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with static_server(folder) as found:
        yield found


class Seen:
    """A page of the browser, what it asked for and what it complained about."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page, self.address = browser.new_context(**options).new_page(), address
        self.faults, self.requests = list[str](), list[str]()
        self.page.on("console", lambda line: self.faults.append(line.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def ready(self) -> Seen:
        expect(self.page.locator("#status")).to_have_text(READY, timeout=60_000)
        return self

    def answers(self, files: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
        """What stands below each file, in order."""
        chosen = [
            {"name": name, "mimeType": "image/" + name.rpartition(".")[2], "buffer": content}
            for name, content in files
        ]
        self.page.set_input_files("#pick", chosen)
        expect(self.page.locator("#sheet .item")).to_have_count(len(files), timeout=20_000)
        expect(self.page.locator("#sheet .waiting")).to_have_count(0, timeout=120_000)
        found: list[dict[str, Any]] = self.page.evaluate(SETTLED)
        return found

    def table(self) -> dict[str, tuple[str, float]]:
        """Name, first class and probability of each file, from the CSV with all digits."""
        with self.page.expect_download() as waiting:
            self.page.click("#csv")
        text = Path(waiting.value.path()).read_text(encoding="utf-8-sig")
        rows = [line.split(",") for line in text.splitlines()[1:]]
        return {row[0]: (row[1], float(row[2])) for row in rows if row[2]}

    def check(self) -> None:
        """Nothing was complained about, and nothing came from elsewhere."""
        assert self.faults == []
        away = [url for url in self.requests if not url.startswith((self.address, "blob:"))]
        assert away == []
        self.page.context.close()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def pictures() -> list[tuple[str, bytes]]:
    """200 files: digits as gray PNG, and smooth colours in sizes and formats of every kind."""
    source = open_data("builtin:digits").val
    assert source is not None
    found = []
    for index in range(80):
        pixels = np.asarray(source.read(index)[0])
        found.append((f"digit-{index}.png", saved(Image.fromarray(pixels.squeeze()), "PNG")))
    rng = np.random.default_rng(0)
    for index in range(120):
        height, width = rng.integers(20, 160, 2)
        noise = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
        image = noise.filter(ImageFilter.BoxBlur(3))
        found.append(in_some_format(image, index))
    return found


def in_some_format(image: Image.Image, index: int) -> tuple[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = index % 8 + 1
    plain = image.convert("RGB")
    made = [
        ("jpeg", saved(plain, "JPEG", quality=70 + index % 30, exif=exif)),
        ("jpeg", saved(plain, "JPEG", quality=90, subsampling=0, progressive=True)),
        ("jpeg", saved(plain.convert("L"), "JPEG")),
        ("png", saved(image, "PNG", exif=exif)),
        ("png", saved(plain.quantize(16), "PNG")),
        ("webp", saved(plain, "WEBP", quality=80)),
        ("webp", saved(plain, "WEBP", lossless=True)),
        ("bmp", saved(plain, "BMP")),
        ("gif", saved(plain, "GIF")),
        ("jpeg", saved(plain.convert("CMYK"), "JPEG")),
    ]
    kind, content = made[index % len(made)]
    return f"picture-{index}.{kind}", content


def predicted(folder: Path, files: list[tuple[str, bytes]]) -> list[Prediction]:
    """By the exported model, in this process."""
    classifier = vitrail.load(folder, engine="onnx")
    return classifier.predict([content for _, content in files], top=1)


def test_200_images_are_answered_as_by_predict(browser: Any, address: str, folder: Path) -> None:
    seen, files = Seen(browser, address).ready(), pictures()
    answers = seen.answers(files)
    assert [one["problem"] for one in answers if one["problem"]] == []
    table = seen.table()
    assert len(table) == len(files) == 200
    assert len({label for label, _ in table.values()}) >= 4  # an answer that depends on the image
    apart = []
    for (name, _), wanted in zip(files, predicted(folder, files), strict=True):
        label, score = table[name]
        assert label == wanted.label, name
        assert wanted.score is not None
        apart.append(abs(score - wanted.score))
    assert max(apart) <= LARGEST_DIFFERENCE
    seen.check()


def test_int8_is_answered_as_by_predict(browser: Any, tmp_path: Path) -> None:
    """Whole numbers are added in another order by another processor's instructions, if at all."""
    exported_page(tmp_path / "site", ort_web_files(None), "int8")
    files = pictures()[60:100]
    with static_server(tmp_path / "site") as address:
        seen = Seen(browser, address).ready()
        seen.answers(files)
        table = seen.table()
        for (name, _), wanted in zip(files, predicted(tmp_path / "site", files), strict=True):
            assert table[name][0] == wanted.label
            assert table[name][1] == pytest.approx(wanted.score, abs=5e-3)
        seen.check()


REFUSED = {
    "broken.jpeg": "truncated",
    "text.png": "is text",
    "drawing.png": "is SVG",
    "empty.png": "empty file",
    "page.jpeg": "HTML page",
    "scan.png": "TIFF",
    "bomb.png": "limit",
}


def refused_files() -> list[tuple[str, bytes]]:
    image = Image.effect_noise((64, 64), 50).convert("RGB")
    header = saved(image, "PNG")
    big = header[:16] + (60_000).to_bytes(4, "big") * 2 + header[24:]
    content = [
        saved(image, "JPEG")[:700],
        b"hello\n",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
        b"",
        b"<!doctype html><p>404",
        saved(image, "TIFF"),
        big,
    ]
    return list(zip(REFUSED, content, strict=True))


def test_other_files_are_refused_one_by_one(browser: Any, address: str) -> None:
    seen, good = Seen(browser, address).ready(), pictures()[:2]
    answers = seen.answers([*refused_files(), *good])
    for one, reason in zip(answers, REFUSED.values(), strict=False):
        assert reason in one["problem"], one
    assert [one["problem"] for one in answers[len(REFUSED) :]] == ["", ""]
    faults = [text for text in seen.faults if "Failed to load resource" not in text]
    assert faults == []
    seen.page.context.close()


def test_images_added_before_the_model_is_there_are_answered(browser: Any, address: str) -> None:
    seen = Seen(browser, address)
    (answer,) = seen.answers(pictures()[:1])
    assert len(answer["labels"]) == 5
    seen.check()


def test_below_a_path_of_a_server(browser: Any, folder: Path) -> None:
    """As project pages of a hosting service are."""
    with static_server(folder.parent) as address:
        seen = Seen(browser, f"{address}{folder.name}/").ready()
        (answer,) = seen.answers(pictures()[:1])
        assert len(answer["labels"]) == 5
        seen.check()


def test_by_keyboard_alone(browser: Any, address: str) -> None:
    """The first stops of Tab lead to the dialog for files, and the results can be cleared."""
    seen = Seen(browser, address).ready()
    for _ in range(12):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("() => document.activeElement.id") == "pick":
            break
    with seen.page.expect_file_chooser() as waiting:
        seen.page.keyboard.press("Enter")
    name, content = pictures()[0]
    waiting.value.set_files({"name": name, "mimeType": "image/png", "buffer": content})
    expect(seen.page.locator(".bars")).to_have_count(1, timeout=20_000)
    seen.page.locator("#clear").focus()
    seen.page.keyboard.press("Enter")
    expect(seen.page.locator("#results")).to_be_hidden()
    seen.check()


def test_opened_as_a_file_it_says_why_it_does_not_start(browser: Any, folder: Path) -> None:
    page = browser.new_context().new_page()
    page.goto((folder / "index.html").as_uri())
    expect(page.locator("#needs-server")).to_be_visible(timeout=10_000)
    expect(page.locator("#needs-server")).to_contain_text("python -m http.server")
    page.context.close()


@pytest.mark.parametrize("fault", ["weights", "class order", "resize", "cut", "missing"])
def test_a_page_that_would_answer_otherwise_answers_nothing(
    browser: Any, folder: Path, tmp_path: Path, fault: str
) -> None:
    site = tmp_path / "site"
    shutil.copytree(folder, site)
    model, record = site / "model.onnx", site / "site.json"
    content, text = model.read_bytes(), record.read_text()
    if fault == "weights":
        at = content.index(b"raw") if b"raw" in content else len(content) // 2
        model.write_bytes(content[:at] + bytes(4096) + content[at + 4096 :])
    elif fault == "class order":
        head, _, tail = text.partition('"scores": [')
        numbers, _, rest = tail.partition("]")
        turned = ",".join(reversed(numbers.split(",")))
        record.write_text(f'{head}"scores": [{turned}]{rest}')
    elif fault == "resize":
        record.write_text(text.replace('"bicubic"', '"bilinear"'))
    elif fault == "cut":
        model.write_bytes(content[:-100])
    else:
        model.unlink()
    with static_server(site) as address:
        seen = Seen(browser, address)
        expect(seen.page.locator("#status")).to_contain_text("cannot be shown", timeout=60_000)
        (answer,) = seen.answers(pictures()[:1])
        assert answer["labels"] == []
        assert answer["problem"]
        seen.page.context.close()


def test_phone_width_and_dark(browser: Any, address: str) -> None:
    size = {"width": 360, "height": 740}
    seen = Seen(browser, address, viewport=size, color_scheme="dark").ready()
    seen.answers(pictures()[:3])
    wide = seen.page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 360
    seen.check()
