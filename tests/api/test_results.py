"""What functions give is shown: a table in a notebook, lines elsewhere; and the functions for one
option of a command.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from benchmarks.python_page import RESULTS
from tests.api.test_shown import Shell, drawings
from tests.cli.cli_command import run
from tests.golden.case import CASES
from tests.report.checked_page import Checked
from tests.training.test_replay import TOO_FAST, diverged
from vitrail.api.model_list import Downloaded
from vitrail.errors import DataError, ModelError, UsageError
from vitrail.prediction import Score


def told(result: Any, capsys: pytest.CaptureFixture[str], *expected: str) -> None:
    """`show()` prints what the table of a notebook says, on lines of their own."""
    capsys.readouterr()
    result.show()
    said = capsys.readouterr().out
    html = result._repr_html_()
    Checked(html)
    for one in expected:
        assert one in said, (one, said)
        assert one in html
    assert said.endswith("\n")


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_can_be_shown(name: str) -> None:
    kind = getattr(vitrail, name)
    assert callable(kind.show)
    assert callable(kind._repr_html_)
    assert kind.__repr__ is not object.__repr__


def test_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    found = vitrail.Prediction("a.png", "<i>", 0.75, [Score("<i>", 0.75), Score("b", 0.25)])
    told(found, capsys, "a.png", "0.7500", "0.2500")
    assert "<i>" not in found._repr_html_()
    told(vitrail.Prediction("b.png", error="is a folder"), capsys, "b.png", "is a folder")


def test_in_a_notebook_the_table_is_displayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell, found = Shell(monkeypatch), vitrail.Prediction("a.png", "b", 1.0, [Score("b", 1.0)])
    found.show()
    assert (shell.shown, capsys.readouterr().out) == ([found._repr_html_()], "")


def test_a_probe(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = vitrail.probe(trained, kind="knn", k=[1, 5], cache=False, progress=False)
    first, second = found.figures[:2]
    told(found, capsys, f"{first.top1:.4f} (95 % {first.interval[0]:.4f}", f"{second.top1:.4f}")
    assert [name for name, _ in found.rows()[2:4]] == [
        f"top-1 (k {one.k}, votes {one.votes})" for one in (first, second)
    ]
    assert ("majority class", f"{found.majority:.4f}") in found.rows()


def test_a_learning_rate(capsys: pytest.CaptureFixture[str]) -> None:
    found = vitrail.LrFind([1e-4, 1e-3, 1e-2], [2.0, 1.25, float("nan")], 1e-3, 1e-4, "Use it.")
    told(found, capsys, "1.0e-03", "Use it.", "1.2500")
    (drawn,) = drawings(found._repr_html_())
    assert any("1.0e-03 is suggested" in (one.text or "") for one in drawn.iter())


def test_runs_and_models(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(vitrail.runs(trained.parent), capsys, "1 run", "finished", "digits")
    told(vitrail.models("vit_b16"), capsys, "1 model", "86567656")
    place = Downloaded("w", "google:w", Path("w.npz"), 1_500_000, None, "Apache-2.0")
    told(place, capsys, "w.npz, 1.5 MB", "Apache-2.0")
    assert "sha256" not in place._repr_html_()


def test_a_checkpoint_is_inspected_and_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CASES / "torchvision_vit" / "vit_mu_8.pth"
    found = vitrail.inspect_checkpoint(path, given={"num_heads": 2})
    asked = run("models", path, "--set", "num_heads=2", "--json")
    assert (found.to_json(), found.is_convertible) == (asked.document, True)
    told(found, capsys, "torchvision: fits", "vitrail convert", "num_heads=2")
    done = vitrail.convert(path, tmp_path / "out", to="vitrail", given={"num_heads": 2})
    told(done, capsys, str(tmp_path / "out"), "the written copy equals what was read")
    own = vitrail.inspect_checkpoint(tmp_path / "out")
    assert own.to_json() == run("models", tmp_path / "out", "--json").document
    told(own, capsys, "a model of vitrail")
    with pytest.raises(ModelError, match="VIT-430"):
        vitrail.inspect_checkpoint(tmp_path / "nothing")
    with pytest.raises(UsageError, match="VIT-211"):
        vitrail.inspect_checkpoint(path, given={"heads": 2})


def test_what_cannot_be_converted_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = vitrail.inspect_checkpoint(CASES / "torchvision_vit" / "vit_mu_8.pth")
    assert not found.is_convertible
    told(found, capsys, "VIT-419", "one of 1, 2, 4")


def test_an_export_and_a_push(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e"
    done = vitrail.export(model, out, to="torch", images="builtin:digits", check=17)
    told(done, capsys, str(out / done.record.file.name), "on 17 images", "bfloat16")
    plan = vitrail.push(model, "me/flowers", dry_run=True)
    told(plan, capsys, "me/flowers", "model.safetensors", "not sent")
    told(replace(plan, url="https://hub/me/flowers"), capsys, "sent: https://hub/me/flowers")


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.iterdir()}


def test_sheets_are_those_of_the_command(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = vitrail.explain_sheets(model, photos, tmp_path / "s", ["rollout", "relevance"])
    run("explain", model, photos, "--sheet", "rollout,relevance", "--out", tmp_path / "c")
    assert files_below(tmp_path / "s") == files_below(tmp_path / "c")
    assert len(made.sheets) == 8
    told(made, capsys, "explain.html", "bad.png")
    with pytest.raises(UsageError, match="VIT-206"):
        vitrail.explain_sheets(model, photos, tmp_path / "s")
    with pytest.raises(DataError, match=r"VIT-362.*bad.png"):
        vitrail.explain_sheets(model, photos / "a" / "bad.png", tmp_path / "n")
    assert not (tmp_path / "n").exists()
    loaded = vitrail.load(model)
    again = vitrail.explain_sheets(loaded, [photos / "a" / "0.png"], tmp_path / "l", "rollout")
    assert [one.methods[0]["method"] for one in again.sheets] == ["rollout"]


def test_figures_of_a_model_are_those_of_the_command(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = vitrail.model_figures(trained, tmp_path / "f", num=7)
    run("explain", trained, "--figures", "--num", 7, "--out", tmp_path / "c")
    assert files_below(tmp_path / "f") == files_below(tmp_path / "c")
    assert sorted(made.files) == sorted((tmp_path / "f").iterdir())
    told(made, capsys, *map(str, made.files))
    alone = vitrail.model_figures(vitrail.load(trained), tmp_path / "g", num=7)
    assert "need images" in " ".join(alone.notes)
    with pytest.raises(UsageError, match="VIT-206"):
        vitrail.model_figures(trained, tmp_path / "f")
    with pytest.raises(UsageError, match="VIT-202"):
        vitrail.model_figures(trained, tmp_path / "h", num=0)


def test_faithfulness_is_that_of_the_command(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = vitrail.faithfulness(model, photos)
    assert (found.n, len(found.skipped)) == (7, 1)
    found.write(tmp_path / "f")
    asked = run("explain", model, photos, "--faithfulness", "--out", tmp_path / "c", "--json")
    assert files_below(tmp_path / "f") == files_below(tmp_path / "c")
    assert found.to_json()["results"][0]["n"] == asked.document["results"][0]["n"] == 7
    told(found, capsys, "deletion area (small is good)", "random", "bad.png")
    with pytest.raises(UsageError, match="VIT-206"):
        found.write(tmp_path / "f")


def test_a_step_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone_wrong = diverged(tmp_path, **TOO_FAST)
    threads = torch.get_num_threads()
    before = torch.get_rng_state()
    found = vitrail.replay(gone_wrong)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    asked = run("doctor", "--replay", gone_wrong, "--json").document
    plain = {
        name: list(one) if isinstance(one, tuple) else one for name, one in found.to_json().items()
    }
    assert plain == asked
    told(found, capsys, f"step {found.step}", found.layer, found.parameters[0])
    with pytest.raises(ModelError, match="VIT-40"):
        vitrail.replay(tmp_path)
