"""An ONNX file that vitrail wrote, in ONNX Runtime. Nothing here imports torch.

Threads are explicit and do not spin: they would take the processor from whoever decodes. Memory
arenas are off, because they never give back what the largest batch took.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import EnvironmentFault, ModelError

INPUT, OUTPUTS = "image", ("logits", "probabilities")
EXTERNAL = b"\x0a\x08location"  # in a protobuf: the key of a tensor whose data lies elsewhere
Floats = NDArray[np.float32]


class OnnxSession:
    """A file's content, checked, and ready to compute on the CPU.

    Raises EnvironmentFault VIT-520 without onnxruntime, ModelError VIT-471 for a file that vitrail
    did not write so: data in other files, other names, a fixed number of images.
    """

    def __init__(self, content: bytes, name: str, *, threads: int = 1) -> None:
        runtime = require_onnxruntime()
        if EXTERNAL in content:
            raise damaged(name, "it refers to data in another file")
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
        self.version: str = runtime.__version__
        self._check(name)

    def _check(self, name: str) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        names = ([one.name for one in inputs], [one.name for one in outputs])
        if names != ([INPUT], list(OUTPUTS)):
            raise damaged(name, f"its inputs and outputs are {names}")
        if inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            raise damaged(name, f"it takes {inputs[0].type} of shape {inputs[0].shape}")
        if isinstance(inputs[0].shape[0], int):
            raise damaged(
                name, f"it takes {inputs[0].shape[0]} images at a time and no other number"
            )
        self.input_size: tuple[int, int, int] = tuple(inputs[0].shape[1:])

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
    """The module. Raises EnvironmentFault VIT-520 where it is missing, VIT-525 where broken."""
    try:
        import onnxruntime
    except ImportError as error:
        if error.name == "onnxruntime":
            raise EnvironmentFault(
                "VIT-520",
                "computing an ONNX file needs the package onnxruntime.",
                hint="pip install 'vitrail[onnx]'",
            ) from error
        raise EnvironmentFault(
            "VIT-525",
            f"the package onnxruntime is installed but cannot be loaded: {error}",
            hint="Install it again: pip install --force-reinstall onnxruntime",
        ) from error
    return onnxruntime


def damaged(name: str, why: str) -> ModelError:
    """VIT-471 for the file `name`."""
    return ModelError(
        "VIT-471",
        f"{name} is not as vitrail wrote it: {why}.",
        hint="Copy it again, or export it again: vitrail export MODEL OUT --to onnx",
    )
