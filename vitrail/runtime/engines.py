"""The engines by name, and which of them computes a model: the fastest that is installed and agreed
with torch when the model was exported.

Speed is read from the table of the export, never from a clock: the same folder on the same number
of threads is computed by the same engine today and tomorrow. Nothing here imports torch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vitrail.errors import EnvironmentFault, GateError, UsageError, nearest
from vitrail.runtime.session import Session, missing

Rates = Mapping[int, Mapping[int, float]]  # threads -> images at a time -> images per second
PRECISIONS = ("float32", "bfloat16", "int8")
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Way:
    """A model on an engine in a precision; passed: it agreed with torch on real images."""

    engine: str
    precision: str = "float32"
    passed: bool = True
    rates: Rates = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"

    def rate(self, batch: int, threads: int) -> float:
        """Images per second for `batch` images at hand; 0 where it was never measured."""
        table = self._measured(threads)
        return table[self.best_batch(threads, batch)] if table else 0.0

    def best_batch(self, threads: int, most: int | None = None) -> int:
        """Images at a time that are computed fastest, of the sizes up to `most`; 1 where nothing
        was measured.
        """
        table = self._measured(threads)
        sizes = [size for size in table if most is None or size <= most] or sorted(table)[:1]
        return max(sizes, key=lambda size: table[size], default=1)

    def _measured(self, threads: int) -> Mapping[int, float]:
        """By images at a time, with the number of threads that is nearest."""
        if not self.rates:
            return {}
        return self.rates[min(self.rates, key=lambda number: (abs(number - threads), number))]


@dataclass(frozen=True)
class Asked:
    """How a model is to be computed. precision: None takes what the model is meant for, "auto" any;
    threads: of one batch, None the usual number; batch: images that come at a time; streams:
    batches computed at the same time.
    """

    engine: str = "auto"
    precision: str | None = None
    threads: int | None = None
    batch: int = 1
    streams: int = 1

    def check(self) -> None:
        """Raise UsageError VIT-294 for an unknown engine, VIT-242 for an unknown precision."""
        if self.engine not in ("auto", *PACKAGES):
            raise UsageError(
                "VIT-294",
                f"unknown engine {self.engine!r}. {nearest(self.engine, ['auto', *PACKAGES])}",
                hint="--engine auto",
            )
        if self.precision not in (None, "auto", *PRECISIONS):
            raise UsageError(
                "VIT-242",
                f"unknown precision {self.precision!r}. "
                f"{nearest(str(self.precision), ['auto', *PRECISIONS])}",
            )


def is_installed(engine: str) -> bool:
    """Whether the engine's package is there; it is not imported."""
    return importlib.util.find_spec(PACKAGES[engine]) is not None


def not_installed(engine: str) -> EnvironmentFault:
    """VIT-520, with the command that installs it."""
    if engine == "torch":
        return EnvironmentFault(
            "VIT-520",
            "computing this model needs the package torch.",
            hint="pip install torch; or export the model where torch is: vitrail export --list",
        )
    return missing(PACKAGES[engine], engine)


def pick(ways: Sequence[Way], asked: Asked, threads: int, usual: str, name: str) -> Way:
    """The way that `asked` means. usual: the precision that the model is meant for; name: of the
    model.

    Raises UsageError VIT-294 where there is none; GateError VIT-703 where it was found to answer
    otherwise than torch; EnvironmentFault VIT-520 where no engine for it is installed.
    """
    precision = asked.precision or usual
    meant = [
        way
        for way in ways
        if asked.engine in ("auto", way.engine) and precision in ("auto", way.precision)
    ]
    if not meant:
        raise no_way(ways, asked.engine, precision, name)
    passed = [way for way in meant if way.passed]
    if not passed:
        raise GateError(
            "VIT-703",
            f"{name} does not answer as torch by {meant[0]}: it was found so when it was exported.",
            hint=f"Another engine: {', '.join(str(way) for way in ways if way.passed) or 'none'}",
        )
    here = [way for way in passed if is_installed(way.engine)]
    if not here:
        raise not_installed(passed[0].engine)
    return max(here, key=lambda way: way.rate(asked.batch, threads))


def no_way(ways: Sequence[Way], engine: str, precision: str, name: str) -> UsageError:
    """VIT-294: what was asked for was never compared with torch."""
    known = ", ".join(map(str, ways)) or "nothing"
    if engine == "torch" and precision == "float32":
        hint = "Use the model that it was made of."
    elif engine == "onnx" and precision == "bfloat16":
        hint = "ONNX Runtime has no bfloat16 on CPUs: --engine openvino, or torch."
    else:
        target = "onnx" if engine == "auto" else engine
        hint = f"vitrail export MODEL OUT --to {target} --precision {precision}"
    wanted = precision if engine == "auto" else f"{engine} {precision}"
    return UsageError(
        "VIT-294", f"{name} was not checked with {wanted}, but with: {known}.", hint=hint
    )


def open_session(
    engine: str,
    content: bytes,
    name: str,
    *,
    threads: int = 1,
    precision: str = "float32",
    streams: int = 1,
) -> Session:
    """The file in its engine. Raises EnvironmentFault VIT-520, VIT-525; ModelError VIT-471."""
    if engine == "openvino":
        from vitrail.runtime.openvino_session import OpenVinoSession

        return OpenVinoSession(content, name, threads=threads, precision=precision, streams=streams)
    from vitrail.runtime.onnx_session import OnnxSession

    return OnnxSession(content, name, threads=threads)
