"""A document of a run, an export or an index that has a key twice is refused, whoever reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.documents import parse_json
from vitrail.errors import VitrailError
from vitrail.folder import Folder
from vitrail.runs import documents

RUN = '{"schema": 1, "status": "running", "status": "finished"}'


@pytest.mark.promise("R15")
@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": {"a": 1, "a": 2}}', '[{"":0,"":0}]'])
def test_json(text: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_json(text)


@pytest.mark.promise("R15")
def test_a_document_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(RUN)
    with pytest.raises(VitrailError, match="'status' twice") as caught:
        documents.read(Folder(tmp_path), "run.json")
    assert caught.value.code == "VIT-409"
