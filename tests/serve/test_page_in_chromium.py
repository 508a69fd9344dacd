"""The page in a real browser: Chromium, where it and playwright are installed."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serve.running import CLASSES, Running, png, running, some_classifier, some_png
from vitrail.serve.limits import Limits

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
expect = playwright.expect
TOKEN = "0123456789abcdef-secret"
DROP = """
([selector, images]) => {
  const data = new DataTransfer();
  for (const [name, bytes] of images)
    data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const how = { dataTransfer: data, bubbles: true, cancelable: true };
  for (const name of ["dragover", "drop"])
    document.querySelector(selector).dispatchEvent(new DragEvent(name, how));
}
"""
PASTE = """
([name, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}
"""
NAMELESS = """
() => [...document.querySelectorAll("button, input, select, a, img")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.innerText || one.alt || one.ariaLabel || one.labels?.length))
  .map((one) => one.outerHTML)
"""
CONTRAST = """
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const linear = [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "white";
  };
  return [...document.querySelectorAll("h1, h2, h3, p, span, button, label, summary, dt, dd, li")]
    .filter((one) => one.checkVisibility() && one.innerText.trim())
    .map((one) => {
      const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      return [one.innerText.slice(0, 20), (a + 0.05) / (b + 0.05)];
    })
    .filter(([, ratio]) => ratio < 4.5);
}
"""


class Seen:
    """A page of the browser, and what it asked for and complained about."""

    def __init__(self, page: Any, origin: str) -> None:
        self.page, self.origin = page, origin
        self.faults, self.requests = list[str](), list[str]()
        page.on("console", lambda line: self.faults.append(line.text) if line.type != "log" else 0)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))

    def add(self, *seeds: int) -> None:
        """Pick images in the file dialog."""
        self.page.set_input_files("#pick", [file_of(seed) for seed in seeds])

    def expect_items(self, count: int) -> None:
        """So many images, all of them answered."""
        expect(self.page.locator("#sheet .item")).to_have_count(count, timeout=20_000)
        expect(self.page.locator("#sheet .waiting")).to_have_count(0, timeout=20_000)

    def labels(self) -> list[str]:
        """What stands first below each image."""
        found: list[str] = self.page.locator(".bars li:first-child .label").all_text_contents()
        return found

    def check(self) -> None:
        """Nothing was complained about, and no other origin was asked."""
        assert self.faults == []
        away = [url for url in self.requests if not url.startswith((self.origin, "blob:"))]
        assert away == []


def file_of(seed: int) -> dict[str, Any]:
    """An image as the file dialog gives it."""
    return {"name": f"image-{seed}.png", "mimeType": "image/png", "buffer": some_png(seed)}


def best_label(seed: int) -> str:
    """As `vitrail predict`."""
    found = some_classifier().predict([some_png(seed)])[0].label
    assert found is not None
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream"]
        arguments += ["--use-fake-ui-for-media-stream"]
        found = engine.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(some_classifier, limits=Limits(batch=4, queue=8), engines=2) as found:
        yield found


def opened(browser: Any, server: Running, **options: Any) -> Seen:
    """The page in a context of its own."""
    origin = f"http://127.0.0.1:{server.port}"
    seen = Seen(browser.new_context(**options).new_page(), origin)
    seen.page.set_default_timeout(20_000)
    seen.page.goto(origin)
    return seen


@pytest.fixture
def seen(browser: Any, server: Running) -> Iterator[Seen]:
    found = opened(browser, server)
    yield found
    found.check()
    found.page.context.close()


def test_pick(seen: Seen) -> None:
    seen.add(3)
    seen.expect_items(1)
    assert seen.labels() == [best_label(3)]
    score = some_classifier().predict([some_png(3)])[0].score or 0.0
    expect(seen.page.locator("#status")).to_have_text(
        f"image-3.png: {best_label(3)}, {100 * score:.1f}\u00a0%"
    )
    widths = seen.page.locator(".bar").evaluate_all(
        "all => all.map(one => parseFloat(getComputedStyle(one, '::before').width))"
    )
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0


def test_drop_several(seen: Seen) -> None:
    images = [[f"d{seed}.png", list(some_png(seed))] for seed in (1, 2)]
    seen.page.evaluate(DROP, ["#drop", images])
    seen.expect_items(2)
    assert seen.labels() == [best_label(1), best_label(2)]
    assert seen.page.locator("#drop.over").count() == 0


def test_images_that_come_before_the_model_is_known(browser: Any, server: Running) -> None:
    """A slow answer to /v1/models: what was picked meanwhile is answered all the same."""
    origin = f"http://127.0.0.1:{server.port}"
    seen = Seen(browser.new_context().new_page(), origin)
    held: list[Any] = []
    seen.page.route("**/v1/models", lambda route: held.append(route))
    seen.page.goto(origin)
    seen.add(1)
    expect(seen.page.locator("#sheet .waiting")).to_have_count(1)
    held[0].continue_()
    seen.expect_items(1)
    assert seen.labels() == [best_label(1)]
    expect(seen.page.locator(".explain")).to_have_count(1)
    seen.check()
    seen.page.context.close()


def test_paste(seen: Seen) -> None:
    seen.page.evaluate(PASTE, ["pasted.png", list(some_png(4))])
    seen.expect_items(1)
    assert seen.labels() == [best_label(4)]


def test_a_folder(seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").write_bytes(some_png(1))
    (tmp_path / "photos" / "more" / "b.png").write_bytes(some_png(2))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    seen.page.set_input_files("#pick-folder", tmp_path / "photos")
    seen.expect_items(2)
    names = seen.page.locator(".item h3").all_text_contents()
    assert sorted(names) == ["photos/a.png", "photos/more/b.png"]


def test_twenty_images_an_order_and_a_table(seen: Seen) -> None:
    """More than the queue holds: the page waits where it is told to."""
    seen.add(*range(20))
    seen.expect_items(20)
    assert seen.labels() == [best_label(seed) for seed in range(20)]
    expect(seen.page.locator("#status")).to_contain_text("20 of 20")
    with seen.page.expect_download() as download:
        seen.page.click("#csv")
    table = Path(download.value.path()).read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    found = some_classifier().predict([some_png(seed) for seed in range(20)])
    for row, seed, one in zip(rows, range(20), found, strict=True):
        assert (row["source"], row["error"]) == (f"image-{seed}.png", "")
        for place, score in enumerate(one.top, 1):
            end = f"_{place}" if place > 1 else ""
            assert row["label" + end] == spreadsheet(score.label)
            assert float(row["score" + end]) == pytest.approx(score.score, abs=1e-6)
    seen.page.select_option("#order", "unsure")
    shares = seen.page.locator(".bars li:first-child .share").all_text_contents()
    numbers = [float(text.split("\u00a0")[0]) for text in shares]
    assert numbers == sorted(numbers)
    seen.page.click("#clear")
    expect(seen.page.locator("#sheet .item")).to_have_count(0)
    assert seen.page.evaluate("document.activeElement.id") == "pick"


def spreadsheet(label: str) -> str:
    """A cell that no spreadsheet computes."""
    return "'" + label if label[0] in "=+-@" else label


@pytest.mark.promise("S11")
def test_names_are_text(seen: Seen) -> None:
    """Neither a class nor a file can put markup into the page, or a formula into the table."""
    name = '=<img src=x onerror=alert(1)>".png'
    image = {"name": name, "mimeType": "image/png", "buffer": some_png(1)}
    seen.page.set_input_files("#pick", [image])
    seen.expect_items(1)
    assert seen.page.locator(".item h3").inner_text() == name
    assert seen.page.locator(".item img").count() == 1
    seen.page.click("#card summary")
    assert "<script>alert(1)</script>" in seen.page.locator("#card-classes").text_content()
    with seen.page.expect_download() as download:
        seen.page.click("#csv")
    rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert rows[1][0] == "'" + name


def test_what_cannot_be_decoded_says_so(browser: Any, server: Running) -> None:
    seen = opened(browser, server)
    bad = {"name": "bad.png", "mimeType": "image/png", "buffer": b"no image"}
    seen.page.set_input_files("#pick", [bad, file_of(1)])
    seen.expect_items(2)
    expect(seen.page.locator(".problem")).to_contain_text("VIT-330")
    assert seen.labels() == [best_label(1)]
    assert all("422" in fault for fault in seen.faults)  # the browser's own note of the answer
    seen.page.context.close()


def test_an_overlay_on_demand(seen: Seen) -> None:
    seen.add(3)
    seen.expect_items(1)
    image, button = seen.page.locator(".item img"), seen.page.locator(".explain")
    before = image.get_attribute("src")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert image.get_attribute("src") != before
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("one => one.naturalWidth") == 221  # drawn larger, pixels as squares
    assert best_label(3) in image.get_attribute("alt")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert image.get_attribute("src") == before
    seen.page.select_option("#method", "rollout")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert any("method=rollout" in url for url in seen.requests)


def test_by_keyboard_alone(seen: Seen) -> None:
    keys = seen.page.keyboard
    order, active = [], "document.activeElement.id || document.activeElement.className"
    for _ in range(5):
        keys.press("Tab")
        order.append(seen.page.evaluate(active))
    assert order == ["skip", "theme", "pick", "pick-folder", "camera"]
    keys.press("Shift+Tab")
    keys.press("Shift+Tab")
    with seen.page.expect_file_chooser() as chooser:
        keys.press("Space")
    style = "one => getComputedStyle(one).outlineStyle"
    outline = seen.page.locator("label:has(#pick)").evaluate(style)
    assert outline == "solid"
    chooser.value.set_files([file_of(2)])
    seen.expect_items(1)
    for _ in range(12):
        keys.press("Tab")
        if seen.page.evaluate("document.activeElement.className") == "explain":
            break
    keys.press("Space")
    expect(seen.page.locator(".explain")).to_have_attribute("aria-pressed", "true")


def test_what_a_screen_reader_is_told(seen: Seen) -> None:
    seen.add(1, 2)
    seen.expect_items(2)
    seen.page.click("#card summary")
    assert seen.page.evaluate(NAMELESS) == []
    status = seen.page.locator("#status")
    assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
    snapshot = seen.page.locator("body").aria_snapshot()
    for text in ('heading "m0" [level=1]', 'heading "Results" [level=2]', "status"):
        assert text in snapshot
    assert re.search(r'button "Explain image-1.png"', snapshot)
    assert seen.page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_light_and_dark_on_small_and_large_screens(
    browser: Any, server: Running, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 740}
    seen = opened(browser, server, color_scheme=scheme, viewport=size)
    seen.add(1, 2, 3)
    seen.expect_items(3)
    seen.page.click("#card summary")
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    lowest = page.locator("button:visible, .button:visible, select:visible").evaluate_all(
        "all => Math.min(...all.map(one => one.getBoundingClientRect().height))"
    )
    assert lowest >= 40
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    assert (before == "rgb(18, 20, 24)") == (scheme == "dark")
    page.click("#theme")
    assert page.evaluate(ground) != before
    assert page.evaluate(CONTRAST) == []
    page.reload()
    assert page.evaluate(ground) != before  # the choice is kept
    seen.check()
    page.context.close()


def test_the_camera(browser: Any, server: Running) -> None:
    seen = opened(browser, server, permissions=["camera"])
    seen.page.click("#camera")
    expect(seen.page.locator("#camera-dialog")).to_be_visible()
    expect(seen.page.locator("#camera-view")).not_to_have_js_property("videoWidth", 0)
    seen.page.click("#camera-shot")
    seen.expect_items(1)
    assert seen.labels()[0] in CLASSES
    expect(seen.page.locator("#camera-dialog")).to_be_hidden()
    assert seen.page.evaluate("document.getElementById('camera-view').srcObject") is None
    seen.check()
    seen.page.context.close()


def test_a_token_is_asked_for_and_kept_in_memory_only(browser: Any) -> None:
    with running(token=TOKEN) as server:
        seen = opened(browser, server)
        dialog = seen.page.locator("#token-dialog")
        expect(dialog).to_be_visible()
        seen.page.fill("#token", "wrong-wrong-wrong")
        seen.page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        seen.page.fill("#token", TOKEN)
        seen.page.keyboard.press("Enter")
        expect(seen.page.locator("#title")).to_have_text("m0")
        seen.add(1)
        seen.expect_items(1)
        assert seen.labels() == [best_label(1)]
        kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        assert TOKEN not in seen.page.evaluate(kept)
        assert not any(TOKEN in url for url in seen.requests)
        assert all("401" in fault for fault in seen.faults)
        seen.page.context.close()


def test_several_models_and_no_torch(browser: Any) -> None:
    def plain() -> Any:
        classifier = some_classifier(1)
        classifier.explain_prepared = None  # type: ignore[assignment]
        return classifier

    with running(some_classifier, plain) as server:
        server.service.models["m1"].methods = []
        seen = opened(browser, server)
        seen.add(1)
        seen.expect_items(1)
        assert seen.page.locator(".explain").count() == 1
        seen.page.select_option("#model", "m1")
        seen.expect_items(1)
        expect(seen.page.locator("#title")).to_have_text("m1")
        assert seen.page.locator(".explain").count() == 0
        expect(seen.page.locator("#no-explain")).to_be_visible()
        found = some_classifier(1).predict([some_png(1)])[0].label
        assert seen.labels() == [found]
        seen.check()
        seen.page.context.close()


def test_a_server_that_is_gone(browser: Any) -> None:
    with running() as server:
        seen = opened(browser, server)
        expect(seen.page.locator("#title")).to_have_text("m0")
    seen.add(1)
    seen.expect_items(1)
    expect(seen.page.locator(".problem")).to_contain_text("cannot be reached")
    seen.page.context.close()


def test_large_and_grey_images(seen: Seen) -> None:
    grey = np.tile(np.arange(200, dtype=np.uint8)[:, None], (1, 300))
    images = {"grey.png": png(grey), "wide.png": png(np.zeros((10, 3000, 3), np.uint8))}
    seen.page.set_input_files(
        "#pick",
        [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in images.items()],
    )
    seen.expect_items(2)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1280
