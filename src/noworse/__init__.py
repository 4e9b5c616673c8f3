"""noworse: the smallest file for a trained PyTorch model, and proof that it is no worse.

Reading a file needs numpy alone; what needs torch (``pip install noworse[torch]``) is imported when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from noworse.errors import BadInput, CorruptFile, MismatchedModule, NoWorseError, TargetMissed
from noworse.io import load, load_file, load_model, safe_open, save, save_file

if TYPE_CHECKING:
    from noworse import sensitivity
    from noworse.compress import compress, compress_task
    from noworse.decompose import Decomposition, decompose, decompose_task
    from noworse.onnx_export import export_onnx
    from noworse.options import Options
    from noworse.quantize import Quantization, load_quantized, quantize, quantize_task
    from noworse.report import Report
    from noworse.sensitivity.curves import Neighborhood
    from noworse.sensitivity.neighborhood import neighborhood
    from noworse.task import Task, load_task
    from noworse.tensor_files import FileReport, compress_file
    from noworse.verdict import Verdict
    from noworse.verify import verify

__version__ = "0.1.0"

__all__ = [
    "BadInput",
    "CorruptFile",
    "Decomposition",
    "FileReport",
    "MismatchedModule",
    "Neighborhood",
    "NoWorseError",
    "Options",
    "Quantization",
    "Report",
    "TargetMissed",
    "Task",
    "Verdict",
    "compress",
    "compress_file",
    "compress_task",
    "decompose",
    "decompose_task",
    "export_onnx",
    "load",
    "load_file",
    "load_model",
    "load_quantized",
    "load_task",
    "neighborhood",
    "quantize",
    "quantize_task",
    "safe_open",
    "save",
    "save_file",
    "sensitivity",
    "verify",
]

_LAZY = {
    "compress": "compress",
    "compress_task": "compress",
    "Decomposition": "decompose",
    "decompose": "decompose",
    "decompose_task": "decompose",
    "Neighborhood": "sensitivity.curves",
    "neighborhood": "sensitivity.neighborhood",
    "Options": "options",
    "Quantization": "quantize",
    "export_onnx": "onnx_export",
    "load_quantized": "quantize",
    "quantize": "quantize",
    "quantize_task": "quantize",
    "Report": "report",
    "compress_file": "tensor_files",
    "FileReport": "tensor_files",
    "Task": "task",
    "load_task": "task",
    "Verdict": "verdict",
    "verify": "verify",
}


def __getattr__(name: str) -> Any:
    if name == "sensitivity":  # a package of its own, for noworse.sensitivity.measure
        return import_module("noworse.sensitivity")
    if name not in _LAZY:
        raise AttributeError(f"module 'noworse' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"noworse.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in ("torch", "scipy", "rich"):
            raise ImportError(f"noworse.{name} needs {error.name}: pip install noworse[torch]") from error
        raise
    globals()[name] = value
    return value


class _Package(ModuleType):
    """This package; importing the submodules ``compress`` and ``verify`` does not hide the functions of these names."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
