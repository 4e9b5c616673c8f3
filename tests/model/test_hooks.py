from __future__ import annotations

import pytest
import torch
from torch import nn

from noworse.model.hooks import removing


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
