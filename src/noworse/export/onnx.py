"""A quantised module as an ONNX file that runs as integers: weights as int8 or int4 with DequantizeLinear, inputs of
layers through QuantizeLinear and DequantizeLinear.

PyTorch's TorchScript exporter traces a copy of the module; its float weights are then replaced by their codes, which
are found by shape and value, because exporters fold and rename. Needs onnx (``pip install noworse[onnx]``).
"""

import copy
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noworse.errors import BadInput
from noworse.format.source import atomic_file
from noworse.jobs.quantize import Quantization
from noworse.model.quantized import Quantizer, Range, activation_ranges, add_rounding
from noworse.propose.bits.rounding import Rounded

TRACED_OPSET, OPSET = 17, 21  # int4 needs 21
EIGHT = 8  # bits of inputs that QuantizeLinear has
CLOSE = 1e-4  # of the largest weight: what folding of norms may change


def _traced(values: Range) -> Quantizer:
    """The same rounding by an operator that the exporter knows."""
    fake = torch.fake_quantize_per_tensor_affine
    return Quantizer(values, lambda x: fake(x, values.scale, values.zero, 0, 2**EIGHT - 1))


def export_onnx(quantised: Quantization, example: Tensor, path: str | Path) -> int:
    """Write a quantised module to an ONNX file and return its bytes; ``example`` (B, ...) is a batch of its input.

    The batch size stays free. Weights of more than 8 bits and those of recurrent layers stay float32. BadInput for
    inputs that are not rounded to nearest with 8 bits.
    """
    try:
        import onnx
        from onnx import version_converter
    except ImportError as error:
        raise BadInput("export to ONNX needs onnx: pip install noworse[onnx]") from error
    for name, values in activation_ranges(quantised.module).items():
        if values.bits != EIGHT or values.rounding != "nearest":
            has = f"{values.bits} bits, rounded {values.rounding}"
            raise BadInput(f"inputs of layer {name!r} have {has}: expected 8 bits, rounded to nearest")
    weights = {  # but for those of recurrent layers, which the exporter lays out anew
        p.name: p.written
        for p in quantised.proposals
        if isinstance(p.written, Rounded) and p.written.bits <= EIGHT and p.name.endswith(".weight")
    }
    for fold in (True, False):  # a norm that was not folded here, the exporter folds into weights, which then have gone
        model = version_converter.convert_version(onnx.load_from_string(_trace(quantised, example, fold)), OPSET)
        placed = {name: rounded.decode() for name, rounded in weights.items() if _replace(model.graph, name, rounded)}
        lost = [n for n in weights if n not in placed and not _twin(weights[n].decode(), placed.values())]
        if not lost:
            break
    else:
        raise BadInput(f"the exporter left no tensor that holds {lost[0]!r}: expected its decoded values")
    onnx.checker.check_model(model)
    with atomic_file(path) as out:
        return out.write(model.SerializeToString())


def _twin(weight: Tensor, placed: Iterable[Tensor]) -> bool:
    """Whether the same weight was placed for another layer: exporters keep one of equal tensors."""
    return any(torch.equal(weight, other) for other in placed)


def _trace(quantised: Quantization, example: Tensor, fold: bool) -> bytes:
    module = copy.deepcopy(quantised.module).eval().cpu()
    add_rounding(module, activation_ranges(module), _traced)
    out: Any = io.BytesIO()  # a file object serves, whatever the exporter's annotation says
    free = {"input": {0: "batch"}, "output": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        torch.onnx.export(
            module, (example.cpu(),), out, dynamo=False, opset_version=TRACED_OPSET, input_names=["input"],
            output_names=["output"], dynamic_axes=free,
            training=torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return bytes(out.getvalue())


def _replace(graph: Any, name: str, rounded: Rounded) -> int:
    """Put the codes in the place of every initialiser that holds the decoded weight, or its transpose; return how many.

    Zero points are there although all are zero: some of onnxruntime's kernels ask for them.
    """
    from onnx import TensorProto, helper, numpy_helper

    wanted: NDArray[np.float32] = rounded.decode().numpy()
    codes = rounded.codes.reshape(rounded.shape).numpy()
    scales = rounded.steps.values().float().numpy()
    one = len(scales) == 1

    def holds(initializer: Any, target: NDArray[np.float32]) -> bool:
        if tuple(initializer.dims) != target.shape or initializer.data_type != TensorProto.FLOAT:
            return False
        return np.allclose(numpy_helper.to_array(initializer), target, rtol=0, atol=CLOSE * np.abs(wanted).max())

    targets = [wanted, wanted.T] if wanted.ndim == 2 else [wanted]
    hits = 0
    for initializer in list(graph.initializer):
        turned = next((axis for axis, target in enumerate(targets) if holds(initializer, target)), None)
        if turned is None:
            continue
        own = initializer.name
        given = [f"{own}.codes", f"{own}.scale", f"{own}.zero"]
        graph.initializer.remove(initializer)
        graph.initializer.append(_packed(given[0], np.ascontiguousarray(codes.T if turned else codes), rounded.bits))
        graph.initializer.append(numpy_helper.from_array(scales[0] if one else scales, given[1]))
        graph.initializer.append(_packed(given[2], np.zeros(() if one else len(scales), np.int8), rounded.bits))
        axis: dict[str, Any] = {} if one else {"axis": turned}
        graph.node.insert(0, helper.make_node("DequantizeLinear", given, [own], name=f"{own}.decoded", **axis))
        hits += 1
    return hits


def _packed(name: str, codes: NDArray[np.int8], bits: int) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    if bits > 4:
        return numpy_helper.from_array(codes, name)
    flat = np.append(codes.reshape(-1), np.zeros(codes.size % 2, np.int8)).view(np.uint8) & 0xF
    return helper.make_tensor(name, TensorProto.INT4, codes.shape, (flat[::2] | (flat[1::2] << 4)).tobytes(), raw=True)
