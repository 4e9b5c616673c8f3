"""What a model is to us: every parameter and buffer of its state, with tied storage found."""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from noworse.checkpoint.storage import key
from noworse.errors import BadInput

SUGGESTIONS = 3  # of names, where a pattern matches none


@dataclass(frozen=True)
class StateTensor:
    """One entry of a module's state: its name, the tensor itself (not a copy), and the entry it shares storage with."""

    name: str
    tensor: Tensor
    is_parameter: bool
    tied_to: str | None = None

    @property
    def is_grid(self) -> bool:
        """Whether it is written as a quantised grid: a floating-point parameter of its own that is not constant."""
        flat = self.tensor.detach().flatten()
        fits = self.is_parameter and self.tied_to is None and flat.is_floating_point() and len(flat) > 1
        return fits and not bool((flat == flat[0]).all())


def state_tensors(module: nn.Module) -> list[StateTensor]:
    """Return every parameter and persistent buffer of a module in the order of ``state_dict``.

    Raises BadInput where there is nothing to compress, or for tensors that cannot be stored and NaN or infinite
    parameters, naming the tensor.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    seen: dict[tuple[object, ...], str] = {}
    owners: dict[int, list[tuple[str, Tensor, bool]]] = {}
    entries = []
    state = module.state_dict(keep_vars=True)
    renamed = [name for name in parameters if name not in state]
    if renamed:
        found = f"state_dict() of the model has no {min(renamed)!r}, which is one of its parameters"
        raise BadInput(f"{found}: expected the same names (a hook of state_dict may change them)")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise BadInput(f"state entry {name!r} is a {type(tensor).__name__}: expected tensors, of extra state too")
        home = seen.setdefault(key(name, tensor), name) if tensor.numel() else name
        if tensor.numel() and (home == name or (home in parameters) != (name in parameters)):
            _refuse_overlap(name, tensor, name in parameters, owners)
        if name in parameters and tensor.is_floating_point():
            wide = tensor.detach() if tensor.element_size() > 1 else tensor.detach().float()
            bad = int((~torch.isfinite(wide)).sum())
            if bad:
                raise BadInput(f"parameter {name!r} has {bad} NaN or infinite values: expected finite weights")
        entries.append(StateTensor(name, tensor, name in parameters, None if home == name else home))
    if not any(entry.is_grid for entry in entries):
        raise BadInput("the model has no floating-point parameter to compress")
    return entries


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """What tensors agree in that are the same memory seen in the same way."""
    return tensor.data_ptr(), tensor.device, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride())


def _refuse_overlap(
    name: str, tensor: Tensor, trained: bool, owners: dict[int, list[tuple[str, Tensor, bool]]]
) -> None:
    """Raise BadInput where a parameter shares elements with a tensor that sees them otherwise, or is a buffer."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        return
    others = owners.setdefault(tensor.untyped_storage().data_ptr(), [])
    for other, view, either in others:
        if (trained or either) and bool(torch.isin(_places(tensor), _places(view)).any()):
            how = "in different shapes or orders" if trained and either else "as parameter and buffer"
            expected = "expected ties of one shape, or memory of their own"
            raise BadInput(f"tensors {other!r} and {name!r} share memory {how}: {expected}")
    others.append((name, tensor, trained))


def _places(tensor: Tensor) -> Tensor:
    """The offsets in its storage of all elements of a tensor, in bytes."""
    places = torch.full(tuple(tensor.shape), int(tensor.storage_offset()), dtype=torch.int64, device="cpu")
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        ends = torch.arange(size, device="cpu") * stride
        places += ends.reshape([-1 if d == dim else 1 for d in range(tensor.dim())])
    return places.flatten() * tensor.element_size()


def version_of(tensor: Tensor) -> int | None:
    """Return a number that is another one after each write into a tensor; None where torch does not count them."""
    return None if tensor.is_inference() else tensor._version


