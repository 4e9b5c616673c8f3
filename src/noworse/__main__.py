"""``python -m noworse``: the command line."""

from noworse.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
