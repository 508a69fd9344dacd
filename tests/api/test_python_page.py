"""docs/python.md: its reference is that of the code, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import vitrail
from benchmarks.python_page import FUNCTIONS, PAGE, RECORDS, RESULTS, page


def test_the_reference_is_that_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "make docs-python"


def test_every_public_name_is_told() -> None:
    told = (*FUNCTIONS, *RESULTS, *RECORDS, "VitrailError", "errors")
    assert sorted(told) == vitrail.__all__
    assert issubclass(vitrail.errors.DataError, vitrail.VitrailError)
    headings = re.findall(r"^### vitrail\.(\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [*FUNCTIONS, *RESULTS, *RECORDS]


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(
        r"^```python\n(import.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    assert isinstance(names["found"], vitrail.Evaluation)
    assert names["found"].top1 > 0.2
    assert isinstance(names["why"], vitrail.Explanation)
