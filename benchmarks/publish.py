"""Make the tables and pictures of docs/ and README.md anew from the stored results: ``python -m benchmarks.publish``.

A page says between which marks which table goes (``harness.page``). Nothing is measured.
"""

from __future__ import annotations

from benchmarks.documents import ablations, llc, lowrank, pictures, results
from benchmarks.harness.page import ROOT, Tables, filled, pages
from benchmarks.harness.row import stored

TABLES: Tables = {**results.TABLES, **lowrank.TABLES, **llc.TABLES, **ablations.TABLES}


def main() -> None:
    for page in pages():
        page.write_text(filled(page.read_text(), TABLES))
    pictures.ratios(stored("l2"), ROOT / "docs" / "ratios.png")
    pictures.neighbourhoods(stored("llc"), ROOT / "docs" / "figures" / "neighborhood.png")
    ablations.pictures(stored("ablations"), ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
