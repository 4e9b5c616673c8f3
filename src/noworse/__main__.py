"""``python -m noworse``: the command line."""

from __future__ import annotations

from noworse.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
