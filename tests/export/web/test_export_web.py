"""`export --to web`: what lies in the folder, what it may do, and what it does not tell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import vitrail
from tests.export.exported import classifier_of, coloured_digits
from tests.export.web.sites import STUBS, exported_page
from tests.page.in_browser.in_node import needs_node, run
from tests.page.in_browser.test_pixels import records
from vitrail.classifier import Classifier
from vitrail.data.sources.examples import Examples, examples_of
from vitrail.data.sources.open_data import open_data
from vitrail.errors import EnvironmentFault
from vitrail.export.export_model import export_model
from vitrail.export.web import export_web as module
from vitrail.export.web.export_web import page, transfer_bytes, web_layout
from vitrail.export.web.ort_web import FILES, WASM
from vitrail.export.web.site_record import check_image, check_of
from vitrail.page.assets import LOCAL_SCRIPTS, assets, local_model_script, local_scripts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "photos <b>&"
    exported_page(out, STUBS)
    return out


def test_every_file_that_a_page_asks_for_is_there(site: Path) -> None:
    text = (site / "index.html").read_text()
    named = {*re.findall(r'(?:href|src)="([^#"][^"]*)"', text)}
    for script in (site / "page").rglob("*.js"):
        for other in re.findall(r'from "(\.[^"]+)"|URL\("(\.[^"]+)"', script.read_text()):
            named.add(str((script.parent / (other[0] or other[1])).resolve().relative_to(site)))
    assert [name for name in named if not (site / name).exists()] == []
    record = json.loads((site / "site.json").read_text())
    for one in (record["model"], record["wasm"]):
        assert (site / one["file"]).is_file()
    assert record["model"]["bytes"] == (site / "model.onnx").stat().st_size


def test_every_local_script_is_listed_and_used() -> None:
    here = {path.stem for path in (Path(vitrail.__file__).parent / "page/in_browser").glob("*.js")}
    assert here == {*LOCAL_SCRIPTS, "model"}
    text = b"".join(local_scripts().values()).decode() + local_model_script().decode()
    for name in LOCAL_SCRIPTS:
        assert f"/{name}.js" in text, name
    assert not re.search(r"https?://|innerHTML|eval\(|new Function", text)


def test_what_the_page_may_do(site: Path) -> None:
    (policy,) = re.findall(
        r'http-equiv="Content-Security-Policy" content="([^"]+)"', (site / "index.html").read_text()
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert {rules[name] for name in ("connect-src", "style-src", "worker-src")} == {"'self'"}
    assert "unsafe-inline" not in policy
    assert "*" not in policy
    text = (site / "index.html").read_text()
    assert text.index("Content-Security-Policy") < text.index("<link")


def test_why_a_file_does_not_start_is_in_the_markup() -> None:
    text = page(assets(local_model_script())["index.html"].decode())
    assert 'id="needs-server"' in text
    assert "python -m http.server" in text
    assert "v1/classify" not in text
    assert b'getElementById("needs-server")' in local_model_script()


def test_it_is_an_export_too(site: Path) -> None:
    """Every verb takes it, and the self-check is what it predicts."""
    opened = vitrail.load(site, engine="onnx")
    record = json.loads((site / "site.json").read_text())
    found = opened.predict([check_image(83, 61)], top=10)[0]
    expected = {one.label: one.score for one in found.top}
    scores = dict(zip(record["classes"], record["check"]["scores"], strict=True))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert record["preprocess"] == opened.preprocess.to_json()


def test_the_card_says_how_to_serve_it(site: Path) -> None:
    card = (site / "README.md").read_text()
    assert "python -m http.server" in card
    assert "16 images" in card


def test_which_images_were_trained_on_is_not_published(tmp_path: Path) -> None:
    classifier = classifier_of()
    classifier.examples = examples_of(open_data("builtin:digits"), is_whole=True)
    images = coloured_digits(classifier, most=16)
    export_model(classifier, tmp_path / "out", images, layout=web_layout(STUBS))
    assert isinstance(classifier.examples, Examples)
    assert list((tmp_path / "out").glob("examples*")) == []
    assert "examples" not in json.loads((tmp_path / "out/model.json").read_text())["trained_on"]


def test_an_older_pillow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: "12.3.0")
    with pytest.raises(EnvironmentFault) as found:
        web_layout(STUBS)
    assert found.value.code == "VIT-525"


def test_a_visitor_of_a_small_model_loads_less_than_30_mb(site: Path) -> None:
    pinned = sum(size for size, _ in FILES.values())
    stubs = sum(len(one) for one in STUBS.values())
    assert transfer_bytes(site) - stubs + pinned < 30e6
    assert FILES[WASM][0] < 15e6


@needs_node
def test_the_self_check_sees_the_same_pixels() -> None:
    cases, expected = [], []
    for record in records():
        classifier = Made(record.channels)
        classifier.preprocess = record
        expected.append(check_of(classifier, "float32")["input"])
        cases.append({"action": "check", "height": 83, "width": 61, "record": record.to_json()})
    assert run(cases) == expected
    cases = [{"action": "checkImage", "height": 5, "width": 7}]
    assert run(cases)[0] == check_image(5, 7).ravel().tolist()


class Made(Classifier):
    """Of which only the preprocessing is asked."""

    def __init__(self, channels: int) -> None:
        super().__init__(classifier_of(channels=channels).model, records()[0], [])

    def probabilities(self, images: object) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return np.zeros((1, 3), np.float32)
