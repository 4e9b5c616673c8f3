"""``noworse compress``: a task in, a small and verified file out; or a model file in, without data."""

import argparse
from collections.abc import Sequence

from noworse.checkpoint import ENDINGS, is_checkpoint
from noworse.cli import tasks
from noworse.errors import BadInput

HELP = "compress the model of a task and judge it on held-out data, or a model file without any data"
TASK_ONLY = (
    *("tolerance", "no_gate", "work", "device", "seed", "iterations", "coder", "preset", "keep", "options", "settings"),
)
FILE_ONLY = ("lossless", "max_error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("task", metavar="TASK|FILE", help=f"{tasks.ADDRESS}, or a .safetensors or .pt file")
    parser.add_argument("--target", type=tasks.number, help="a ratio such as 20, '400KB', or '1.6 bits' per weight")
    parser.add_argument("--iterations", type=int, metavar="N", help="of tuning")
    parser.add_argument(
        "--coder", metavar="auto|fast|max", help="max: smaller, slower to read; auto: max for small models"
    )
    tasks.add_arguments(parser, "default, fast: without training, or paper: L² as its authors' code does it")
    parser.add_argument("--lossless", action="store_true", help="model files: bit for bit")
    parser.add_argument(
        "--max-error", metavar="E", help="model files: most error of any element, 0.01 or 1%% of the tensor's largest"
    )


def run(arguments: argparse.Namespace) -> int:
    """Compress; TargetMissed where target or tolerance was not met, after the report with ``--json``."""
    if is_checkpoint(arguments.task):
        return _run_file(arguments)
    _refuse(arguments, FILE_ONLY, f"a task: {arguments.task} is no model file, which ends in {', '.join(ENDINGS)}")
    options = tasks.read_options(arguments, arguments.preset)
    from noworse.jobs.compress import compress_task

    return tasks.run(compress_task, arguments, options, target=arguments.target)


def _run_file(arguments: argparse.Namespace) -> int:
    from noworse.datafree.files import compress_file

    _refuse(arguments, TASK_ONLY, "a model file: it is for tasks, which have data")
    ways = {name: getattr(arguments, name) for name in ("lossless", "target", "max_error")}
    if [value is not None and value is not False for value in ways.values()].count(True) != 1:
        raise BadInput("a model file is compressed with one of --lossless, --target and --max-error")
    report = compress_file(arguments.task, arguments.out, **ways)
    print(report.to_json() if arguments.json else report)
    return 0


def _refuse(arguments: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise BadInput where an option was given that means nothing here."""
    for name in names:
        value = getattr(arguments, name)
        if not (value is None or value is False or value == []):  # a seed of 0 is given
            option = {"settings": "set"}.get(name, name).replace("_", "-")
            raise BadInput(f"--{option} cannot be used with {why}")
