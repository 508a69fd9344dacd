"""What else the commands do, from Python: predict, probe, serve, push, tune, data, models."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.cli.cli_command import run
from vitrail.errors import DataError, ModelError, UsageError


def test_predict_is_the_record_of_the_command(model: Path, photos: Path) -> None:
    told = run("predict", model, photos, "--json", "--top", 2).document
    ours = vitrail.predict(model, photos, top=2, threads=1)
    assert [one.source for one in ours] == [one["source"] for one in told]
    for one, other in zip(ours, told, strict=True):
        assert (one.label, one.error) == (other["label"], other["error"])
        assert [found.label for found in one.top] == [found["label"] for found in other["top"]]
    assert sum(one.error is not None for one in ours) == 1
    loaded = vitrail.load(model)
    image = np.asarray(Image.open(photos / "b" / "1.png"))
    (alone,) = vitrail.predict(loaded, image)
    assert alone.label == next(one for one in ours if one.source.endswith("1.png")).label
    with pytest.raises(UsageError, match="VIT-203"):
        vitrail.predict(loaded, photos, engine="torch")
    with pytest.raises(DataError, match="VIT-360"):
        vitrail.predict(model, photos / "nothing.png")


def test_a_table_is_that_of_the_command(model: Path, photos: Path, tmp_path: Path) -> None:
    done = vitrail.predict_table(
        model, photos, tmp_path / "a.csv", part_rows=3, progress=False, threads=1
    )
    assert (done.counts.rows, done.counts.errors, done.parts, done.computed) == (8, 1, 3, 3)
    words = ("--out", tmp_path / "b.csv", "--part-rows", 3, "--threads", 1)
    assert run("predict", model, photos, *words).code == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    again = vitrail.predict_table(model, photos, tmp_path / "a.csv", part_rows=3, progress=False)
    assert again.computed == 0
    with pytest.raises(UsageError, match="VIT-202"):
        vitrail.predict_table(model, photos, tmp_path / "a.xlsx")


def test_probe_of_a_model_and_of_a_classifier(trained: Path) -> None:
    options: dict[str, Any] = {"kind": "knn", "k": [1, 5], "cache": False, "progress": False}
    ours = vitrail.probe(trained, device="cpu", **options)
    words = ("--kind", "knn", "--k", "1,5", "--no-cache", "--out", trained.parent / "p.json")
    told = run("probe", trained, "--device", "cpu", *words, "--json").document
    assert json.loads(json.dumps(ours.to_json()))["results"] == told["results"]
    loaded = vitrail.load(trained)
    assert vitrail.probe(loaded, "builtin:digits", **options).n == ours.n
    with pytest.raises(UsageError, match="VIT-208"):
        vitrail.probe(loaded, **options)


def test_models_weights_and_what_is_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    (one,) = vitrail.models("ViT-B/16", classes=10)
    told = run("models", "vit_b16", "--classes", 10, "--json").document
    assert one.items() <= {**told, "name": "ViT-B/16"}.items()
    assert vitrail.models("vit_b16", image_size=(192, 256))[0]["image_size"] == [192, 256]
    assert "vit_ti16" in repr(vitrail.models())
    published = vitrail.weights("vit_b16")
    assert {row["model"] for row in published} == {"vit_b16"}
    assert published._repr_html_().count("<tr>") == len(published) + 1
    with pytest.raises(UsageError, match="VIT-202"):
        vitrail.download("runs/photos-1")
    assert capsys.readouterr().out == ""


def test_datasets(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = vitrail.check_data(photos, progress=False)
    told = run("data", "check", photos, "--json").document
    assert {**json.loads(json.dumps(found.to_json())), "files": []} == told
    assert any("decoded" in one for one in found.problems), found.problems
    found.show()
    assert "finding" in capsys.readouterr().out
    pages = found.write(tmp_path / "report")
    assert [page.name for page in pages] == ["data_report.html", "bad_files.csv", "duplicates.csv"]
    whole = tmp_path / "whole"
    shutil.copytree(photos, whole, ignore=shutil.ignore_patterns("bad.png"))
    split = vitrail.split_data(whole, tmp_path / "s.csv", val_fraction=0.3, test_fraction=0)
    assert split.file.read_text().startswith("path,label,split\n")
    assert sum(split.splits.counts().values()) == 7
    sheet = vitrail.show_data(whole, count=3)
    assert (len(sheet.shown), sheet.image.width > sheet.image.height) == (3, True)
    record = vitrail.shard_data(whole, tmp_path / "shards")
    again = vitrail.index_data(tmp_path / "shards", tmp_path / "index")
    assert len(record.shards) == len(again.shards) == 1
    with pytest.raises(UsageError, match="VIT-206"):
        vitrail.get_data("digits", photos)


def test_push_sends_nothing_unless_it_is_told_to(model: Path) -> None:
    plan = vitrail.push(model, "me/flowers", dry_run=True)
    assert [one.name for one in plan.files] == ["README.md", "model.json", "model.safetensors"]
    assert plan.to_json()["sent"] is False
    with pytest.raises(UsageError, match=r"VIT-299.*was not said"):
        vitrail.push(model, "me/flowers")
    with pytest.raises(ModelError, match="VIT-446"):
        vitrail.push(model.parent, "me/flowers", yes=True)


def test_a_server_beside_us(model: Path, photos: Path) -> None:
    from vitrail.api import serving
    from vitrail.cli.verbs import serve as command

    assert serving.READY == command.READY
    with vitrail.serve(model, engine="torch", engines=1, decoders=1) as server:
        assert server.models == ["m"]
        body = (photos / "b" / "1.png").read_bytes()
        asked = urllib.request.Request(
            f"{server.url}/v1/classify", body, {"Content-Type": "image/png"}
        )
        with urllib.request.urlopen(asked, timeout=60) as answer:
            (first,) = json.load(answer)[:1]
        assert first["label"] == vitrail.predict(model, photos / "b" / "1.png")[0].label
        assert "running" in server._repr_html_()
    assert not server.is_running
    with pytest.raises(ModelError, match="VIT-43"):
        vitrail.serve(photos)
    with pytest.raises(UsageError, match=r"VIT-211.*prot"):
        vitrail.serve(model, prot=8000)  # type: ignore[call-arg]


def test_tune_is_quiet_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    asked: dict[str, Any] = {"over": ["optim.lr=1e-3..1e-2"], "trials": 1, "out": tmp_path}
    asked |= {"model": "vit_mu8", "steps": 3, "threads": 1, "device": "cpu"}
    asked |= {"settings": {"data.train_pictures": 61}, "progress": False}
    first = vitrail.tune("builtin:digits", **asked)
    assert capsys.readouterr().out == ""
    assert (len(first.found.rows), first.facts["best"]["trial"]) == (1, "0000")
    assert (first.folder / "best.toml").is_file()
    assert first.page.is_file()
    assert "--config" in first.next_commands[0]
    again = vitrail.tune("builtin:digits", **asked)
    assert again.facts == first.facts
    with pytest.raises(UsageError, match="VIT-202"):
        vitrail.tune("builtin:digits", budget="0m")


def test_importing_it_all_loads_no_torch_for_lists() -> None:
    import subprocess
    import sys

    program = "import sys, vitrail; vitrail.models('vit_b16'); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"
