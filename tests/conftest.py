"""Settings of all property tests."""

from hypothesis import settings

settings.register_profile("noworse", deadline=None)  # an example takes long where a machine does other work as well
settings.load_profile("noworse")
