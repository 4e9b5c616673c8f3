"""Progress on standard error: a live bar on a terminal (rich), plain lines elsewhere."""

import atexit
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from noworse.tune.progress import ProgressLine

EVERY = 100  # iterations between plain lines


def describe(step: ProgressLine) -> str:
    """Return stage, iteration, bytes now against the budget, distillation loss and seconds left, on one line."""
    if not step.budget:
        return step.stage if step.iterations == 1 else f"{step.stage} {step.iteration}/{step.iterations}"
    line = f"{step.stage} {step.iteration}/{step.iterations}  {step.size:,.0f} of {step.budget:,.0f} bytes"
    return line + f"  loss {step.loss:.5f}  {step.seconds_left:.0f} s left"


class Display:
    """A callable that shows every ``ProgressLine`` it is given."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._stage = ""
        atexit.register(self._stop)  # an interrupted run must not leave the terminal without a cursor

    def __call__(self, step: ProgressLine) -> None:
        """Show one step."""
        if sys.stderr.isatty():
            self._live(step)
        elif step.iteration % EVERY == 0 or step.iteration == step.iterations:
            print(describe(step), file=sys.stderr, flush=True)

    def _live(self, step: ProgressLine) -> None:
        if self._bar is None or step.stage != self._stage:
            self._stop()
            columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
            self._bar = Progress(*columns, console=Console(stderr=True), auto_refresh=False)
            self._task = self._bar.add_task(describe(step), total=step.iterations)
            self._stage = step.stage
            self._bar.start()
        self._bar.update(self._task, completed=step.iteration, description=describe(step), refresh=True)
        if step.iteration == step.iterations or step.iterations == 1:
            self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


show_progress = Display()
