"""``noworse compress``: a task in, a small and verified file out; or a model file in, without data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noworse.checkpoint import ENDINGS, is_checkpoint
from noworse.errors import BadInput, TargetMissed

if TYPE_CHECKING:
    from noworse.tune.options import Options

HELP = "compress the model of a task and judge it on held-out data, or a model file without any data"
TASK_ONLY = ("tolerance", "no_gate", "work", "seed", "iterations", "coder", "preset", "keep", "options", "settings")
FILE_ONLY = ("lossless", "max_error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "task", metavar="TASK|FILE", help="path/file.py:object, package.module:object, or a .safetensors or .pt file"
    )
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the .nwt file to write")
    parser.add_argument("--target", type=_number, help="a ratio such as 20, '400KB', or '1.6 bits' per weight")
    parser.add_argument(
        "--tolerance", type=_number, help="most mean loss added: 0.01, or 1%% of the original's loss (the default)"
    )
    parser.add_argument(
        "--no-gate", action="store_true", help="write a file of the target size whatever the verdict on it"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same bytes")
    parser.add_argument("--iterations", type=int, metavar="N", help="of tuning")
    parser.add_argument(
        "--coder", metavar="auto|fast|max", help="max: smaller, slower to read; auto: max for small models"
    )
    parser.add_argument("--preset", metavar="NAME", help="default, or fast: without training")
    parser.add_argument(
        "--keep", action="append", default=[], metavar="PATTERN", help="store tensors losslessly: 'head.*'"
    )
    parser.add_argument("--options", metavar="FILE", help="advanced options as a JSON object")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help="one advanced option"
    )
    parser.add_argument("--lossless", action="store_true", help="model files: bit for bit")
    parser.add_argument(
        "--max-error", metavar="E", help="model files: most error of any element, 0.01 or 1%% of the tensor's largest"
    )
    parser.add_argument("--work", metavar="FOLDER", help="keep checkpoints there; the same command goes on from them")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def run(arguments: argparse.Namespace) -> int:
    """Compress; TargetMissed where target or tolerance was not met, after the report with ``--json``."""
    if is_checkpoint(arguments.task):
        return _run_file(arguments)
    _refuse(arguments, FILE_ONLY, f"a task: {arguments.task} is no model file, which ends in {', '.join(ENDINGS)}")
    settings = read_options(arguments)
    from noworse.jobs.compress import compress_task
    from noworse.jobs.progress import show_progress
    from noworse.run.processes import is_first
    from noworse.task.task import load_task

    if arguments.no_gate and arguments.tolerance is not None:
        raise BadInput("--no-gate was given with --tolerance: expected one of them")
    tolerance = None if arguments.no_gate else "1%" if arguments.tolerance is None else arguments.tolerance
    task = load_task(arguments.task)
    try:
        report = compress_task(
            replace(task, keep=[*task.keep, *arguments.keep]),
            arguments.out,
            target=arguments.target,
            tolerance=tolerance,
            options=settings,
            work=arguments.work,
            progress=None if arguments.quiet else show_progress,
        )
    except TargetMissed as missed:
        if arguments.json and is_first():
            print(missed.report.to_json())
        raise
    if is_first():
        print(report.to_json() if arguments.json else report)
    return 0


def _run_file(arguments: argparse.Namespace) -> int:
    """The same for a model file."""
    from noworse.datafree.files import compress_file

    _refuse(arguments, TASK_ONLY, "a model file: it is for tasks, which have data")
    chosen = [arguments.lossless, arguments.target is not None, arguments.max_error is not None]
    if chosen.count(True) != 1:
        raise BadInput("a model file is compressed with one of --lossless, --target and --max-error")
    report = compress_file(
        arguments.task,
        arguments.out,
        lossless=arguments.lossless,
        target=arguments.target,
        max_error=arguments.max_error,
    )
    print(report.to_json() if arguments.json else report)
    return 0


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """BadInput where an option was given that means nothing here."""
    for name in names:
        value = getattr(arguments, name)
        if not (value is None or value is False or value == []):  # a seed of 0 is given
            option = {"settings": "set"}.get(name, name).replace("_", "-")
            raise BadInput(f"--{option} cannot be used with {why}")


def read_options(arguments: argparse.Namespace) -> Options:
    """Options from ``--preset`` or ``--options``, ``--set``, then ``--seed`` and so on; BadInput for what is wrong."""
    from noworse.tune.options import Options
    from noworse.tune.presets import choose

    given = None
    if arguments.options is not None:
        text = Path(arguments.options).read_bytes().decode(errors="replace")  # what is no UTF-8 is no JSON either
        given = Options.from_json(text)
    values = json.loads(choose(given, arguments.preset or "default").to_json())
    for setting in arguments.settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise BadInput(f"--set {setting}: expected NAME=VALUE")
        values[name.strip()] = _value(value)
    for name in ("seed", "iterations", "coder"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    return Options.from_json(json.dumps(values))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
