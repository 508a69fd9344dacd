"""An ONNX file that vitrail wrote, in OpenVINO. Nothing here imports torch.

OpenVINO computes in bfloat16 of its own accord where the processor has it, so the precision is
always said. Its package sends telemetry when its converter is imported, which `import openvino`
does: the converter is kept out, and nothing here needs it.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
from typing import Any

import numpy as np

from vitrail.errors import UsageError
from vitrail.runtime.session import (
    Floats,
    broken,
    checked_size,
    damaged,
    missing,
    refuse_external,
    require_version,
)

LEAST = (2026, 0)
CONVERTER = "openvino.tools.ovc"
HINTS = {"float32": "f32", "int8": "f32", "bfloat16": "bf16"}  # of what is not int8 in the file


class OpenVinoSession:
    """A file's content, checked, and ready to compute on the CPU. streams: batches that are
    computed at the same time, each on `threads` threads; from any number of threads.

    Raises EnvironmentFault VIT-520 without openvino, VIT-525; UsageError VIT-242 for bfloat16 on a
    processor without; ModelError VIT-471 as `OnnxSession`.
    """

    engine = "openvino"

    def __init__(
        self,
        content: bytes,
        name: str,
        *,
        threads: int = 1,
        precision: str = "float32",
        streams: int = 1,
    ) -> None:
        openvino = require_openvino()
        refuse_external(content, name)
        core = core_of_process()
        if precision == "bfloat16":
            require_bfloat16(core)
        try:
            model = core.read_model(model=content, weights=b"")
            self._compiled = core.compile_model(
                model, "CPU", properties_of(precision, threads, streams)
            )
        except RuntimeError as error:
            raise damaged(name, told(error)) from error
        self.threads = threads
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.version: str = openvino.__version__.split("-")[0]
        first = model.inputs[0]
        shape = [one.get_length() if one.is_static else None for one in first.partial_shape]
        kind = first.element_type.get_type_name().replace("f32", "float32")
        names = ([one.any_name for one in model.inputs], [one.any_name for one in model.outputs])
        self.input_size = checked_size(name, names, kind, shape)
        self._local = threading.local()

    def __call__(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Logits and probabilities, both (B, K), of float32 pixels (B, C, H, W), 0 to 255."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        request = self._local.request
        request.infer([np.ascontiguousarray(pixels)])
        logits, probabilities = (request.get_output_tensor(n).data.copy() for n in (0, 1))
        return logits, probabilities  # copies: the next call overwrites what a tensor shows


@functools.cache
def core_of_process() -> Any:
    """The one Core of this process, which never goes. With a Core OpenVINO takes the memory away
    that it made the stack of signals of the thread that compiled first. Where another thread lets
    go of the Core, that stack stays in place without memory, and the next Ctrl-C, SIGTERM or
    SIGUSR1 ends the process by SIGSEGV (2026.4).
    """
    return require_openvino().Core()


def properties_of(precision: str, threads: int, streams: int) -> dict[str, Any]:
    """What OpenVINO would choose otherwise. Pinned threads of two processes can share a core."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * streams,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,
    }


def told(error: RuntimeError) -> str:
    """The sentence of OpenVINO's error that is not a place in its code."""
    lines = [one.strip() for one in str(error).splitlines()]
    kept = [one for one in lines if one and not one.startswith("Exception from ")]
    return (kept or ["it cannot be read"])[0][:200].rstrip(".")


def require_bfloat16(core: Any) -> None:
    """Raise UsageError VIT-242 where OpenVINO would compute float32 instead."""
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(
            "VIT-242",
            "precision bfloat16: OpenVINO does not have it on this processor.",
            hint="Use --precision float32.",
        )


def require_openvino() -> Any:
    """The module. Raises EnvironmentFault VIT-520 where it is missing, VIT-525 where broken or too
    old.
    """
    is_first = CONVERTER not in sys.modules
    if is_first:
        sys.modules[CONVERTER] = None  # type: ignore[assignment]  # an import of it is refused
    try:
        import openvino
    except ImportError as error:
        if error.name == "openvino":
            raise missing("openvino", "openvino") from error
        raise broken("openvino", f"cannot be loaded: {error}") from error
    finally:
        if is_first:
            del sys.modules[CONVERTER]  # who imports it by name has asked for it
    if not hasattr(openvino, "Core"):
        raise broken("openvino", "cannot be loaded: it has no Core.")
    require_version("openvino", openvino.__version__, LEAST)
    return openvino
