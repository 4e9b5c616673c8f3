"""Damaged files through the reader, by the thousand (``python -m fuzz``); docs/safety.md says what must hold."""
