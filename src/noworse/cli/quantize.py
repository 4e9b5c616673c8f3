"""``noworse quantize``: a task in, a file of integer weights and of the ranges of activations out."""

import argparse

from noworse.cli import tasks

HELP = "round weights and activations of a task's model to integers of few bits, without training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("task", metavar="TASK", help=tasks.ADDRESS)
    parser.add_argument(
        "--bits", type=tasks.value, metavar="B", help="most bits per weight on average, or a JSON object: bits by layer"
    )
    parser.add_argument("--activations", default="8", metavar="N|off", help="bits of the inputs of layers (8)")
    tasks.add_arguments(parser, "default, or paper: LLC as published")


def run(arguments: argparse.Namespace) -> int:
    """Quantise; TargetMissed where the tolerance was not met, after the report with ``--json``."""
    options = tasks.read_options(arguments)
    from noworse.jobs.quantize import quantize_task

    activations = False if arguments.activations == "off" else tasks.value(arguments.activations)
    preset = arguments.preset or "default"
    return tasks.run(quantize_task, arguments, options, bits=arguments.bits, activations=activations, preset=preset)
