"""`vitrail serve` under attack: figures of docs/serve.md.

    python -m benchmarks.serving [swaps ends decoders overload hostile idle] [--share 0.1]

Every row starts the command as a process and asks it over loopback, on the same cores. `--share`
does a part of everything: fewer requests, seconds and rounds. Figures go to the screen as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks.textbook import vit_named
from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.device import processor
from vitrail.export.check_images import CheckImages
from vitrail.export.export_model import export_model
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig

CLIENTS = 8
CLOSE_ENOUGH = 1e-5  # a score, to the offline one of its own image
Answer = tuple[int, bytes, float]  # status (0: no answer), body, seconds


def small_classifier(seed: int) -> Classifier:
    """28 px, width 96, depth 4: about what a first run on small images has."""
    config = ViTConfig(
        image_size=(28, 28),
        patch_size=(7, 7),
        width=96,
        depth=4,
        num_heads=4,
        mlp_dim=192,
        num_classes=10,
    )
    return classifier_of(config, seed)


def classifier_of(config: ViTConfig, seed: int) -> Classifier:
    """With random weights large enough that images differ."""
    model = create_model(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    height, width = config.image_size
    made = Preprocess(height=height, width=width, resize=(height, width))
    return Classifier(model, made, [f"class {n}" for n in range(config.num_classes)])


def photo(seed: int, height: int = 120, width: int = 160) -> bytes:
    """A JPEG that differs from seed to seed, and not only in noise."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def exported(classifier: Classifier, out: Path) -> Path:
    """The classifier as ONNX, which is served without torch."""
    shape = (40, 3, classifier.preprocess.height, classifier.preprocess.width)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    export_model(classifier, out, CheckImages(pixels, None, "noise", "all"))
    return out


