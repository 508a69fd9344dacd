"""Counters, gauges and histograms as Prometheus reads them (text format 0.0.4).

Forty lines instead of a package. Only the event loop touches them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
Labels = tuple[tuple[str, str], ...]

NAMES = {  # name -> (kind, what it is)
    "vitrail_ready": ("gauge", "1 where requests are answered, else 0."),
    "vitrail_model_info": ("gauge", "Models that are served, and what computes them."),
    "vitrail_queue_images": ("gauge", "Images accepted and not yet answered."),
    "vitrail_queue_bytes": ("gauge", "Bytes of request bodies in memory."),
    "vitrail_requests_total": ("counter", "Requests by path and status; 499: the client left."),
    "vitrail_refused_total": ("counter", "Requests refused for want of room, by reason."),
    "vitrail_images_total": ("counter", "Images computed."),
    "vitrail_images_skipped_total": ("counter", "Images not computed: deadline or client gone."),
    "vitrail_batches_total": ("counter", "Batches computed; images / batches is the mean batch."),
    "vitrail_decoder_restarts_total": ("counter", "Decoder processes that crashed or hung."),
    "vitrail_reloads_total": ("counter", "Models loaded again (SIGHUP), by outcome."),
    "vitrail_request_seconds": ("histogram", "From the headers of a request to its answer."),
    "vitrail_decode_seconds": ("histogram", "Decoding and resizing of one image."),
    "vitrail_batch_seconds": ("histogram", "Computing of one batch."),
}


@dataclass
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))
    total: int = 0
    seconds: float = 0.0


class Metrics:
    """All numbers of one server."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms = {
            name: _Histogram() for name, (kind, _) in NAMES.items() if kind == "histogram"
        }

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        self._values[name][tuple(sorted(labels.items()))] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """What is now."""
        self._values[name][tuple(sorted(labels.items()))] = value

    def clear(self, name: str) -> None:
        """Forget a gauge with all its labels."""
        self._values.pop(name, None)

    def observe(self, name: str, seconds: float) -> None:
        """One more duration."""
        found = self._histograms[name]
        found.total += 1
        found.seconds += seconds
        for index, limit in enumerate(BUCKETS):
            found.counts[index] += seconds <= limit

    def text(self) -> str:
        """The page that Prometheus reads."""
        lines = []
        for name, (kind, meaning) in NAMES.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            if kind == "histogram":
                lines += _histogram_lines(name, self._histograms[name])
                continue
            rows = self._values.get(name) or ({} if kind == "gauge" else {(): 0.0})
            lines += [f"{name}{_labels(key)} {value:g}" for key, value in sorted(rows.items())]
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, found: _Histogram) -> list[str]:
    lines = [
        f'{name}_bucket{{le="{limit:g}"}} {count}'
        for limit, count in zip(BUCKETS, found.counts, strict=True)
    ]
    lines.append(f'{name}_bucket{{le="+Inf"}} {found.total}')
    return [*lines, f"{name}_sum {found.seconds:.6f}", f"{name}_count {found.total}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