def kept_tensors(entries: Sequence[StateTensor], patterns: Iterable[str]) -> set[str]:
    """Return names that match the patterns, and what shares storage with them; BadInput for one without a match."""
    names = set(matching(patterns, [entry.name for entry in entries], "no tensor for keep"))
    homes = {entry.tied_to or entry.name for entry in entries if entry.name in names}
    return {entry.name for entry in entries if (entry.tied_to or entry.name) in homes}


PLAIN, FILLED = (bool, int, float, str, type(None)), (dict, OrderedDict, set)
M = TypeVar("M", bound=nn.Module)


def twin(module: M, known: Mapping[int, object] | None = None) -> M:
    """Return a deep copy of a module; tensors of a forward pass that it keeps are copied without their graph.

    Tensors that are the same memory in the original, tied through ``.data`` perhaps, are one tensor in the copy.
    ``known`` gives what stands for objects, by their ids, in place of copies. BadInput where it holds what cannot be
    copied, such as a lock.
    """
    memo = dict(known or {})
    for owner in module.modules():
        values = [value for value in vars(owner).values() if type(value) not in PLAIN]
        empty = [value for value in values if type(value) in FILLED and not value]  # of hooks: slow to copy
        memo |= {id(value): type(value)() for value in empty}
        for leaf in pytree.tree_leaves([value for value in values if id(value) not in memo]):
            if isinstance(leaf, Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach().clone()
    homes: dict[tuple[object, ...], Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.numel() and tensor.layout == torch.strided and tensor.device.type != "meta":
            home = homes.setdefault((type(tensor), *_memory(tensor)), tensor)
            if home is not tensor:
                memo[id(tensor)] = copy.deepcopy(home, memo)
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # anything may come out of the caller's code; the cause stays attached
        raise BadInput(f"the model cannot be copied ({error}): expected one that copy.deepcopy takes") from error


def float32_copy(module: nn.Module, share: bool = False) -> nn.Module:
    """Return a float32 copy of a module in eval mode, without gradients; ties of parameters and of buffers are kept.

    With ``share`` parameters that are float32 already lie in the memory of the original's, which must not change,
    unless they were made in inference mode and can have no gradients.
    """
    plain = (p for p in module.parameters() if type(p) is nn.Parameter and not p.is_inference())
    own = [p for p in plain if share and p.dtype == torch.float32]
    known = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in own}
    copied = twin(module, known).eval().requires_grad_(False)
    dense_gradients(copied)
    # Module.float alone would give every place of a tied buffer a tensor of its own
    homes = [(owner, name, buffer) for owner in copied.modules() for name, buffer in owner._buffers.items()]
    copied.float()
    converted: dict[int, Tensor] = {}
    for owner, name, before in homes:
        if before is not None:
            owner._buffers[name] = converted.setdefault(id(before), owner._buffers[name])  # type: ignore[arg-type]
    return copied


def check_float32(module: nn.Module) -> None:
    """Raise BadInput where a finite number of a module has none in float32, in which a result is to be returned."""
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
            lost = torch.isfinite(tensor) & ~torch.isfinite(tensor.float())
            if lost.any():
                value = float(tensor[lost][0])
                raise BadInput(f"{name!r} holds {value:g} in float64: expected numbers that float32 has, as results do")


def dense_gradients(module: nn.Module) -> None:
    """Let embeddings, in place, have gradients that are ordinary tensors, not sparse ones."""
    for layer in module.modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
            layer.sparse = False


def matching(patterns: Iterable[str], names: Sequence[str], what: str) -> list[str]:
    """Return those of ``names``, in their order, that match any pattern (``*`` matches dots too).

    BadInput for a pattern without a match; ``what`` says what chose ("keep") and of what ("tensor").
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            close = difflib.get_close_matches(pattern, names, SUGGESTIONS, 0.4) or list(names[:SUGGESTIONS])
            raise BadInput(f"{what} matches {pattern!r}: expected a name such as {', '.join(close)}")
        chosen.update(matches)
    return [name for name in names if name in chosen]
