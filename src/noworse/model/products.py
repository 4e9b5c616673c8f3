"""Products of a file as the factors of a module's layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from noworse.format import File
from noworse.model.factorised import DENSE, SPLITS, Factorised, factorised, in_order, replace, replaceable, shaped
from noworse.representation import Product

WAYS = {split: way for way, split in SPLITS.items()}


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
