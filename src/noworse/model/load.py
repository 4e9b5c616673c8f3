"""Tensors of a file into a module of the user's own class, products as the factors of its layers where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from noworse.errors import BadInput, MismatchedModule
from noworse.format import File
from noworse.io import load_file
from noworse.model.factorised import DENSE, SPLITS, Factorised, factorised, in_order, replace, replaceable, shaped
from noworse.representation import Product

WAYS = {split: way for way, split in SPLITS.items()}


def load_model(module: nn.Module, path: str | Path, factorised: bool = False) -> nn.Module:
    """Load a file strictly into ``module``, in place, and return it; parameters take the dtypes of the file.

    Tensors of low rank are multiplied out, except where a layer of the module is in factors already (``decompose``);
    with ``factorised`` layers whose weight is of low rank in the file are replaced by factors first. Ties are those of
    the module itself. MismatchedModule, before anything is changed, names every missing, unexpected or unfitting
    tensor; CorruptFile for a damaged file.
    """
    tensors = into_factors(module, path, load_file(path), factorised)
    state = {name: value for name, value in module.state_dict().items() if hasattr(value, "shape")}
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))
    _check_fit(state, own, tensors, str(path))
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            own[name].data = own[name].data.to(tensor.dtype)
    module.load_state_dict(tensors, strict=False)  # names were checked; extra state that is no tensor stays
    return module


def _check_fit(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str
) -> None:
    common = [name for name in state if name in tensors]
    reasons = {
        "missing from the file": [name for name in state if name not in tensors],
        "not in the module": [name for name in tensors if name not in state],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)}, expected {tuple(state[name].shape)}"
            for name in common
            if state[name].shape != tensors[name].shape
        ],
        "not floating-point but trained": [
            f"{name} {tensors[name].dtype}"
            for name in common
            if name in own and own[name].requires_grad and not tensors[name].dtype.is_floating_point
        ],
        "tied in the module but different in the file": _broken_ties(own, tensors),
    }
    found = "; ".join(f"{what}: {', '.join(names)}" for what, names in reasons.items() if names)
    if found:
        raise MismatchedModule(f"{path} does not fit the module: {found}")
    meta = [name for name, tensor in state.items() if tensor.device.type == "meta"]
    if meta:
        raise BadInput(f"tensors of the module have no storage (device meta): {', '.join(meta)}; call to_empty first")


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
        left, right = (torch.from_numpy(f.storage()).view(tensors[name].dtype) for f in (product.left, product.right))
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
