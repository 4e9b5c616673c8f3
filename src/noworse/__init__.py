"""noworse: the smallest file for a trained PyTorch model, and proof that it is no worse.

Reading a file needs numpy alone; what needs torch (``pip install noworse[torch]``) is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from noworse.errors import BadInput, CorruptFile, MismatchedModule, NoWorseError, TargetMissed
from noworse.io import load, load_file, safe_open, save, save_file

if TYPE_CHECKING:
    from noworse import sensitivity
    from noworse.datafree.files import FileReport, compress_file
    from noworse.export.onnx import export_onnx
    from noworse.jobs.compress import compress, compress_task
    from noworse.jobs.decompose import Decomposition, decompose, decompose_task, load_decomposed
    from noworse.jobs.quantize import Quantization, load_quantized, quantize, quantize_task
    from noworse.jobs.report import Report
    from noworse.judge.verdict import Verdict
    from noworse.judge.verify import verify, verify_task
    from noworse.model.load import load_model
    from noworse.sensitivity.curves import Neighborhood
    from noworse.sensitivity.neighborhood import neighborhood
    from noworse.task.task import Extras, Task, load_task
    from noworse.tune.options import Options

__version__ = "0.1.0"

__all__ = [
    "BadInput", "CorruptFile", "Decomposition", "Extras", "FileReport", "MismatchedModule", "Neighborhood",
    "NoWorseError", "Options", "Quantization", "Report", "TargetMissed", "Task", "Verdict", "compress",
    "compress_file", "compress_task", "decompose", "decompose_task", "export_onnx", "load", "load_decomposed",
    "load_file", "load_model", "load_quantized", "load_task", "neighborhood", "quantize", "quantize_task",
    "safe_open", "save", "save_file", "sensitivity", "verify", "verify_task",
]  # fmt: skip

_HOMES = {  # of what is imported when it is first asked for
    "datafree.files": ("FileReport", "compress_file"),
    "export.onnx": ("export_onnx",),
    "jobs.compress": ("compress", "compress_task"),
    "jobs.decompose": ("Decomposition", "decompose", "decompose_task", "load_decomposed"),
    "jobs.quantize": ("Quantization", "load_quantized", "quantize", "quantize_task"),
    "jobs.report": ("Report",),
    "judge.verdict": ("Verdict",),
    "judge.verify": ("verify", "verify_task"),
    "model.load": ("load_model",),
    "sensitivity.curves": ("Neighborhood",),
    "sensitivity.neighborhood": ("neighborhood",),
    "task.task": ("Extras", "Task", "load_task"),
    "tune.options": ("Options",),
}


def __getattr__(name: str) -> Any:
    if name == "sensitivity":  # a package of its own, for noworse.sensitivity.measure
        return import_module("noworse.sensitivity")
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'noworse' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"noworse.{home}"), name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in ("torch", "scipy", "rich"):
            raise ImportError(f"noworse.{name} needs {error.name}: pip install noworse[torch]") from error
        raise
    globals()[name] = value
    return value