@dataclass
class Served:
    """A command that runs."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    tree: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self.tree = psutil.Process(self.process.pid)

    def members(self) -> list[psutil.Process]:
        """The command and its decoders."""
        return [self.tree, *self.tree.children(recursive=True)]

    def memory_mb(self) -> float:
        """Resident, of all of them."""
        return float(sum(one.memory_info().rss for one in self.members()) / 1e6)

    def cpu_secs(self) -> float:
        """Of all of them."""
        times = [one.cpu_times() for one in self.members()]
        return float(sum(one.user + one.system for one in times))

    async def metric(self, name: str) -> float:
        """A line of /metrics."""
        _, body, _ = await ask(self.port, path="/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", body.decode(), re.M)
        return float(found.group(1)) if found else 0.0


@asynccontextmanager
async def serving(model: Path, *options: str) -> AsyncIterator[Served]:
    """`vitrail serve`, ready; ended when the block ends."""
    words = [sys.executable, "-m", "vitrail", "serve", str(model), "--port", "0", "--json"]
    words += ["--decoders", "2", "--access-log", *options]
    with tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = await asyncio.to_thread(process.stdout.readline)
        port = int(json.loads(line)["url"].rpartition(":")[2])
        while (await ask(port, path="/v2/health/ready"))[0] != 200:
            await asyncio.sleep(0.02)
        yield Served(process, port, Path(log.name))
    finally:
        process.kill()
        process.wait()
        Path(log.name).unlink()


async def ask(port: int, body: bytes = b"", path: str = "/v1/classify?top=3") -> Answer:
    """One request on a connection of its own; status 0 where it was refused or cut."""
    began = time.perf_counter()
    head = (
        f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    )
    head += f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n" if body else "\r\n"
    writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + body)
        text = await reader.read()
        first, _, rest = text.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", first, re.I)
        is_whole = length is not None and len(rest) == int(length.group(1))
        return int(first.split()[1]) if is_whole else 0, rest, time.perf_counter() - began
    except (OSError, IndexError):
        return 0, b"", time.perf_counter() - began
    finally:
        if writer is not None:
            writer.close()


class Ledger:
    """What was asked and answered. expected: by image, the answers that are right."""

    def __init__(self, images: Sequence[bytes], models: Sequence[Classifier]) -> None:
        self.images = images
        self.expected: list[list[dict[str, float]]] = [[] for _ in images]
        for model in models:
            for index, found in enumerate(model.predict(list(images), top=3)):
                self.expected[index].append({one.label: one.score for one in found.top})
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.wrong = 0
        self.secs: dict[int, list[float]] = {}

    def note(self, index: int, answer: Answer) -> None:
        """An answer for an image."""
        status, body, secs = answer
        self.statuses[status] += 1
        self.secs.setdefault(status, []).append(secs)
        if status == 200:
            found = {one["label"]: one["score"] for one in json.loads(body)}
            self.wrong += not any(is_close(found, right) for right in self.expected[index])
        elif status:
            self.codes[json.loads(body)["code"]] += 1

    def ms(self, status: int, share: float) -> float:
        """A quantile of the time to an answer."""
        return round(1000 * float(np.quantile(self.secs.get(status, [0.0]), share)), 1)


def is_close(found: dict[str, float], right: dict[str, float]) -> bool:
    """Whether two answers are the same."""
    return found.keys() == right.keys() and all(
        abs(found[label] - right[label]) <= CLOSE_ENOUGH for label in right
    )


async def closed_loop(
    served: Served, ledger: Ledger, more: Callable[[], bool], clients: int = CLIENTS
) -> None:
    """Clients that each ask again as soon as they are answered."""

    async def client(number: int) -> None:
        rng = random.Random(number)
        while more():
            index = rng.randrange(len(ledger.images))
            ledger.note(index, await ask(served.port, ledger.images[index]))

    await asyncio.gather(*(client(number) for number in range(clients)))


def until(secs: float) -> Callable[[], bool]:
    """True for so long."""
    end = time.perf_counter() + secs
    return lambda: time.perf_counter() < end


async def swaps(folder: Path, share: float) -> dict[str, Any]:
    """10,000 requests while the model is swapped 50 times between two of different weights."""
    models = [small_classifier(seed) for seed in (0, 1)]
    places = [exported(model, folder / f"swap-{n}") for n, model in enumerate(models)]
    current = folder / "current"
    current.symlink_to(places[0])
    ledger = Ledger([photo(seed) for seed in range(64)], models)
    wanted, rounds = round(10_000 * share), max(3, round(50 * share))
    async with serving(current) as served:
        memory = served.memory_mb()
        swapped = 0

        async def swap() -> None:
            nonlocal swapped
            while swapped < rounds:
                step = folder / "next"
                step.symlink_to(places[(swapped + 1) % 2])
                step.replace(current)
                served.process.send_signal(signal.SIGHUP)
                swapped += 1
                while await served.metric('vitrail_reloads_total{outcome="ok"}') < swapped:
                    await asyncio.sleep(0.05)

        def more() -> bool:
            return sum(ledger.statuses.values()) < wanted or swapped < rounds

        await asyncio.gather(swap(), closed_loop(served, ledger, more))
        return {
            "requests": sum(ledger.statuses.values()),
            "swaps": swapped,
            "statuses": dict(ledger.statuses),
            "wrong": ledger.wrong,
            "memory MB": [round(memory), round(served.memory_mb())],
        }


async def ends(folder: Path, share: float) -> dict[str, Any]:
    """SIGTERM at 50 random moments under load: what was begun is answered, the exit code is 0.

    A request counts as accepted where the server's own log has it.
    """
    model = small_classifier(0)
    place = exported(model, folder / "ends")
    rng, totals = random.Random(0), Counter[str]()
    slowest = 0.0
    for _ in range(max(3, round(50 * share))):
        ledger = Ledger([photo(0)], [model])
        async with serving(place, "--drain-delay", "0.2") as served:
            ended = False
            load = asyncio.create_task(
                closed_loop(served, ledger, lambda: not ended)  # noqa: B023
            )
            await asyncio.sleep(rng.uniform(0.05, 0.8))
            began = time.perf_counter()
            served.process.terminate()
            code = await asyncio.to_thread(served.process.wait)
            slowest = max(slowest, time.perf_counter() - began)
            ended = True
            await load
            text = served.log.read_text()
            lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
            asked = [one for one in lines if one["path"] == "/v1/classify"]
        totals += Counter(
            {
                "rounds": 1,
                "exit 0": int(code == 0),
                "accepted": sum(one["status"] == 200 for one in asked),
                "answered": ledger.statuses[200],
                "refused 503": ledger.statuses[503],
                "wrong": ledger.wrong,
                "tracebacks": text.count("Traceback"),
                "logged, not answered": max(
                    0, len(asked) - ledger.statuses[200] - ledger.statuses[503]
                ),
            }
        )
    return dict(totals) | {"slowest end s": round(slowest, 2)}


async def decoders(folder: Path, share: float) -> dict[str, Any]:
    """kill -9 of a decoder under load, 20 times."""
    model = small_classifier(0)
    place = exported(model, folder / "decoders")
    ledger = Ledger([photo(seed) for seed in range(16)], [model])
    kills, back = max(3, round(20 * share)), list[float]()
    async with serving(place) as served:
        ended = False
        load = asyncio.create_task(closed_loop(served, ledger, lambda: not ended))
        for kill in range(1, kills + 1):
            await asyncio.sleep(0.3)
            workers = [one for one in served.tree.children(recursive=True) if is_decoder(one)]
            began = time.perf_counter()
            workers[kill % len(workers)].kill()
            while await served.metric("vitrail_decoder_restarts_total") < kill:
                await asyncio.sleep(0.01)
            back.append(time.perf_counter() - began)
        ended = True
        await load
    return {
        "kills": kills,
        "statuses": dict(ledger.statuses),
        "codes": dict(ledger.codes),
        "wrong": ledger.wrong,
        "slowest replacement s": round(max(back), 2),
    }


def is_decoder(process: psutil.Process) -> bool:
    """A process of the forkserver, which has no children of its own."""
    with suppress(psutil.Error):
        parent = process.parent()
        return parent is not None and "forkserver" in " ".join(parent.cmdline())
    return False


async def overload(folder: Path, share: float) -> dict[str, Any]:
    """Four times the capacity for 60 s: requests come when they come (Poisson), answered or not."""
    model = classifier_of(vit_named("vit_ti16", num_classes=100), 0)
    place = folder / "overload"
    model.save(place)
    ledger = Ledger([photo(seed, 240, 320) for seed in range(16)], [model])
    secs = max(5.0, 60 * share)
    async with serving(place, "--engine", "torch") as served:
        await closed_loop(served, Ledger(ledger.images, [model]), until(3))
        measured = Ledger(ledger.images, [model])
        await closed_loop(served, measured, until(max(4.0, 15 * share)))
        capacity = measured.statuses[200] / max(4.0, 15 * share)
        idle = await median_secs(served, ledger.images[0])
        memory = [served.memory_mb()]
        tasks: list[asyncio.Task[None]] = []
        rng, now = random.Random(0), time.perf_counter()

        async def one(index: int) -> None:
            ledger.note(index, await ask(served.port, ledger.images[index]))

        due, end = now, now + secs
        while due < end:
            due += rng.expovariate(4 * capacity)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(rng.randrange(len(ledger.images)))))
            if due - now > len(memory) * secs / 4:
                memory.append(served.memory_mb())
        took = time.perf_counter() - now
        await asyncio.gather(*tasks)
        await asyncio.sleep(5)
        after = await median_secs(served, ledger.images[0])
        return {
            "capacity a second": round(capacity, 1),
            "asked a second": round(len(tasks) / took, 1),
            "seconds": round(took, 1),
            "statuses": dict(ledger.statuses),
            "wrong": ledger.wrong,
            "goodput / capacity": round(ledger.statuses[200] / took / capacity, 3),
            "answered p50, p99 ms": [ledger.ms(200, 0.5), ledger.ms(200, 0.99)],
            "refused p50, p99 ms": [ledger.ms(503, 0.5), ledger.ms(503, 0.99)],
            "memory MB before, by quarters": [round(one) for one in memory],
            "idle ms, 5 s after": [round(1000 * idle, 1), round(1000 * after, 1)],
        }


async def median_secs(served: Served, image: bytes) -> float:
    """How long one client waits, alone."""
    found = [(await ask(served.port, image))[2] for _ in range(11)]
    return float(np.median(found))


async def hostile(folder: Path, share: float) -> dict[str, Any]:
    """Slow clients, half-sent bodies and bombs at the same time; a healthy client meanwhile."""
    model = small_classifier(0)
    place = exported(model, folder / "hostile")
    ledger = Ledger([photo(0)], [model])
    count = max(50, round(1000 * share))
    async with serving(place) as served:
        await closed_loop(served, Ledger([photo(0)], [model]), until(2))
        alone = Ledger([photo(0)], [model])
        await closed_loop(served, alone, until(4), clients=1)
        memory, ended = served.memory_mb(), False
        attacks: list[Awaitable[None]] = [slow_head(served.port) for _ in range(count)]
        attacks += [slow_body(served.port) for _ in range(count // 5)]
        attacks += [half_body(served.port) for _ in range(count // 5)]
        attacks += [bomb(served.port) for _ in range(count // 20)]
        healthy = asyncio.create_task(closed_loop(served, ledger, lambda: not ended, clients=1))
        await asyncio.gather(*attacks)
        ended = True
        await healthy
        grown = served.memory_mb() - memory
        ready = (await ask(served.port, path="/v2/health/ready"))[0]
        left = await served.metric("vitrail_queue_bytes")
    return {
        "connections": len(attacks),
        "healthy": dict(ledger.statuses),
        "wrong": ledger.wrong,
        "healthy p50, p99 ms": [ledger.ms(200, 0.5), ledger.ms(200, 0.99)],
        "without attack p50, p99 ms": [alone.ms(200, 0.5), alone.ms(200, 0.99)],
        "memory grown MB": round(grown),
        "ready after": ready,
        "bytes left in the account": left,
    }


async def sent(port: int, head: bytes, drip: bytes, secs: float) -> bytes:
    """Send a head at once, and a byte a second of the rest; what came back."""
    reader = writer = None
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        for at in range(round(secs)):
            writer.write(drip[at : at + 1])
            await asyncio.sleep(1)
        return await asyncio.wait_for(reader.read(), 20)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.close()


HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


async def slow_head(port: int) -> None:
    """A head that never ends."""
    await sent(port, HEAD, b"X-A: aaaaaaaaaaaaaaaaaaaaaaaa", 12)


async def slow_body(port: int) -> None:
    """One byte a second of a body of 1 MB."""
    await sent(port, HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 20, 12)


async def half_body(port: int) -> None:
    """Half of what was promised, and gone."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
        await asyncio.sleep(1)
        writer.close()


