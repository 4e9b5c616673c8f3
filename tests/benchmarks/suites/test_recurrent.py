from __future__ import annotations

import numpy as np
import torch

from benchmarks.suites.recurrent import SHRINKS, int4


def test_every_row_has_the_step_of_least_error_among_those_tried() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 0.1, 0, 3])[:, None]
    codes, steps = int4(weight)
    assert codes.dtype == torch.int8
    assert -8 <= int(codes.min()) <= int(codes.max()) <= 7
    for row, code, step in zip(weight.double().numpy(), codes.numpy(), steps.double().numpy(), strict=True):
        errors = []
        for share in SHRINKS:
            s = max(float(np.float16(share * np.abs(row).max() / 7)), 1e-7)
            errors.append(((np.clip(np.round(row / s), -8, 7) * s - row) ** 2).sum())
        np.testing.assert_allclose(((code * step - row) ** 2).sum(), min(errors), rtol=1e-3, atol=1e-12)
