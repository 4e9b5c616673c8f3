"""``noworse decompose``: a task in, a file of a model whose layers are low-rank factors out."""

import argparse

from noworse.cli import tasks

HELP = "replace layers of a task's model by low-rank factors of fewer parameters, without training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("task", metavar="TASK", help=tasks.ADDRESS)
    parser.add_argument("--drop", type=tasks.number, metavar="S", help="share of the parameters to remove, 0 to 1")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="touch these layers alone: 'blocks.*'")
    tasks.add_arguments(parser, "default, svd, fwsvd, asvd, svd-llm, or paper: LLC as published")


def run(arguments: argparse.Namespace) -> int:
    """Decompose; TargetMissed where the tolerance was not met, after the report with ``--json``."""
    options = tasks.read_options(arguments)
    from noworse.jobs.decompose import decompose_task

    preset = arguments.preset or "default"
    return tasks.run(decompose_task, arguments, options, drop=arguments.drop, only=arguments.only, preset=preset)
