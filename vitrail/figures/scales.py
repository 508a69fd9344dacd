"""The scales of a figure: how far its axes reach, and ticks that read well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Values from low to high on pixels from start to end, in equal or in logarithmic steps."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; one that lies outside stands at the edge."""
        value = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.is_log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low or 1)
        return round(self.start + share * (self.end - self.start), 1)


def short(value: float) -> str:
    """A number of few characters: 0.03, 1.5k, 20M, 3e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    if abs(value) < 0.01:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def labels_of(ticks: Sequence[float], *, is_log: bool = False) -> list[str]:
    """The ticks as text, with as many digits each: 0.70 beside 0.75."""
    texts = [short(one) for one in ticks]
    if is_log or not all(text.lstrip("-").replace(".", "", 1).isdigit() for text in texts):
        return texts
    digits = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{one:.{digits}f}" for one in ticks]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, in steps of 1, 2 or 5 times 10^n."""
    span = max(high - low, 1e-12)
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if raw <= factor * power * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def ticks_at(low: float, high: float, seen: Sequence[float], count: int = 6) -> list[float]:
    """Where the points are, if they are few and apart, else round numbers."""
    return list(seen) if _are_apart(seen, high - low) else ticks(low, high, count)


def log_ticks(low: float, high: float, seen: Sequence[float], last: float = 0.0) -> list[float]:
    """Ticks of a logarithmic axis: where the points are, if they are few and apart, and on to
    `last`, where a fit ends; else powers of ten, with 2 and 5 (or all whole steps) between them on
    a short axis.
    """
    span = math.log10(high / low)
    if _are_apart([math.log10(one) for one in seen], span):
        found, ratio = list(seen), seen[-1] / seen[-2]
        while found[-1] * ratio**1.5 <= last:
            found.append(found[-1] * ratio)
        return [*found, last] if last > found[-1] * ratio**0.5 else found
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[float, ...] = ()
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [step * 10.0**power for power in powers for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= 4:
            break
    return found


def spread(values: Sequence[float], margin: float, *, is_log: bool = False) -> tuple[float, float]:
    """The ends of an axis with room at both sides, a share `margin` of it."""
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if is_log:
        room = (high / low) ** margin if high > low else 2.0
        return low / room, high * room
    room = (high - low) * margin if high > low else abs(high) * 0.1 or 1.0
    return low - room, high + room


def _are_apart(seen: Sequence[float], span: float) -> bool:
    """Whether points, or their logarithms, are few and far enough apart to be the ticks."""
    gaps = [after - before for before, after in zip(seen, seen[1:], strict=False)]
    return 2 <= len(seen) <= 9 and min(gaps) > span / 11
