"""Bad groups: a docstring says what each file is, the decorator what the reader must answer."""

from __future__ import annotations

from attacks.base import attack, one
from attacks.forge import columns_of, forge
from attacks.indices import index_alone
from noworse.representation import Constant, Groups
from noworse.representation.columns import varints

GROUPS, CONSTANT = 7, 0
UINT8, FLOAT16, FLOAT32 = 1, 9, 10


def made_of(*parts: tuple[int, int, tuple[int, ...]], values: bytes) -> bytes:
    """Groups of float32 and shape (4, 8), of constants or other parts by kind, dtype and shape."""
    whole = [(GROUPS, FLOAT32, (4, 8)), *parts]
    kinds = bytes(kind << 5 | dtype for kind, dtype, _ in whole) + bytes(len(shape) for *_, shape in whole)
    extents = varints([extent for *_, shape in whole for extent in shape])
    return index_alone(varints([1, 0]) + b"a\0\4" + kinds + extents + values + b"\0\1\2\3" + bytes(2), bytes(16))


@attack("groups of groups, constant, constant")
def groups_of_groups() -> bytes:
    """Groups whose codes are groups, which lack parts of their own."""
    return made_of((GROUPS, FLOAT32, (4, 8)), (CONSTANT, FLOAT16, (4,)), (CONSTANT, UINT8, (4,)), values=bytes(3))


@attack("codes of groups are uint8 of (4, 9)")
def groups_of_strangers() -> bytes:
    """More codes than there are elements."""
    return made_of((CONSTANT, UINT8, (4, 9)), (CONSTANT, FLOAT16, (4,)), (CONSTANT, UINT8, (4,)), values=bytes(4))


@attack("scales of (5,) and shifts of (5,) for 32 elements")
def groups_of_unequal_size() -> bytes:
    """A last group beyond the end of the tensor."""
    return made_of((CONSTANT, UINT8, (4, 8)), (CONSTANT, FLOAT16, (5,)), (CONSTANT, UINT8, (5,)), values=bytes(4))


@attack("a scale or a shift of groups is not finite")
def groups_of_infinite_scale() -> bytes:
    """A scale whose products with zero differ between processors."""
    zeros = [Constant(bytes(width), shape, dtype) for width, shape, dtype in
             ((1, (4, 8), "uint8"), (2, (4,), "float16"), (1, (4,), "uint8"))]  # fmt: skip
    honest = one(Groups(*zeros, (4, 8), "float32"))
    text = columns_of(honest)["shapes"]
    return forge(honest, shapes=text.replace(bytes(4) + b"\0\1\2\3", b"\0\0\x7c\0\0\1\2\3"))
