from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from noworse.model.hooks import Functions, first_tensor, floating, removing, with_first


def test_hooks_are_gone_after_the_block_even_if_it_fails() -> None:
    layer, seen = nn.Linear(2, 3), []

    def note(module: nn.Module, arguments: object, output: object) -> None:
        seen.append(output)

    with removing([layer.register_forward_hook(note), layer.register_forward_hook(note)]):
        layer(torch.zeros(1, 2))
    with pytest.raises(RuntimeError), removing([layer.register_forward_hook(note)]):
        layer(torch.zeros(1, 5))
    layer(torch.zeros(1, 2))
    assert len(seen) == 2


def test_the_first_tensor_is_changed_wherever_it_stands() -> None:
    x, ids = torch.ones(2), torch.tensor([1])
    for args, kwargs in (((x,), {}), ((), {"input": x}), ((None, [ids, x]), {}), ((ids,), {"mask": x})):
        changed = with_first(args, kwargs, lambda tensor: 3 * tensor)
        assert changed is not None
        assert [t.tolist() for t in tree_leaves(changed) if floating(t)] == [[3.0, 3.0]]
    assert with_first((ids, "text"), {}, torch.neg) is None
    assert first_tensor(("text", {"ids": ids}), {}) is ids


def test_functions_are_called_through_in_the_block_only() -> None:
    names: list[str] = []

    def twice(function, args, kwargs):  # type: ignore[no-untyped-def]
        names.append(function.__name__)
        return 2 * function(*args, **kwargs)

    x = torch.ones(2)
    with Functions(twice):
        inside = torch.add(x, x)
    outside = torch.add(x, other=x)
    assert (inside.tolist(), outside.tolist(), names) == ([4, 4], [2, 2], ["add"])
