"""model.json: a value that was changed or damaged after it was written is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.changed_values import changed
from vitrail.data.images.preprocess import Preprocess
from vitrail.documents import digest_of
from vitrail.errors import ModelError
from vitrail.model_folder.model_record import made_record, parse_record
from vitrail.models.names import resolve_model

NAME = Path("model.json")


@pytest.fixture(scope="module")
def text() -> str:
    config = resolve_model("vit_digits", num_classes=3, image_size=(8, 8), channels=3)
    preprocess = Preprocess(height=8, width=8, resize=(8, 8), mean=(0.1, 0.2, 0.3))
    record = made_record(
        NAME,
        architecture={"name": "vit_digits", "numbers": config.model_dump()},
        classes=["ant", "bee", "cat"],
        preprocess=preprocess.model_dump(),
        temperature=1.25,
        metrics={"val": {"top1": 0.5, "n": 7, "tiny": 1e-17}},
        trained_on={"data": "caf\u00e9", "split": None},
        versions={"vitrail": "0.1.0"},
        sha256="a" * 64,
    )
    return record.to_text()


def test_what_is_written_is_read(text: str) -> None:
    record, _, preprocess = parse_record(text.encode(), NAME)
    assert record.digest == digest_of(record)
    assert record.to_text() == text
    assert preprocess.mean == (0.1, 0.2, 0.3)


def test_every_changed_value_is_refused(text: str) -> None:
    documents = list(changed(json.loads(text)))
    assert len(documents) > 60
    for document in documents:
        with pytest.raises(ModelError) as error:
            parse_record(json.dumps(document).encode(), NAME)
        assert error.value.code in ("VIT-434", "VIT-435")


def test_a_change_by_hand_is_taken_where_the_digest_is_removed(text: str) -> None:
    document = json.loads(text)
    document["classes"] = ["ant", "bee", "cow"]
    with pytest.raises(ModelError, match="changed or damaged") as error:
        parse_record(json.dumps(document).encode(), NAME)
    assert '"digest"' in str(error.value.hint)
    del document["digest"]
    assert parse_record(json.dumps(document).encode(), NAME)[0].classes == ["ant", "bee", "cow"]
