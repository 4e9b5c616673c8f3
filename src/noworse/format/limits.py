"""What a reader accepts before it allocates anything."""

INDEX_BYTES = 16 << 20  # of the compressed and of the decompressed index
TENSORS = 1_000_000
NAME_BYTES = 4096  # per name, UTF-8
NAMES_BYTES = 64 << 20  # of all names: front coding could inflate a small index
JSON_BYTES = 1 << 20  # of the settings, and of the verdict: as Python objects they take up to 30 times as much
JSON_DEPTH = 32  # whoever handles them later may recurse
JSON_DIGITS = 40  # of an integer: converting long ones takes quadratic time
ITEM_BYTES = 1024  # charged for a tensor or a stream that an index describes
ITEMS_PER_BYTE, FREE_ITEMS = 8, 1 << 12  # of these; a name and a signature take a byte or more when deflated
SLACK_BYTES = 64 << 20  # what a reader may use beyond the decoded tensors
PRODUCTS_PER_BYTE, FREE_PRODUCTS = 1 << 18, 1 << 28  # multiplications of numbers, in all products of a file
SYMBOLS_PER_BYTE, FREE_SYMBOLS = 1 << 8, 1 << 16  # of all context-coded streams: what they decode to takes time


def default_max_bytes(file_size: int) -> int:
    """Return the decoded bytes accepted where the caller sets no limit: 256 MiB plus 1024 times the file's size."""
    return (256 << 20) + 1024 * file_size


def described_items(max_bytes: int, file_size: int) -> int:
    """Return how many tensors, or streams, an index may describe: deflate packs a million into a few kilobytes.

    They take memory, and time for each, however small they are.
    """
    return min((max_bytes + SLACK_BYTES) // ITEM_BYTES, FREE_ITEMS + ITEMS_PER_BYTE * file_size)
