"""Cost of growth: processor time and memory of commands over images, classes, resolution, depth.

    python -m benchmarks.growth [--axis images,classes,resolution,depth] [--most 64000]

Every command runs in a child process forked when everything is imported, on one thread; what is
counted is its processor time (of its own processes too), which other work on the machine hardly
changes, and how far its memory grows. The exponent is the slope of log(time - time of the smallest)
over log(size - smallest size): 1 for whatever is linear, however large a constant comes with it.
Writes results/growth.json and docs/images/growth-AXIS.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.timing import RESULTS, write_result
from vitrail.figures.plot import Figure, Series, plot

OUT = Path(__file__).parents[1] / "docs" / "images"
AXES: dict[str, tuple[int, ...]] = {
    "images": (1_000, 4_000, 16_000, 64_000),
    "classes": (10, 1_000, 7_000, 21_841),
    "resolution": (1_024, 4_096, 9_216, 16_384),
    "depth": (2, 4, 8, 16),
}
UNITS = {
    "images": "images",
    "classes": "classes",
    "resolution": "pixels of an image",
    "depth": "blocks",
}
PX, PER_CLASS, HELD, FILES = 16, 2, 256, 64
TINY = {"width": 32, "depth": 2, "num_heads": 2, "mlp_dim": 64, "patch_size": 4}
Case = dict[str, Callable[[], object]]
Row = dict[str, Any]


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds and MB of growth of `work`, in a process of its own."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(Exception):
            started, before = processor_secs(), memory_mb()
            with quiet():
                work()
            found = [processor_secs() - started, memory_mb() - before]
            os.write(writable, json.dumps(found).encode())
            code = 0
        os._exit(code)
    os.close(writable)
    with os.fdopen(readable) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return tuple(json.loads(text)) if text else (math.nan, math.nan)


def processor_secs() -> float:
    """Of this process and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, kinds))


