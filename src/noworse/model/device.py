"""Where a model is: on the processor, or on another device of torch, and what differs there.

Tensors of one operation must be on one device, generators of random numbers too. Not every device has float64, and sums
are the same in every run only where torch is asked for that.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noworse.checkpoint.storage import usable_device
from noworse.errors import BadInput
from noworse.model.tensors import twin

CPU = torch.device("cpu")
Module = TypeVar("Module", bound=nn.Module)


def home(module: nn.Module) -> torch.device:
    """Return the device of a module's first tensor; the processor without any."""
    return next((tensor.device for tensors in (module.parameters(), module.buffers()) for tensor in tensors), CPU)


def placed(module: Module, device: object = None) -> Module:
    """Return a module whose tensors are on one ``device``: the same if they are there, else a copy.

    Without a ``device`` they stay where they are. BadInput where that is on several, or for a device that cannot be
    used. Single numbers may be on the processor, as torch has it.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wanted = None if device is None else usable_device(device)
    homes = {(wanted or tensor.device): name for name, tensor in reversed(tensors.items()) if tensor.dim()}
    if len(homes) > 1:
        found = ", ".join(f"{name!r} on {where}" for where, name in reversed(homes.items()))
        raise BadInput(f"tensors of the model are on several devices, {found}: expected one, or device= to move a copy")
    if wanted is None or all(tensor.device == wanted for tensor in tensors.values()):
        return module
    known: dict[int, Tensor] = {}  # to() alone may give every place of a tied tensor one of its own
    for tensor in tensors.values():
        held = tensor.detach().to(wanted, copy=True)
        known[id(tensor)] = nn.Parameter(held, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else held
    return twin(module, known).to(wanted)


@functools.cache
def _has_double(device: torch.device) -> bool:
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):  # of MPS the former
        return False
    return True


def wide(device: torch.device) -> torch.device:
    """Return a device itself if it has float64, else the processor."""
    return device if _has_double(device) else CPU


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the processor where its device has none."""
    return tensor.double() if _has_double(tensor.device) else tensor.cpu().double()


def seeded(device: torch.device, seed: int) -> torch.Generator:
    """Return a new generator of random numbers on a device."""
    return torch.Generator(device).manual_seed(seed)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states (bytes) of torch's own generators, that of the processor and that of a ``device``, by name."""
    states = {"random": torch.get_rng_state()}
    if device.type != "cpu":
        module, which = _module(device)
        states["random there"] = module.get_rng_state(*which)
    return states


def set_random_states(device: torch.device, states: dict[str, Tensor]) -> None:
    """Bring torch's own generators to ``states``."""
    torch.set_rng_state(states["random"])
    if device.type != "cpu":
        module, which = _module(device)
        module.set_rng_state(states["random there"], *which)


def _module(device: torch.device) -> tuple[Any, tuple[torch.device, ...]]:
    """The part of torch that a device has for itself, and how its functions are told which: of MPS there is one."""
    return getattr(torch, device.type), () if device.type == "mps" else (device,)


@contextmanager
def own_random(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Leave torch's own generators, after a block, as they were before it; in the block they start at a ``seed``."""
    before = random_states(device)
    try:
        if seed is not None:
            begin = {"random": seeded(CPU, seed).get_state(), "random there": seeded(device, seed).get_state()}
            set_random_states(device, begin)
        yield
    finally:
        set_random_states(device, before)


@contextmanager
def steady(device: torch.device) -> Iterator[None]:
    """In a block, sum on a ``device`` in the same order in every run, where torch can, and in all of float32's bits."""
    if device.type == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the device is first used
    # torch.use_deterministic_algorithms imports a compiler of 130 MB and some seconds
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled: Any = torch.utils.deterministic
    switches = [(filled, "fill_uninitialized_memory"), (torch.backends.cudnn, "benchmark")]
    switches += [(torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32")]
    with ExitStack() as stack:
        for place, name in switches:
            stack.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, False)
        stack.callback(torch._C._set_deterministic_algorithms, strict, warn_only=warns)
        torch._C._set_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*deterministic")  # docs/scale.md says of what
            yield


OutOfMemory: Any = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
TELLING = ("out of memory", "not enough memory", "can't allocate memory")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or the processor, has no memory left."""
    known = isinstance(error, (OutOfMemory, MemoryError))
    return known or (isinstance(error, RuntimeError) and any(text in str(error) for text in TELLING))


@contextmanager
def room(expected: Callable[[], str]) -> Iterator[None]:
    """Raise BadInput, with what is ``expected`` instead, where memory runs out in a block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"memory ran out ({reason}): expected {expected()}") from error
