"""Images decoded in processes of their own, off the event loop.

A decoder is native code that reads what strangers wrote: where it crashes, hangs or eats memory,
one image has an error, and another process takes its place. They are started by a server process
that has one thread and never saw a model (forkserver), so that a new one is there within a moment.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.images.decode import read_image
from vitrail.data.images.image_file import DecodeFault
from vitrail.data.images.preprocess import Preprocess
from vitrail.data.loading.prepared import prepared_image
from vitrail.data.loading.worker_process import limit_memory, start_worker
from vitrail.system.child_process import safe_children

ROOM_BYTES = 2 * 2**30
SECS = 20.0  # for one image; the gate of `decode` lets through what takes 2 s
CRASHED = "its decoder crashed or took too long"

DRAWN_PX = 1024  # longest side of an image that is drawn on
Want = Literal["input", "both"]
Both = tuple[NDArray[np.float32], NDArray[np.uint8]]
Decoded = NDArray[np.float32] | Both | str


class Decoders:
    """`count` processes; images wait for one that is free. max_pixels: of one image."""

    def __init__(self, count: int, max_pixels: int, secs: float = SECS) -> None:
        self._threads = ThreadPoolExecutor(count, "decode")
        self._free: SimpleQueue[_Decoder] = SimpleQueue()
        self._all = [_Decoder(max_pixels, secs) for _ in range(count)]
        self._room = asyncio.Semaphore(count)
        self.restarts = 0
        for one in self._all:
            self._free.put(one)

    async def start(self) -> None:
        """Wait until every process answers."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._threads, one.start) for one in self._all))

    async def decode(self, data: bytes, preprocess: Preprocess, want: Want = "input") -> Decoded:
        """One image as a model is shown it (C, H, W), with "both" also as pixels to draw on, uint8
        (H', W', 1 or 3), or what is wrong with it. Given up while it waits, it is never decoded.
        """
        async with self._room:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(
                self._threads, self._by_a_free_one, data, preprocess, want
            )

    def _by_a_free_one(self, data: bytes, preprocess: Preprocess, want: Want) -> Decoded:
        one = self._free.get()
        try:
            return one.decode(data, preprocess, want)
        except (EOFError, OSError):
            self.restarts += 1
            one.start()
            return CRASHED
        finally:
            self._free.put(one)

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [one.process.pid for one in self._all if one.process and one.process.pid]

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for one in self._all:
            one.close()


class _Decoder:
    """One process and the pipe to it."""

    def __init__(self, max_pixels: int, secs: float) -> None:
        self._max_pixels, self._secs = max_pixels, secs
        self._pipe: Connection | None = None
        self.process: Any = None
        self._is_closed = False

    def start(self) -> None:
        """A new process, in the place of an old one. Returns when it answers."""
        self.stop()
        context: Any = multiprocessing.get_context(
            "forkserver" if sys.platform == "linux" else "spawn"
        )
        if sys.platform == "linux":
            context.set_forkserver_preload([__name__])
        ours, theirs = context.Pipe()
        with safe_children():
            process = context.Process(target=_work, args=(theirs, self._max_pixels), daemon=True)
            process.start()
        theirs.close()
        self._pipe, self.process = ours, process
        if self._is_closed:  # meanwhile
            self.stop()
            return
        with suppress(EOFError, OSError):  # it died at once: the next image will say so
            ours.recv()

    def decode(self, data: bytes, preprocess: Preprocess, want: Want) -> Decoded:
        """Raises EOFError or OSError where the process ends or hangs."""
        if self._pipe is None:
            raise EOFError
        self._pipe.send((data, preprocess, want))
        if not self._pipe.poll(self._secs):
            raise EOFError
        found: Decoded = self._pipe.recv()
        return found

    def close(self) -> None:
        """End the process, also one that is being started, and start no other."""
        self._is_closed = True
        self.stop()

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join(1.0)
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = self.process = None


def _work(pipe: Connection, max_pixels: int) -> None:
    """What the process does until its parent goes."""
    start_worker(0)
    if sys.platform == "linux":
        limit_memory(ROOM_BYTES)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        pipe.send("ready")
        while True:
            data, preprocess, want = pipe.recv()
            pipe.send(_decoded(data, preprocess, want, max_pixels))


def _decoded(data: bytes, preprocess: Preprocess, want: Want, max_pixels: int) -> Decoded:
    try:
        pixels = read_image(data, max_pixels=max_pixels)
    except DecodeFault as fault:
        return fault.reason
    except MemoryError:
        return "not enough memory to decode it"
    found = prepared_image(preprocess, pixels)
    if isinstance(found, str) or want == "input":
        return found
    return found, _small(pixels)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same image with sides of at most DRAWN_PX."""
    if max(pixels.shape) <= DRAWN_PX:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((DRAWN_PX, DRAWN_PX), Image.Resampling.BICUBIC)
    small = np.asarray(image)
    return small[:, :, None] if small.ndim == 2 else small