def memory_mb() -> float:
    """The most that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without output."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        with contextlib.redirect_stderr(nowhere):
            yield


def arrays(path: Path, count: int, classes: int, side: int = PX) -> Path:
    """`count` training images, and HELD each to validate and to test, as .npz: smooth noise."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {"classes": np.array([f"c{number:05d}" for number in range(classes)])}
    for part, size in (("train", count), ("val", HELD), ("test", HELD)):
        coarse = rng.integers(0, 256, (size, side // 4, side // 4, 3), dtype=np.uint8)
        content[f"x_{part}"] = coarse.repeat(4, axis=1).repeat(4, axis=2)
        content[f"y_{part}"] = np.arange(size) % classes
    np.savez(path, **content)
    return path


def trained(data: Path, folder: Path, name: str, side: int = PX, **model: int) -> Path:
    """A run of a few steps, without the work that follows training."""
    from vitrail.training import loop

    settings: dict[str, Any] = {"data.path": str(data), "model.name": "vit_ti4", "steps": 4}
    settings |= {f"model.{key}": value for key, value in {**TINY, **model}.items()}
    settings |= {
        "data.image_size": side,
        "recipe": "small.scratch",
        "batch_size": 32,
        "residual_baseline": False,
    }
    settings |= {"threads": 1, "eval_every_epochs": 1e6, "precision": "float32"}
    shutil.rmtree(folder / name, ignore_errors=True)
    layers = [("benchmark", settings)]
    loop.train(layers, runs_dir=folder, name=name, with_report=False, with_test=False)
    return folder / name


def command(*words: object) -> None:
    """A command of vitrail; an exit code that is no success is a fault here."""
    from vitrail.cli.main import main as vitrail

    code = vitrail([str(word) for word in words])
    assert code == 0, (words, code)


def evaluated(run: Path, data: Path, out: Path) -> None:
    """The model of a run on the training images of `data`."""
    shutil.rmtree(out, ignore_errors=True)
    command("eval", run, data, "--split", "train", "--out", out)


def predicted(run: Path, listed: Path, place: Path) -> None:
    """A table of the files that are listed."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        command("predict", run, "--files-from", listed, "--out", Path(folder) / "p.csv")


def apart(work: Callable[[], object]) -> None:
    """In a process of its own, whose memory is gone with it. Raises RuntimeError where it fails."""
    if math.isnan(measured(work)[0]):
        raise RuntimeError("what is measured could not be prepared")


def on_data(place: Path, count: int, classes: int) -> Case:
    """What is done with `count` images of `classes` classes."""
    data, run, kept = place / "d.npz", place / "run", place / "eval"
    apart(lambda: arrays(data, count, classes))
    apart(lambda: trained(data, place, "run"))
    return {
        "check": lambda: command("data", "check", data),
        "plan": lambda: command("train", data, "--print-config"),
        "4 steps": lambda: trained(data, place, "again"),
        "eval": lambda: evaluated(run, data, kept),
        "report": lambda: command("report", run),
    }


def on_model(place: Path, side: int, model: dict[str, int]) -> Case:
    """What is done with a model, of a few images of side x side px."""
    data, run = place / "d.npz", place / "run"
    apart(lambda: arrays(data, HELD, 10, side))
    apart(lambda: trained(data, place, "run", side, **model))
    return {
        "4 steps": lambda: trained(data, place, "again", side, **model),
        "eval": lambda: evaluated(run, data, place / "eval"),
    }


def images_case(place: Path, count: int) -> Case:
    """Images; prediction reads a few files again and again."""
    found = on_data(place, count, 10)
    rng = np.random.default_rng(1)
    for number in range(FILES):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg")
    listed = place / "files.txt"
    listed.write_text("\n".join(str(place / f"{n % FILES}.jpg") for n in range(count)))
    return found | {"predict": lambda: predicted(place / "run", listed, place)}


def classes_case(place: Path, count: int) -> Case:
    """Classes, of the same number of images."""
    return on_data(place, PER_CLASS * AXES["classes"][-1], count)


def resolution_case(place: Path, pixels: int) -> Case:
    """Square images of so many pixels in patches of 4 x 4: tokens grow alike."""
    return on_model(place, math.isqrt(pixels), {})


def depth_case(place: Path, depth: int) -> Case:
    """Blocks of the model."""
    return on_model(place, 32, {"depth": depth})


CASES: dict[str, Callable[[Path, int], Case]] = {
    "images": images_case,
    "classes": classes_case,
    "resolution": resolution_case,
    "depth": depth_case,
}


def rows_of(axis: str, sizes: list[int], rounds: int) -> list[Row]:
    """A row for each command and size: the least of `rounds`, which others disturbed least."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            for name, work in CASES[axis](Path(place), size).items():
                seconds, mb = map(min, zip(*(measured(work) for _ in range(rounds)), strict=True))
                rows.append({"what": name, "size": size, "cpu_secs": seconds, "mb": mb})
                print(axis, rows[-1], flush=True)
    return rows


def exponent(rows: list[Row], what: str, column: str) -> float:
    """Slope of log(value - first) over log(size - first), by least squares; NaN where the value
    grows by less than a tenth, which is noise.
    """
    points = [(row["size"], row[column]) for row in rows if row["what"] == what]
    (start, first), rest = points[0], points[1:]
    grown = [(size - start, value - first) for size, value in rest if value > first]
    if len(grown) < 2 or grown[-1][1] < 0.1 * first:
        return math.nan
    x, y = (np.log([one[place] for one in grown]) for place in (0, 1))
    return float(np.polyfit(x, y, 1)[0])


def figure(axis: str, rows: list[Row]) -> Figure:
    """Processor time over the size."""
    names = list(dict.fromkeys(row["what"] for row in rows))
    series = [
        Series(
            name,
            [float(row["size"]) for row in rows if row["what"] == name],
            [float(row["cpu_secs"]) for row in rows if row["what"] == name],
            colour=colour,
        )
        for colour, name in enumerate(names)
    ]
    title = f"Processor time of commands over {UNITS[axis]}"
    return Figure(
        f"growth-{axis}", title, UNITS[axis], "processor seconds", series, log_x=True, log_y=True
    )


def table(axis: str, rows: list[Row]) -> str:
    """The rows as Markdown: seconds and MB by size, and the exponents."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    lines = [
        "| | " + " | ".join(f"{size:,}" for size in sizes) + " | exponent, time | memory |",
        "|---" * (len(sizes) + 3) + "|",
    ]
    for name in dict.fromkeys(row["what"] for row in rows):
        cells = [f"{r['cpu_secs']:.2f} s, {r['mb']:.0f} MB" for r in rows if r["what"] == name]
        found = [exponent(rows, name, column) for column in ("cpu_secs", "mb")]
        texts = ["-" if math.isnan(one) else f"{one:.2f}" for one in found]
        lines.append("| " + " | ".join([f"{name}, {axis}", *cells, *texts]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print tables, write results and figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--axis", default=",".join(AXES))
    parser.add_argument("--most", type=int, default=10**9, help="leave larger sizes out")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, quiet():  # everything is imported once
        for work in images_case(Path(place), 200).values():
            work()
    kept = RESULTS / "growth.json"
    found = json.loads(kept.read_text())["axes"] if kept.is_file() else {}
    for axis in asked.axis.split(","):
        sizes = [size for size in AXES[axis] if size <= asked.most]
        found[axis] = rows_of(axis, sizes, asked.rounds)
        (OUT / f"growth-{axis}.svg").write_text(plot(figure(axis, found[axis])).file())
        print(table(axis, found[axis]), file=sys.stdout, flush=True)
        write_result("growth", {"axes": found, "at": time.strftime("%Y-%m-%d")})


if __name__ == "__main__":
    main()
