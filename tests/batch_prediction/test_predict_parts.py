"""A table made of parts: equal to the straight one, continued, never doubled, never overwritten."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.batch_prediction.many_images import parts_there, save_many, save_model
from tests.cli.cli_command import Done, run
from vitrail.batch_prediction import ray_parts
from vitrail.batch_prediction.part_store import Counts, PartStore
from vitrail.batch_prediction.parts import Images, Part, key_of, parts_of
from vitrail.batch_prediction.predict_parts import OnThisMachine, predict_parts
from vitrail.classifier import load
from vitrail.errors import EnvironmentFault, UsageError

COUNT, BAD, ROWS = 23, 2, 5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with model/ and photos/."""
    folder, before = tmp_path_factory.mktemp("parts"), Path.cwd()
    save_model(folder / "model")
    save_many(folder / "photos", COUNT, bad=BAD)
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture
def out(place: Path, tmp_path: Path) -> Path:
    """A name for a table; `place` is the working directory."""
    assert Path.cwd() == place
    return tmp_path / "p.csv"


def made(out: Path, *words: object) -> Done:
    done = run("predict", "model", "photos", "--out", out, *words)
    assert done.code == 0, done.err
    return done


class KilledError(Exception):
    """What ends a computation in these tests."""


def until(number: int, compute: OnThisMachine) -> Callable[..., Iterator[tuple[Part, Counts]]]:
    """As `compute`, but it dies within its part `number`, after two rows."""

    def dying(
        store: PartStore, parts: Sequence[Part], told: Callable[[int], None]
    ) -> Iterator[tuple[Part, Counts]]:
        def tell(rows: int) -> None:
            told(rows)
            tell.rows += rows  # type: ignore[attr-defined]
            if tell.rows == number * ROWS + 2:  # type: ignore[attr-defined]
                raise KilledError

        tell.rows = 0  # type: ignore[attr-defined]
        yield from compute(store, parts, tell)

    return dying


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_in_parts_is_the_table_at_once(out: Path, suffix: str) -> None:
    straight, parted = out.with_suffix(suffix), out.with_name("parts" + suffix)
    made(straight, "--batch-size", ROWS)
    done = made(parted, "--part-rows", ROWS, "--json")
    assert parted.read_bytes() == straight.read_bytes()
    assert done.document == {
        "out": str(parted),
        "rows": COUNT,
        "errors": BAD,
        "parts": 5,
        "found": 0,
    }
    assert f"{BAD} of {COUNT} images have no answer" in done.err
    success = json.loads((out.parent / f"{parted.name}.parts/_SUCCESS.json").read_text())
    assert (success["rows"], success["errors"]) == (COUNT, BAD)
    assert parts_there(parted) == []


def test_an_image_that_cannot_be_read_has_its_row_with_the_reason(out: Path) -> None:
    made(out, "--part-rows", ROWS, "--top", 1)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert list(rows[0]) == ["source", "label", "score", "error"]
    assert [row["source"] for row in rows] == [f"photos/{n:05d}.png" for n in range(COUNT)]
    assert [bool(row["error"]) for row in rows] == [True] * BAD + [False] * (COUNT - BAD)
    assert all(row["label"] == "" for row in rows[:BAD])


def test_the_types_of_parquet_do_not_depend_on_what_is_in_it(out: Path) -> None:
    table = out.with_suffix(".parquet")
    done = run("predict", "model", "photos/00000.png", "--out", table)
    assert done.code == 3
    kinds = {field.name: str(field.type) for field in parquet.read_schema(table)}
    assert kinds == {"source": "string", "label": "string", "score": "double", "error": "string"}


@pytest.mark.parametrize("number", [0, 2, 4])
def test_what_was_computed_before_an_end_is_not_computed_again(out: Path, number: int) -> None:
    images = Images([f"photos/{n:05d}.png" for n in range(COUNT)])
    classifier = load("model")
    parts = parts_of(images, ROWS, {"identity": classifier.identity, "top": 5})
    compute, told = OnThisMachine(classifier, 5, ROWS), []
    with pytest.raises(KilledError):
        predict_parts(out, parts, {}, until(number, compute), lambda *done: None)
    assert not out.exists()
    assert parts_there(out) == [part.name for part in parts[:number]]
    result = predict_parts(out, parts, {}, compute, lambda *done: told.append(done))
    assert (result.computed, result.counts) == (5 - number, Counts(COUNT, BAD, 5))
    assert (told[0], told[-1]) == ((number * ROWS, COUNT), (COUNT, COUNT))
    straight = out.with_name("straight.csv")
    made(straight, "--batch-size", ROWS)
    assert out.read_bytes() == straight.read_bytes()


def test_the_same_command_after_the_end_changes_nothing(out: Path) -> None:
    made(out, "--part-rows", ROWS)
    before = (out.read_bytes(), out.stat().st_mtime_ns)
    done = made(out, "--part-rows", ROWS)
    assert "5 of 5 parts had been computed before" in done.out
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before


def test_an_end_between_the_table_and_its_record_is_made_good(out: Path) -> None:
    made(out, "--part-rows", ROWS)
    folder = out.parent / "p.csv.parts"
    (folder / "_SUCCESS.json").unlink()
    (folder / "part-00000-0123456789abcdef.jsonl").write_text("left over\n")
    made(out, "--part-rows", ROWS)
    assert {one.name for one in folder.iterdir()} == {".lock", "job.json", "_SUCCESS.json"}


@pytest.mark.parametrize("words", [("--top", 2), ("--part-rows", 7)])
def test_a_table_of_something_else_is_not_overwritten(out: Path, words: tuple[object, ...]) -> None:
    made(out, "--part-rows", ROWS)
    before = out.read_bytes()
    done = run("predict", "model", "photos", "--out", out, "--part-rows", ROWS, *words[:2])
    if words[0] == "--part-rows":
        done = run("predict", "model", "photos", "--out", out, *words)
    assert done.code == 2
    assert "VIT-206" in done.err
    assert out.read_bytes() == before


