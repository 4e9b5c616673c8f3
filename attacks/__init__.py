"""Bad files, one per cause, made by code (``python -m attacks FOLDER``); see README.md."""
