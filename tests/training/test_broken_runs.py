"""A run with one file damaged ends with the same bits, or says what is other; it always can end."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.broken_runs import Fault, Outcome, ended, faults, outcome, stopped_run
from tests.training.running import weights
from vitrail.errors import ModelError, VitrailError
from vitrail.evaluation.record import Evaluation
from vitrail.training import loop

SEED = int(os.environ.get("VITRAIL_TEST_SEED", "0"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def golden(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("golden") / "run"
    shutil.copytree(whole, place)
    assert ended(place) == []
    return place


@pytest.fixture(autouse=True)
def _without_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """eval/SPLIT takes longer than all the rest, and is not what is damaged."""
    monkeypatch.setattr(Evaluation, "write", lambda self, folder, more=None: None)


def judged(whole: Path, golden: Path, place: Path, count: int) -> dict[str, Outcome]:
    found = {}
    for number, fault in enumerate(faults(whole, count, SEED)):
        found[f"{number} {fault}"] = outcome(whole, golden, fault, place)
    return found


def check(found: dict[str, Outcome]) -> None:
    silent = {name: one for name, one in found.items() if one.is_silent}
    stuck = {name: one for name, one in found.items() if not one.finished}
    assert not silent, silent
    assert not stuck, stuck


@pytest.mark.promise("R16")
@pytest.mark.timeout(600)
def test_a_damaged_file_changes_nothing_in_silence(
    whole: Path, golden: Path, tmp_path: Path
) -> None:
    check(judged(whole, golden, tmp_path, 8))


@pytest.mark.slow
@pytest.mark.promise("R16")
@pytest.mark.timeout(7200)
def test_five_hundred_damaged_files_change_nothing_in_silence(
    whole: Path, golden: Path, tmp_path: Path
) -> None:
    check(judged(whole, golden, tmp_path, 500))


def copied(whole: Path, place: Path) -> Path:
    shutil.copytree(whole, place / "run")
    return place / "run"


def refusal(run: Path) -> VitrailError:
    with pytest.raises(VitrailError) as caught:
        ended(run)
    return caught.value


@pytest.mark.promise("R16")
def test_a_damaged_best_is_told_and_gives_way(whole: Path, golden: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    record = json.loads((run / "run.json").read_text())
    best, file = record["best"]["step"], "ema.safetensors"
    newest = max(int(path.name[5:]) for path in run.glob("checkpoints/step-*"))
    if best == newest:  # make the one before it the best, as another run would have it
        pytest.skip("the newest is the best here")
    Fault(f"checkpoints/step-{best:08d}/{file}", "flip", 0.9).apply(run)
    said = ended(run)
    assert any("VIT-405" in text and f"step-{best:08d}, the best so far" in text for text in said)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert json.loads((run / "run.json").read_text())["best"]["step"] != best


@pytest.mark.promise("R15")
def test_an_edited_setting_is_named_with_both_values(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    text = (run / "config.toml").read_text()
    lr = next(line for line in text.splitlines() if line.startswith("lr = "))
    (run / "config.toml").write_text(text.replace(lr, "lr = 0.0123").replace("= 31", "= 30"))
    error = refusal(run)
    assert (error.code, error.exit_code) == ("VIT-410", 4)
    assert f"optim.lr = 0.0123, was {lr.removeprefix('lr = ')}" in error.message
    assert "batch_size = 30, was 31" in error.message
    assert "step-00000012" in error.message
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    (run / "config.toml").unlink()  # the way out
    assert any("written again" in text for text in ended(run))


@pytest.mark.promise("R15")
def test_what_changes_no_result_is_taken_and_said(
    whole: Path, golden: Path, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path)
    text = (run / "config.toml").read_text()
    changed = text.replace("save_every_steps = 4", "save_every_steps = 1")
    (run / "config.toml").write_text(changed + "\n# a comment\n")
    assert changed != text
    assert ended(run) == ["config.toml: save_every_steps is 1, was 4: taken; it changes no result"]
    assert weights(run) == weights(golden)


@pytest.mark.promise("R15")
def test_a_run_without_a_checkpoint_is_held_to_its_settings_too(
    whole: Path, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path)
    shutil.rmtree(run / "checkpoints")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("steps = 14", "steps = 15", 1))
    error = refusal(run)
    assert "steps = 15, was 14" in error.message
    assert "its start" in error.message


@pytest.mark.promise("R16")
def test_where_every_checkpoint_is_damaged_the_run_can_begin_again(
    whole: Path, golden: Path, tmp_path: Path
) -> None:
    run = copied(whole, tmp_path)
    for path in run.glob("checkpoints/*/state.json"):
        path.write_bytes(b"")
    error = refusal(run)
    assert error.code == "VIT-405"
    assert f"remove {run / 'checkpoints'}" in error.hint
    shutil.rmtree(run / "checkpoints")
    ended(run)
    assert weights(run) == weights(golden)


FORMS = {
    "a list": b"[]",
    "a number": b"3",
    "text": b'"a"',
    "binary": b"\xff\x00\xfe" * 9,
    "empty": b"",
    "deep": b"[" * 300_000,
    "an empty object": b"{}",
    "null": b"null",
    "deep object": b'{"a":' * 100_000,
    "infinity": b'{"status": 1e999}',
}
DOCUMENTS = ("examples.dat", "run.json", "data.json", "config.toml", "state.json", "MANIFEST.json")


@pytest.mark.promise("M7")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_another_form_is_no_internal_error(
    whole: Path, tmp_path: Path, name: str
) -> None:
    run = copied(whole, tmp_path)
    places = [path for path in run.rglob(name) if path.is_file()]
    for form, content in FORMS.items():
        for path in places:
            path.write_bytes(content)
        error = refusal(run)
        assert 2 <= error.exit_code <= 4, (form, error)
        assert name in str(error), (form, error)


@pytest.mark.promise("M7")
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "data.json",
        "examples.dat",
        "config.toml",
        "metrics.jsonl",
        ".lock",
        "checkpoints",
        "state.json",
    ],
)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_a_run_are_refused_at_once(
    whole: Path, tmp_path: Path, name: str, kind: str
) -> None:
    run = copied(whole, tmp_path)
    victim = tmp_path / "victim"
    paths = list(run.rglob(name)) or [run / name]
    for path in paths:
        if path.is_dir():
            path.rename(victim)
        else:
            victim.write_bytes(path.read_bytes() if path.exists() else b"precious\n" * 5000)
            path.unlink(missing_ok=True)
        if kind == "link":
            path.symlink_to(victim)
        else:
            os.mkfifo(path)
    before = {path: path.read_bytes() for path in [victim, *victim.rglob("*")] if path.is_file()}
    error = refusal(run)
    assert 2 <= error.exit_code <= 5, error
    assert "a link" in str(error) or "a pipe" in str(error), error
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.promise("R17")
@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), RuntimeError("odd"), KeyboardInterrupt(), MemoryError()],
)
def test_the_status_is_true_whatever_ends_a_run(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run = copied(whole, tmp_path)

    def fail(*args: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "_step", fail)
    with pytest.raises(type(error)):
        ended(run)
    record = json.loads((run / "run.json").read_text())
    expected = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
    assert record["status"] == expected
    assert record["reason"]
    monkeypatch.undo()
    ended(run)
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("finished", None)


@pytest.mark.promise("R17")
def test_a_refused_resume_leaves_the_status_as_it_was(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    (run / "config.toml").write_text("steps = = 3")
    assert refusal(run).code == "VIT-409"
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"


@pytest.mark.promise("R17")
def test_a_report_that_fails_does_not_keep_a_run_from_ending(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.training.broken_runs import Listening
    from vitrail.training import finish

    run = copied(whole, tmp_path)
    seen: list[str] = []

    def fail(path: Path, **more: Any) -> None:
        seen.append(json.loads((path / "run.json").read_text())["status"])
        raise ZeroDivisionError("a fault of the page")

    monkeypatch.setattr(finish, "write_report", fail)
    monkeypatch.setattr(finish, "audit", fail)
    reporter = Listening()
    loop.resume(run, reporter=reporter)
    assert seen == ["running"]  # finished is written last of all
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert any("a fault of the page" in text for text in reporter.said)
    assert isinstance(reporter.said, list)


def test_a_checkpoint_that_does_not_fit_the_settings_is_refused(
    whole: Path, tmp_path: Path
) -> None:
    """As where config.toml and run.json of another run were copied over it."""
    other = stopped_run(tmp_path, "other", **{"model.width": 24})
    run = copied(whole, tmp_path)
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    error = refusal(run)
    assert isinstance(error, ModelError)
    assert "model.width = 16, was 24" in error.message
