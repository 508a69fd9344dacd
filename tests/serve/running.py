"""A server of this process, on a loopback port, in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vitrail.classifier import Classifier
from vitrail.data.images.preprocess import Preprocess
from vitrail.models.create import create_model
from vitrail.models.vit.config import ViTConfig
from vitrail.serve.limits import Limits
from vitrail.serve.listening import Address
from vitrail.serve.routes.app import application
from vitrail.serve.served_model import Wanted
from vitrail.serve.server import Server
from vitrail.serve.service import Service

CLASSES = ["cat", "dog", "<script>alert(1)</script>", "fish", "owl", "ant", "bee"]
PREPROCESS = Preprocess(height=16, width=24, resize=(16, 24))
WAIT_SECS = 60.0
ROOT = Path(__file__).parents[2]


def some_classifier(seed: int = 0) -> Classifier:
    """A tiny ViT with answers that differ from image to image."""
    config = ViTConfig(
        image_size=(16, 24),
        patch_size=(8, 8),
        width=24,
        depth=2,
        num_heads=2,
        mlp_dim=48,
        num_classes=len(CLASSES),
    )
    model = create_model(config)
    generator = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.data = torch.randn(value.shape, generator=generator) * 0.3
    return Classifier(model, PREPROCESS, CLASSES)


def some_pixels(seed: int = 0, height: int = 13, width: int = 17) -> NDArray[np.uint8]:
    """Noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def some_png(seed: int = 0) -> bytes:
    """Noise, as a file."""
    return png(some_pixels(seed))


@dataclass
class Answer:
    """Of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs."""

    port: int
    service: Service
    server: Server
    loop: asyncio.AbstractEventLoop

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = "image/png", **headers: str
    ) -> Answer:
        """One request on a connection of its own."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_SECS)
        given = {"Content-Type": kind} if body else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            link.request(method, path, body or None, given)
            found = link.getresponse()
            lower = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, lower, found.read())
        finally:
            link.close()

    def classify(self, image: bytes, query: str = "", **headers: str) -> Answer:
        """POST of raw bytes."""
        return self.ask("POST", f"/v1/classify{query}", image, **headers)

    def document(self, value: Any, path: str = "/v1/classify") -> Answer:
        """POST of JSON."""
        return self.ask("POST", path, json.dumps(value).encode(), "application/json")

    def metric(self, line: str) -> float:
        """The value of a line of /metrics; 0 where it is not there."""
        text = self.ask("GET", "/metrics").body.decode()
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.startswith(line + " ")]
        return float(found[0]) if found else 0.0

    def do(self, function: Callable[[], object]) -> None:
        """Call in the server's thread, soon."""
        self.loop.call_soon_threadsafe(function)

    def wait(self, condition: Callable[[], object]) -> None:
        """Until something is so."""
        until = time.monotonic() + WAIT_SECS
        while not condition():
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.005)


@contextmanager
def running(
    *load: Callable[[], Classifier],
    limits: Limits | None = None,
    engines: int = 1,
    is_ready: bool = True,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[Running]:
    """A server of models m0, m1 ...; ended and waited for behind the block."""
    wanted = [Wanted(f"m{n}", one) for n, one in enumerate(load or (some_classifier,))]
    listener = Address(port=0).listen()
    started: list[Running] = []
    go = threading.Event()

    async def main() -> None:
        service = Service(wanted, limits or Limits(), engines=engines, decoders=1)
        server = Server(application(service, **options), service, tls=tls)
        port = listener.getsockname()[1]
        started.append(Running(port, service, server, asyncio.get_running_loop()))
        go.set()
        await server.run_on(listener)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert go.wait(WAIT_SECS)
    found = started[0]
    try:
        if is_ready:
            found.wait(lambda: found.service.phase == "ready")
        yield found
    finally:
        if thread.is_alive():
            found.do(found.server.end)
        thread.join(WAIT_SECS)
        assert not thread.is_alive()


class Slow:
    """Loads a classifier whose batches take `secs`, or until `go`, and are written down."""

    def __init__(self, secs: float = 0.0) -> None:
        self.secs, self.batches = secs, list[int]()
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> Classifier:
        classifier = some_classifier()
        compute = classifier.probabilities

        def slow(images: Any) -> Any:
            self.batches.append(len(images))
            time.sleep(self.secs)
            assert self.go.wait(WAIT_SECS)
            return compute(images)

        classifier.probabilities = slow  # type: ignore[method-assign]
        return classifier


@contextmanager
def command(
    model: Path, *options: str, cwd: Path = ROOT, log: IO[str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`vitrail serve` as a process, ready, and its port; log: takes its standard error."""
    words = [sys.executable, "-m", "vitrail", "serve", str(model), "--port", "0", "--json"]
    words += ["--engines", "1", "--decoders", "1", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, cwd=cwd) as process:
        try:
            assert process.stdout is not None
            record = json.loads(process.stdout.readline())
            port = int(record["url"].rpartition(":")[2])
            until = time.monotonic() + WAIT_SECS
            while asked(port, "GET", "/v2/health/ready")[0] != 200:
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process, port
        finally:
            process.kill()


def asked(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECS)
    try:
        link.request(method, path, body, {"Content-Type": "image/png"} if body else {})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()
