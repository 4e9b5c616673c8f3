"""``python -m attacks FOLDER``: write every bad file, named by its cause, and a README that says what each one is."""

from __future__ import annotations

import argparse
from pathlib import Path

from attacks.catalogue import ATTACKS

HEAD = """# Bad files

Each file is refused with one `CorruptFile`. Made by `python -m attacks FOLDER`; never load them with anything else.

| file | what it is | the reader says |
|---|---|---|
"""


def readme() -> str:
    """One line for each attack."""
    return HEAD + "".join(f"| {bad.name}.nwt | {bad.what} | {bad.answer} |\n" for bad in ATTACKS)


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(prog="python -m attacks", description="write bad .nwt files, one per cause")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made where it is missing")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for bad in ATTACKS:
        (folder / f"{bad.name}.nwt").write_bytes(bad.data())
    (folder / "README.md").write_text(readme(), encoding="utf-8")
    print(f"{len(ATTACKS)} bad files in {folder}")


if __name__ == "__main__":
    main()
