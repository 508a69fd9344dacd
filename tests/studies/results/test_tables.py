from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.studies.made_rows import made_row
from vitrail.errors import EnvironmentFault
from vitrail.studies.results import tables
from vitrail.studies.results.tables import Line, columns, parquet_bytes, write_csv, write_parquet

ROWS = [
    made_row("ViT", 0, {"pictures": 500, "lr": 3e-4}, {"test/top1": 0.1 + 0.2, "macs": 10**12}),
    made_row('BiT, "x"\n', 1, {"pictures": 1000, "lr": 1}, {"test/top1": 1 / 3, "val": 0.5}),
]
NAMES = [
    "study",
    "arm",
    "pictures",
    "lr",
    "seed",
    "test/top1",
    "macs",
    "seconds",
    "run",
    "key",
    "val",
]


def test_columns_are_all_names_in_order_of_appearance() -> None:
    assert columns([row.flat() for row in ROWS]) == NAMES


def test_csv_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    write_csv(ROWS, path)
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == NAMES
    assert float(first["test/top1"]) == 0.1 + 0.2
    assert (first["macs"], first["pictures"], first["val"]) == ("1000000000000", "500", "")
    assert (second["macs"], second["arm"], second["val"]) == ("", 'BiT, "x"\\x0a', "0.5")


def test_tables_without_pyarrow_are_csv_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.write_tables(ROWS, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "table.parquet"}
    (tmp_path / "table.parquet").unlink()
    monkeypatch.setattr(tables, "find_spec", lambda name: None)
    tables.write_tables(ROWS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_parquet_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_parquet(ROWS, path)
    table = parquet.read_table(path)
    assert table.column_names == NAMES
    lines = [row.flat() for row in ROWS]
    assert table.to_pylist() == [{name: line.get(name) for name in NAMES} for line in lines]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert {name for name, kind in kinds.items() if kind == "int64"} == {"pictures", "seed", "macs"}
    assert kinds["lr"] == "double"  # 3e-4 and 1
    assert kinds["run"] == "string"


def test_mixed_and_large_and_undecodable_cells() -> None:
    lines: list[Line] = [{"x": 1, "big": 2**70, "none": None, "name": "a\udcff"}, {"x": "two"}]
    table = parquet.read_table(io.BytesIO(parquet_bytes(lines)))
    assert table.to_pydict() == {
        "x": ["1", "two"],
        "big": [float(2**70), None],
        "none": [None, None],
        "name": ["escaped:a\\xff", None],
    }


def test_no_rows_make_an_empty_table(tmp_path: Path) -> None:
    write_csv([], tmp_path / "a.csv")
    write_parquet([], tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 0


def test_a_table_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_csv(ROWS, path)
    write_csv(ROWS[:1], path)
    assert len(path.read_text().splitlines()) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(EnvironmentFault, match="VIT-506"):
        write_csv(ROWS, path / "below.csv")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentFault) as caught:
        write_parquet(ROWS, tmp_path / "a.parquet")
    assert caught.value.code == "VIT-520"
    assert "pip install 'pyarrow" in caught.value.hint
    write_csv(ROWS, tmp_path / "a.csv")
