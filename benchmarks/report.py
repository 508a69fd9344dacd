"""What a run's look at its data and its report take: seconds and bytes.

Trains a small ViT for a few steps on DATA and then times the audit and the report apart:
python -m benchmarks.report ../shared/data/fashion_mnist --steps 300
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import vitrail
from vitrail.classifier import load
from vitrail.data.sources.open_data import open_data
from vitrail.evaluation.labels.audit import Limits, audit
from vitrail.report.run_report import write_report
from vitrail.training.shipped_model import inside_of


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="leave the run in this folder")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        run = vitrail.train(asked.data, runs_dir=folder, steps=asked.steps).run_dir
        splits = open_data(asked.data)
        judged = {"test": load(run).evaluate(asked.data, split="test")}
        started = time.perf_counter()
        found = audit(splits, judged, Limits(max_secs=600))
        audited = time.perf_counter()
        write_report(run, inside=inside_of(load(run)))
        written = time.perf_counter()
        size = (run / "report.html").stat().st_size
    figures = {
        "pictures": {part: len(source) for part, source in splits.parts().items()},
        "audit_s": round(audited - started, 1),
        "groups": len(found.duplicates.groups) if found.duplicates else None,
        "suspects": {split: len(own.found) for split, own in found.suspects.items()},
        "report_s": round(written - audited, 1),
        "report_bytes": size,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
