"""An ONNX file that vitrail wrote, in ONNX Runtime. Nothing here imports torch.

Threads are explicit and do not spin: they would take the processor from whoever decodes. Memory
arenas are off, because they never give back what the largest batch took. The package sends
telemetry from version 1.32 on (its Privacy.md), and writes an identifier of the machine into the
home folder, unless a variable of the environment says otherwise when it is imported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vitrail.runtime.session import (
    INPUT,
    OUTPUTS,
    Floats,
    broken,
    checked_size,
    damaged,
    missing,
    refuse_external,
    require_version,
)

LEAST = (1, 32)  # in older ones the variable may have another name, or leave something on
SILENT = "ORT_DISABLE_TELEMETRY"


class OnnxSession:
    """A file's content, checked, and ready to compute on the CPU, from any number of threads.

    Raises EnvironmentFault VIT-520 without onnxruntime, VIT-525; ModelError VIT-471 for a file that
    vitrail did not write so: data in other files, other names, a fixed number of images.
    """

    engine = "onnx"

    def __init__(self, content: bytes, name: str, *, threads: int = 1) -> None:
        runtime = require_onnxruntime()
        refuse_external(content, name)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise damaged(name, str(error).splitlines()[0][:200]) from error
        self.threads = threads
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.version: str = runtime.__version__
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kind = "float32" if inputs[0].type == "tensor(float)" else inputs[0].type
        names = ([one.name for one in inputs], [one.name for one in outputs])
        self.input_size = checked_size(name, names, kind, inputs[0].shape)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says about itself."""
        found: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    def __call__(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Logits and probabilities, both (B, K), of float32 pixels (B, C, H, W), 0 to 255."""
        logits, probabilities = self._session.run(list(OUTPUTS), {INPUT: pixels})
        return logits, probabilities


def require_onnxruntime() -> Any:
    """The module. Raises EnvironmentFault VIT-520 where it is missing, VIT-525 where broken or too
    old.
    """
    try:
        with silenced():
            import onnxruntime
    except ImportError as error:
        if error.name == "onnxruntime":
            raise missing("onnxruntime", "onnx") from error
        raise broken("onnxruntime", f"cannot be loaded: {error}") from error
    require_version("onnxruntime", getattr(onnxruntime, "__version__", "0"), LEAST)
    return onnxruntime


@contextmanager
def silenced() -> Iterator[None]:
    """With the variable that onnxruntime reads once, when it is imported."""
    before = os.environ.get(SILENT)
    os.environ[SILENT] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SILENT]
        else:
            os.environ[SILENT] = before