def test_a_table_that_somebody_changed_is_not_overwritten(out: Path) -> None:
    made(out, "--part-rows", ROWS)
    out.write_text("mine\n")
    done = run("predict", "model", "photos", "--out", out, "--part-rows", ROWS)
    assert (done.code, out.read_text()) == (2, "mine\n")


def test_a_damaged_part_is_computed_again(out: Path) -> None:
    images = Images([f"photos/{n:05d}.png" for n in range(COUNT)])
    classifier = load("model")
    parts = parts_of(images, ROWS, {"identity": classifier.identity, "top": 5})
    with pytest.raises(KilledError):
        predict_parts(
            out, parts, {}, until(3, OnThisMachine(classifier, 5, ROWS)), lambda *done: None
        )
    folder = out.parent / "p.csv.parts"
    whole = (folder / parts[0].name).read_text()
    (folder / parts[0].name).write_text(whole.replace('"label": "', '"label": "x', 1))
    (folder / parts[1].name).write_text("".join(whole.splitlines(keepends=True)[:3]))
    done = made(out, "--part-rows", ROWS, "--batch-size", ROWS)
    assert "1 of 5 parts had been computed before" in done.out


def test_a_part_belongs_to_its_images_its_model_and_its_question(place: Path) -> None:
    names = [str(place / f"photos/{n:05d}.png") for n in range(10)]
    asked = {"identity": "a", "top": 5}
    before = parts_of(Images(names), ROWS, asked)
    assert parts_of(Images(names), ROWS, asked) == before
    assert key_of(before) != key_of(parts_of(Images(names), ROWS, {**asked, "top": 4}))
    assert key_of(before) != key_of(parts_of(Images(names[1:]), ROWS, asked))
    os.utime(names[7], ns=(1, 1))
    after = parts_of(Images(names), ROWS, asked)
    assert [one.key == other.key for one, other in zip(before, after, strict=True)] == [True, False]


def test_another_model_of_the_same_name_has_another_identity(place: Path) -> None:
    first = load(place / "model")
    assert load(place / "model").identity == first.identity
    second = load(place / "model")
    with_other_weights = next(iter(second.model.parameters()))
    with_other_weights.data[0] += 1
    third = load(place / "model")
    third.temperature *= 2
    assert len({first.identity, second.identity, third.identity}) == 3


def test_two_commands_at_one_table(out: Path) -> None:
    store = PartStore(out)
    with store.lock(), pytest.raises(EnvironmentFault, match="at this table") as caught:
        predict_parts(out, [], {}, lambda *_: iter(()), lambda *done: None)
    assert caught.value.code == "VIT-504"


def test_parts_without_a_table_are_a_mistake() -> None:
    done = run("predict", "model", "photos", "--part-rows", 3)
    assert (done.code, "--part-rows needs a table" in done.err) == (2, True)


def test_all_images_bad_is_an_error_with_a_table(out: Path, place: Path) -> None:
    done = run("predict", "model", "photos/00000.png", "--out", out, "--part-rows", 1)
    assert done.code == 3
    assert len(out.read_text().splitlines()) == 2


def test_images_of_a_list_and_of_a_table(out: Path, place: Path) -> None:
    Path("list.txt").write_text("photos/00004.png\nno such.png\nphotos/00003.png\n")
    Path("photos/table.csv").write_text("label,path\na,00004.png\nb,00003.png\n")
    records = run("predict", "model", "--files-from", "list.txt", "--json").document
    assert [one["source"] for one in records] == [
        "photos/00004.png",
        "no such.png",
        "photos/00003.png",
    ]
    assert [bool(one["error"]) for one in records] == [False, True, False]
    rows = run("predict", "model", "--files-from", "photos/table.csv", "--json").document
    assert [one["label"] for one in rows] == [one["label"] for one in records[::2]]
    assert run("predict", "model", "--files-from", "none.txt").code == 3
    Path("empty.txt").write_text("\n")
    assert "VIT-361" in run("predict", "model", "--files-from", "empty.txt").err
    Path("odd.csv").write_text("name,label\na,b\n")
    assert "VIT-310" in run("predict", "model", "--files-from", "odd.csv").err


def test_more_images_than_a_part_has_rows_go_in_parts(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.cli.verbs.predict.PART_ROWS", 6)
    assert made(out, "--json").document["parts"] == 4
    assert run("predict", "model", "photos", "--json").document[3]["label"]


def test_a_full_disk_leaves_whole_parts_only(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.files.flush_to_disk", full)
    done = run("predict", "model", "photos", "--out", out, "--part-rows", ROWS)
    assert (done.code, "VIT-506" in done.err) == (5, True)
    assert parts_there(out) == []
    monkeypatch.undo()
    made(out, "--part-rows", ROWS)


def test_usage_error_is_raised_before_the_model_is_loaded(out: Path) -> None:
    out.write_text("mine\n")
    done = run("predict", "no-model", "photos", "--out", out, "--part-rows", ROWS)
    assert (done.code, UsageError.exit_code) == (2, 2)


def test_a_cluster_is_asked_at_the_address_that_was_given(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def connect(address: str, hint: str) -> None:
        asked.append(address)
        raise EnvironmentFault("VIT-520", "there is no cluster here", hint=hint)

    monkeypatch.setattr(ray_parts, "connect", connect)
    words = ("--out", out, "--cluster", "ray", "--ray-address", "10.0.0.7:6379")
    done = run("predict", "model", "photos", *words)
    assert (done.code, asked) == (5, ["10.0.0.7:6379"]), done.err
