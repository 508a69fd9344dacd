"""A pretend accelerator: what would stop or slow down a GPU is found on a machine without one.

Tensors on it are fake (torch's FakeTensorMode): they have shape, type and device, and no values.
What is read or copied from one is ones; all other tensors are real. An operation on tensors of two
devices raises, as does one whose result has a shape that depends on values. What makes the host
wait for a real accelerator is noted with its place in the code:

- a number read from a tensor (`item`, `bool`, `float`, `tolist`),
- a tensor copied to the host (`cpu`, `to`, `copy_`),
- a tensor copied from the host without `non_blocking`: CUDA waits until such a copy is done.

What it cannot show: numbers, speed, what autocast casts, kernels, streams, compilation. The device
cannot be taken back once a process knows it, so `rehearse` works in a forked one.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partialmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

NAME = "rehearsal"
ROOT = Path(__file__).resolve().parents[2]
SECS = 600.0  # of the longest work, on a busy machine
ATEN = torch.ops.aten


@dataclass
class Rehearsal:
    """What was noted. waits: "WHAT at FILE:LINE FUNCTION", in their order."""

    waits: list[str] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """The pretend accelerator."""
        return torch.device(NAME)

    def note(self, what: str) -> None:
        """The host waits here."""
        self.waits.append(f"{what} at {_place()}")

    @contextmanager
    def noting(self) -> Iterator[list[str]]:
        """Gives a list that holds what was noted inside, once it is left."""
        number, found = len(self.waits), list[str]()
        yield found
        found += self.waits[number:]


def rehearse(work: Callable[[Rehearsal], Any]) -> Any:
    """What `work`, a function of a module, gives in a new process that has the device: one that was
    forked behind a backward pass would have none for it. Raises AssertionError with its traceback
    where it fails.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()
    try:
        failed, answer = ours.recv() if ours.poll(SECS) else (True, f"no answer in {SECS:g} s")
    except EOFError:
        failed, answer = True, "the process died"
    finally:
        process.kill()
        process.join()
    if failed:
        raise AssertionError(answer)
    return answer


def _child(pipe: Any, work: Callable[[Rehearsal], Any]) -> None:
    try:
        with rehearsing() as rehearsal:
            answer = (False, work(rehearsal))
    except BaseException:
        answer = (True, traceback.format_exc())
    pipe.send(answer)
    pipe.close()


@contextmanager
def rehearsing() -> Iterator[Rehearsal]:
    """Once a process: the device, fake tensors, and what notes the waits."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    library: Any = getattr(torch.library, "Library")("_", "IMPL", "AutocastPrivateUse1")  # noqa: B009
    library.fallback(torch.library.fallthrough_kernel)
    setattr(nn.Module, "_apply", _apply)  # noqa: B010
    found = Rehearsal()
    setattr(FakeTensor, "tolist", partialmethod(_tolist, found))  # noqa: B010
    # copy.deepcopy asks, and gets the answer that it needs
    warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
    with _Operations(found, _OneMode()):
        yield found
    del library


class _OneMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Stays one when a network is copied; tensors of two modes do not mix."""

    def __deepcopy__(self, memo: Any) -> _OneMode:
        return self


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets operations of the device give fake tensors; notes copies and numbers that are read."""

    def __init__(self, found: Rehearsal, fake: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found, self._fake = found, fake

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        values, layout = tree_flatten((args, kwargs))
        if not any(map(is_there, values)) and not _is_named(kwargs.get("device")):
            return func(*args, **kwargs)
        if _is_composite(func):  # which only come in inference mode
            with self:
                return func.decompose(*args, **kwargs)
        answer = self._crossing(func.overloadpacket, args, kwargs)
        if answer is not None:
            return answer
        args, kwargs = tree_unflatten([self._faked(value) for value in values], layout)
        with self._fake:
            return func(*args, **kwargs)

    def _crossing(self, packet: Any, args: Sequence[Any], kwargs: Any) -> Any:
        """What the host gets from the device; None where an operation stays there."""
        if packet is ATEN._local_scalar_dense:
            self._found.note("item")
            return torch.ones((), dtype=args[0].dtype).item()
        if packet is ATEN._to_copy:
            if _is_host(kwargs.get("device")):
                self._found.note("to the host")
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            self._sent(args[0], kwargs.get("non_blocking"))
        elif packet is ATEN.copy_:
            if not is_there(args[0]):
                self._found.note("to the host")
                return args[0].fill_(1)
            self._sent(args[1], args[2] if len(args) > 2 else kwargs.get("non_blocking"))
        return None

    def _sent(self, source: Tensor, is_later: bool | None) -> None:
        if not is_there(source) and not is_later:
            self._found.note("to the device")

    def _faked(self, value: Any) -> Any:
        if isinstance(value, Tensor) and not is_there(value):
            return self._fake.from_tensor(value)
        return value


def is_there(value: Any) -> bool:
    """Whether it is a tensor on the device."""
    return isinstance(value, FakeTensor)


def _tolist(tensor: Tensor, found: Rehearsal) -> Any:
    """As FakeTensor's, which reads one number after the other."""
    found.note("tolist")
    return torch.ones(tensor.shape, dtype=tensor.dtype).tolist()


@cache
def _is_composite(func: Any) -> bool:
    key = "CompositeImplicitAutograd"
    return func.namespace == "aten" and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), key
    )


def _is_named(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _is_host(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _apply(network: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """As nn.Module's, which exchanges the memory of tensors: fake ones that are known elsewhere
    refuse that.
    """
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is not None:
                one = nn.Parameter(change(value.detach()), value.requires_grad)
                module._parameters[name] = one
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else change(buffer)
    return network


def _place() -> str:
    """The innermost line of the package or of the tests, this file apart."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and path.is_relative_to(ROOT) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "an unknown place"
