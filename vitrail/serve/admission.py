"""Room for requests: what is accepted is bounded in images and in bytes.

A request is looked at twice: by its headers, before a byte of its body is read, and when its images
are known. Bytes count as they arrive, so that clients that promise much and send little take no
room from others. Images count from then until their answer.
"""

from __future__ import annotations

import math

from vitrail.serve.limits import Limits
from vitrail.serve.metrics import Metrics
from vitrail.serve.problem import Problem, refused
from vitrail.spelling import count

MAX_RETRY_SECS = 60


class Admission:
    """The account of one server."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self.images = self.bytes = 0
        self._secs_per_image = 0.0

    def measured(self, secs: float, images: int, engines: int) -> None:
        """A batch took so long, on one of several engines."""
        now = secs / images / engines
        self._secs_per_image += (now - self._secs_per_image) * (0.2 if self._secs_per_image else 1)

    @property
    def retry_secs(self) -> int:
        """When the images that wait now will be done."""
        waiting = max(1, self.images) * self._secs_per_image
        return min(MAX_RETRY_SECS, max(1, math.ceil(waiting)))

    def ticket(self, length: int) -> Ticket:
        """Let a request with a body of `length` bytes begin. Raises Problem 503 VIT-911."""
        if self.images >= self._limits.queue:
            raise self._full("images")
        if self.bytes + length > self._limits.queue_bytes:
            raise self._full("bytes")
        return Ticket(self)

    def take(self, images: int, size: int) -> None:
        """Raises Problem 413 for more images than there will ever be room for, 503 VIT-911."""
        if images > self._limits.queue:
            raise refused(
                413, f"{count(images, 'image')} in one request; at most {self._limits.queue}"
            )
        if self.images + images > self._limits.queue:
            raise self._full("images")
        if self.bytes + size > self._limits.queue_bytes:
            raise self._full("bytes")
        self.give_back(-images, -size)

    def give_back(self, images: int, size: int) -> None:
        """They are answered."""
        self.images -= images
        self.bytes -= size
        self._metrics.set("vitrail_queue_images", self.images)
        self._metrics.set("vitrail_queue_bytes", self.bytes)

    def _full(self, reason: str) -> Problem:
        self._metrics.add("vitrail_refused_total", reason=reason)
        return Problem(
            503, "VIT-911", "the queue is full", retry_secs=self.retry_secs, closes=False
        )


class Ticket:
    """What one request takes, given back at its end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._images = self._bytes = 0

    def take(self, images: int = 0, size: int = 0) -> None:
        """Take more. Raises Problem 413, 503."""
        self._admission.take(images, size)
        self._images += images
        self._bytes += size

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.give_back(self._images, self._bytes)
        self._images = self._bytes = 0
