from __future__ import annotations

from zoo import table


def test_the_readme_shows_the_numbers_of_the_training_logs() -> None:
    text = table.README.read_text()
    assert table.with_table(text) == text, "run: python -m zoo.table --write"
