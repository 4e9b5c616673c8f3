"""Progress on standard error: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys

from noworse.tune import Step


def show_progress(step: Step) -> None:
    """Print stage, iteration, bytes now against the target, distillation loss and the time left."""
    line = step.stage
    if step.budget:
        line += f" {step.iteration}/{step.iterations}  {step.size:,.0f} of {step.budget:,.0f} bytes"
        line += f"  loss {step.loss:.5f}  {step.seconds_left:.0f} s left"
    if sys.stderr.isatty():
        last = step.iteration == step.iterations or not step.budget
        sys.stderr.write(f"\r\x1b[2K{line}" + ("\n" if last else ""))
    elif not step.budget or step.iteration % 100 == 0 or step.iteration == step.iterations:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()
