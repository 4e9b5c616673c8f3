"""Everything but payload is small even in the file of a small model: a ResNet-20 of 20 convolutions at 1.2 bits."""

from __future__ import annotations

import numpy as np

from noworse.format import File, pack
from noworse.representation import Constant, Grid, pack_step

VERDICT = {
    "changed": 0.0213, "compressed_loss": 0.225457, "confidence": 0.95, "looks": 1, "lower_bound": -0.000123457,
    "mean_difference": 0.00204565, "mean_kl": 0.0123457, "metric_compressed": 0.9301, "metric_original": 0.9312,
    "original_loss": 0.223457, "samples": 10000, "tolerance": 0.01, "upper_bound": 0.00391235, "verdict": "no worse",
}  # fmt: skip
SETTINGS = {"distill": "kl", "iterations": 1500, "seed": 0, "target": "24.0"}


def layers():
    """Names of convolutions with their norms, and shapes."""
    yield "conv1", "bn1", (16, 1, 3, 3)
    for stage, width in enumerate([16, 32, 64], start=1):
        for block in range(3):
            before = width if block or stage == 1 else width // 2
            at = f"layer{stage}.{block}."
            yield f"{at}conv1", f"{at}bn1", (width, before, 3, 3)
            yield f"{at}conv2", f"{at}bn2", (width, width, 3, 3)
            if before != width:
                yield f"{at}shortcut.0", f"{at}shortcut.1", (width, before, 1, 1)


def resnet20(bits=1.2):
    """Grids of about ``bits`` per weight whose steps, edges and densities differ from layer to layer."""
    rng = np.random.default_rng(0)

    def grid(shape, scale):
        codes = np.rint(rng.laplace(scale=scale, size=shape)).astype(np.int32).reshape(-1)
        return Grid(codes, pack_step(float(np.exp(rng.normal() - 3))), int(rng.integers(34, 60)), shape, "float32")

    def constant(value, width):
        return Constant(np.float32(value).tobytes(), (width,), "float32")

    items = {}
    for conv, norm, shape in layers():
        items[f"{conv}.weight"] = grid(shape, 0.33 * bits * np.exp(0.25 * rng.normal()))
        items[f"{norm}.weight"] = constant(1, shape[0])
        items[f"{norm}.bias"] = grid(shape[:1], 6.0)
        items[f"{norm}.running_mean"] = constant(0, shape[0])
        items[f"{norm}.running_var"] = constant(1 - 1e-5, shape[0])
        items[f"{norm}.num_batches_tracked"] = Constant((23450).to_bytes(8, "little"), (), "int64")
    return {**items, "fc.weight": grid((10, 64), 1.0), "fc.bias": grid((10,), 6.0)}


def test_overhead_of_a_small_model():
    items = resnet20()
    data = pack(items, SETTINGS, VERDICT)
    with File(data) as file:
        where = file.attribution()
    overhead = len(data) - where["payload"]
    assert len(items) == 128
    assert 30_000 < len(data) < 50_000
    assert overhead <= 0.05 * len(data) + 384
    assert overhead <= 750, where  # what version 1 reaches; more is a step back
    assert where["names"] <= 100  # 3,067 bytes of text


def test_payload_is_close_to_the_entropy_of_each_tensor():
    items = resnet20()
    ideal = 0.0
    for item in items.values():
        if isinstance(item, Grid):
            counts = np.unique(item.codes, return_counts=True)[1]
            ideal += float((counts * np.log2(item.size / counts)).sum()) / 8
    with File(pack(items, {}, None)) as file:
        assert file.attribution()["payload"] <= 1.01 * ideal + 64