async def bomb(port: int) -> None:
    """A PNG of 3.6 thousand million pixels in 70 bytes, and a list of them as JSON."""
    buffer = BytesIO()
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(buffer, "PNG")
    small = buffer.getvalue()
    data = small[:16] + (60_000).to_bytes(4, "big") * 2 + small[24:]
    assert (await ask(port, data))[0] in (422, 503)
    text = json.dumps({"inputs": [base64.b64encode(data).decode()] * 8}).encode()
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    await sent(port, head + text, b"", 0)


async def idle(folder: Path, share: float) -> dict[str, Any]:
    """Processor time of a server that nobody asks, for 10 minutes."""
    place = exported(small_classifier(0), folder / "idle")
    secs = max(10.0, 600 * share)
    async with serving(place) as served:
        await closed_loop(served, Ledger([photo(0)], [small_classifier(0)]), until(1))
        await asyncio.sleep(2)
        began = served.cpu_secs()
        await asyncio.sleep(secs)
        return {
            "seconds": round(secs),
            "CPU seconds": round(served.cpu_secs() - began, 2),
            "memory MB": round(served.memory_mb()),
        }


Row = Callable[[Path, float], Awaitable[dict[str, Any]]]
ROWS: dict[str, Row] = {
    "swaps": swaps,
    "ends": ends,
    "decoders": decoders,
    "overload": overload,
    "hostile": hostile,
    "idle": idle,
}


def figures_of(name: str, share: float = 1.0) -> dict[str, Any]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:

        async def work() -> dict[str, Any]:
            return await ROWS[name](Path(folder), share)

        return asyncio.run(work())


def main() -> None:
    """Print the rows that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--share", type=float, default=1.0)
    given = parser.parse_args()
    print(json.dumps({"processor": processor(), "cores": os.cpu_count()}), flush=True)
    for name in given.names or ROWS:
        print(json.dumps({name: figures_of(name, given.share)}), flush=True)


if __name__ == "__main__":
    main()
