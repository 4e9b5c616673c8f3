"""Model files of others, read one tensor at a time: safetensors, sharded or not, and torch's own where it is safe."""

from noworse.checkpoint.base import Checkpoint, Header
from noworse.checkpoint.export import write_safetensors
from noworse.checkpoint.sharded import ENDINGS, is_checkpoint, open_checkpoint

__all__ = ["ENDINGS", "Checkpoint", "Header", "is_checkpoint", "open_checkpoint", "write_safetensors"]
