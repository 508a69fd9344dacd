"""`vitrail doctor`: what this machine has, what is missing, and what it can train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.cli.arguments import app_of
from vitrail.cli.display.output import Output, table
from vitrail.cli.machine_plan import PlanOptions, show_plan
from vitrail.errors import UsageError, install_command, refuse_without_effect
from vitrail.spelling import count

app = app_of("vitrail doctor")


@app.default
def doctor(
    *,
    planned: PlanOptions | None = None,
    self_test: Annotated[bool, Parameter(negative=())] = False,
    replay: Path | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> int:
    """Look at this machine: versions, extras, memory, disk, precision, and what it can train.

    Parameters
    ----------
    self_test
        Train a tiny model, kill it, continue it and compare every bit, with 1 and 2 processes.
    replay
        Do the step again at which this run's loss or gradients were not finite, and say where.
    """
    is_plan = planned is not None and planned.plan is not None
    asked = {"--plan": is_plan, "--self-test": self_test, "--replay": replay is not None}
    ways = [name for name, is_asked in asked.items() if is_asked]
    refuse_without_effect(
        dict.fromkeys(ways[1:], True), "with " + "".join(ways[:1]), "Run them one after the other."
    )
    if planned is not None and planned.plan is not None:
        return show_plan(planned, output)
    if planned is not None and planned != PlanOptions():
        raise UsageError(
            "VIT-201",
            "--gpus and its like have no effect without --plan.",
            hint="For instance: vitrail doctor --plan vit_h14 --gpus 8 --gpu-memory 80GB --shard",
        )
    if self_test:
        return test_machine(output)
    if replay is not None:
        return show_replay(replay, output)
    from vitrail.api.doctor import doctor

    record = doctor()
    output.result(record, lines_of(record))
    return 5 if record["torch"] is None else 0


def test_machine(output: Output) -> int:
    """Try the promise of exact resume here; the exit code."""
    from dataclasses import asdict

    from vitrail.training.self_test import self_test

    found = self_test(output.note)
    lines = [
        f"self-test passed in {found.secs:.0f} s: killed and continued, runs have the bits of one "
        f"that was left alone (model {found.sha256[:12]})"
    ]
    output.result(asdict(found), lines)
    return 0


def show_replay(run: Path, output: Output) -> int:
    """Do a run's kept step again and print what was not finite; the exit code."""
    from vitrail.training.replay import replay

    found = replay(run)
    output.result(found.to_json(), [f"{name}: {value}" for name, value in found.rows()])
    return 0


EXTRAS = {  # what each is for, in the order of README
    "studies": "tables as Parquet too: compare, study, predict --out FILE.parquet",
    "hub": "models of the Hugging Face hub, hf:OWNER/NAME",
    "export": "vitrail export --to onnx",
    "onnx": "computing an ONNX export",
    "openvino": "computing it with OpenVINO",
    "serve": "vitrail serve",
    "tune": "vitrail tune",
    "stores": "shards in an object store, s3://BUCKET/FOLDER",
    "ray": "studies on a Ray cluster",
    "tensorboard": "vitrail train --track tensorboard",
    "mlflow": "vitrail train --track mlflow",
    "wandb": "vitrail train --track wandb",
}


def extra_lines(missing: dict[str, list[str]]) -> list[str]:
    """What is installed, and the command for each extra that is not."""
    known = [name for name in EXTRAS if name in missing]
    there = ", ".join(name for name in known if not missing[name])
    lines = [f"extras    {there or 'none installed'}"]
    for name in known:
        if missing[name]:
            lines.append(f"          {name} ({EXTRAS[name]}): {install_command(name)}")
    return lines


def lines_of(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    lines = [
        f"vitrail   {record['vitrail']}, Python {record['python']}, {record['system']}",
        f"machine   {record['cpus']} CPUs, {record['memory_bytes'] / 1e9:.1f} GB memory free, "
        f"{record['disk_free_bytes'] / 1e9:.1f} GB disk free",
        *extra_lines(record["extras"]),
    ]
    if torch := record["torch"]:
        lines.append(
            f"torch     {torch['version']}, {count(torch['threads'], 'thread')}, device "
            f"{torch['device']}, "
            f"{torch['gflops']:.0f} GFLOP/s"
        )
        lines.append(f"precision {torch['precision']} ({torch['precision_why']})")
        rows = [("model", "image", "batch that fits", "images/s in training (estimate)")]
        for item in record["train"]:
            size = "x".join(map(str, item["image_size"]))
            fits = str(item["batch"] or "none")
            speed = item["images_per_s"]
            rows.append((item["model"], size, fits, f"{speed:,.{0 if speed >= 10 else 2}f}"))
        lines += ["", *table(rows), ""]
    lines += [f"problem   {problem}" for problem in record["problems"]] or ["no problems found"]
    return [*lines, "next      vitrail train builtin:digits"]
