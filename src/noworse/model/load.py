"""Tensors of a file into a module of the user's own class, products as the factors of its layers where it has them."""

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from noworse.checkpoint.storage import as_tensor, usable_device
from noworse.errors import MismatchedModule
from noworse.format import File
from noworse.io import load_file
from noworse.model.factorised import DENSE, SPLITS, Factorised, factorised, in_order, replace, replaceable, shaped
from noworse.model.wrapped import require_numbers, unwrapped, without_prefix
from noworse.representation import Product

WAYS = {split: way for way, split in SPLITS.items()}


def load_model(
    module: nn.Module, path: str | Path, factorised: bool = False, strict: bool = True, device: object = None
) -> nn.Module:
    """Load a file into ``module``, in place, and return it; parameters take the dtypes of the file, with a warning.

    Tensors of low rank are multiplied out, except where a layer of the module is in factors already (``decompose``);
    with ``factorised`` layers whose weight is of low rank in the file are replaced by factors first. Ties are those of
    the module itself: one of tied tensors in the file is enough. What torch.compile or DataParallel puts before names
    is ignored. The module is moved to ``device`` where one is given. MismatchedModule, before anything is changed,
    names every unfitting tensor, and with ``strict`` every missing or unexpected one; BadInput for a module without
    tensors, or a device that cannot be used; CorruptFile for a damaged file.
    """
    require_numbers(module, "the module to load into")
    place = None if device is None else usable_device(device)
    inner = unwrapped(module)
    state = {name: value for name, value in inner.state_dict().items() if hasattr(value, "shape")}
    tensors = into_factors(inner, path, without_prefix(load_file(path), state), factorised)
    state = {name: value for name, value in inner.state_dict().items() if hasattr(value, "shape")}
    own: dict[str, Tensor] = dict(inner.named_parameters(remove_duplicate=False))
    own.update(inner.named_buffers(remove_duplicate=False))
    _check_fit(state, own, tensors, str(path), strict)
    if place is not None:
        inner.to(place)
    fitting = {name: tensor for name, tensor in tensors.items() if name in state}
    changed = set()
    for name, tensor in fitting.items():
        if name in own and any(size > 1 and not stride for size, stride in zip(tensor.shape, own[name].stride())):
            own[name].data = own[name].data.contiguous()  # an expanded tensor has one place for many elements
        if name in own and own[name].dtype != tensor.dtype:
            changed.add(f"{own[name].dtype} became {tensor.dtype}")
            own[name].data = own[name].data.to(tensor.dtype)
    if changed:
        warnings.warn(f"tensors of the module take the dtypes of {path}: {', '.join(sorted(changed))}", stacklevel=2)
    inner.load_state_dict(fitting, strict=False)  # names were checked; extra state that is no tensor stays
    return module


def _check_fit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str, strict: bool
) -> None:
    common = [name for name in state if name in tensors]
    if not common and not strict:
        found = f"{path} has none of the tensors of the module"
        raise MismatchedModule(f"{found}: {', '.join(list(tensors)[:3])}, ... for {', '.join(list(state)[:3])}, ...")
    tied = {id(own[name]) for name in common if name in own}
    missing = [name for name in state if name not in tensors and id(own.get(name)) not in tied]
    reasons = {
        "missing from the file": missing if strict else [],
        "not in the module": [name for name in tensors if name not in state] if strict else [],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, expected {tuple(state[name].shape)}"
            for name in common
            if state[name].shape != tensors[name].shape
        ],
        "not floating-point but trained": [
            f"{name} {dtype}"
            for name, dtype in ((name, tensors[name].dtype) for name in common)
            if name in own and own[name].requires_grad and not (dtype.is_floating_point or dtype.is_complex)
        ],
        "tied in the module but different in the file": _broken_ties(own, tensors),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in reasons.items() if names)
    if found:
        raise MismatchedModule(f"{path} does not fit the module: {found}")


def _broken_ties(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Pairs of names that are one tensor in the module, with values that are not equal in the file."""
    first: dict[int, str] = {}
    pairs = [(first.setdefault(id(own[name]), name), name) for name in tensors if name in own]
    return [f"{a} and {b}" for a, b in pairs if tensors[a] is not tensors[b] and not tensors[a].equal(tensors[b])]


def into_factors(module: nn.Module, path: str | Path, tensors: dict[str, Tensor], build: bool) -> dict[str, Tensor]:
    """Return ``tensors`` of the file at ``path`` by the names of ``module``: products as factors where it has factors.

    With ``build`` layers of the module whose weight is a product are replaced by factors first, where that is possible.
    """
    layers = {f"{name}.weight": layer for name, layer in module.named_modules()}
    dense = {n for n, layer in layers.items() if build and isinstance(layer, DENSE) and not replaceable(layer)}
    wanted = {n for n, layer in layers.items() if isinstance(layer, Factorised)} | dense
    if not wanted:
        return tensors
    with File(path) as file:
        products = {n: p for n in file.names if n in wanted and isinstance(p := file.representation(n), Product)}
    named = dict(tensors)
    for name, product in products.items():
        left, right = (as_tensor(f.storage(), f.dtype) for f in (product.left, product.right))
        factors = shaped(WAYS[product.split], product.shape, left, right)
        layer, prefix = layers[name], name.removesuffix("weight")
        if not isinstance(layer, Factorised):
            replacement = factorised(layer, WAYS[product.split], factors)
            replace(module, layer, replacement)
            layer = replacement
        del named[name]
        for place, value in enumerate(in_order(layer[0], factors)):
            named[f"{prefix}{place}.weight"] = value.contiguous()
        if f"{prefix}bias" in named:
            named[f"{prefix}{len(layer) - 1}.bias"] = named.pop(f"{prefix}bias")
    return named
