"""The streams of an open file: their bytes, their symbols, and which of both belong to a tensor."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import CodedGrid, CodedPlanes, Scales
from noworse.format.attribution import split_shared
from noworse.format.chunks import as_coded, decode_chunk
from noworse.format.index import HEADER, Index
from noworse.format.parse import Span, Use
from noworse.format.source import Source
from noworse.representation import find_dtype, unpack_step
from noworse.representation.grid import check_scale
from noworse.representation.raw import MACHINE_WORDS

BLOCK = 1 << 25  # bytes
PAGE = 1 << 21  # bytes of a huge page, where blocks begin
LINE = 16  # elements: every array begins on a cache line


class Arena:
    """Float32 arrays cut from common blocks of about 32 MiB, of which the smallest array keeps the whole.

    Large blocks get huge pages (numpy asks for them), so that the system clears memory in far fewer steps. For readers
    who want all tensors of a file: those who may keep a single one should not get it from here.
    """

    def __init__(self, total: int) -> None:
        self._left = total  # elements still to be asked for, padding not counted
        self._block = np.empty(0, np.float32)

    def take(self, size: int) -> NDArray[np.float32]:
        """Return an array (size,) that holds anything."""
        if size > len(self._block):
            wanted = 4 * max(size, min(self._left + self._left // 8, BLOCK // 4))
            memory = np.empty(-(-wanted // PAGE) * PAGE + PAGE, np.uint8)  # the pages around stay untouched
            self._block = memory[-memory.ctypes.data % PAGE :][: -(-wanted // PAGE) * PAGE].view(np.float32)
        array, self._block = self._block[:size], self._block[-(-size // LINE) * LINE :]
        self._left -= size
        return array


class Streams:
    """The streams that ``index`` lists, in a source behind its header; CorruptFile where one is damaged.

    Tensors are given by their number in the index. Shared streams are decoded once and kept, since their other tensors
    are likely to be asked for.
    """

    def __init__(self, source: Source, index: Index, uses: Sequence[Use], spans: Sequence[Span]) -> None:
        self._source, self._index, self.uses, self._spans = source, index, uses, spans
        self._offsets = list(accumulate((stream.nbytes for stream in index.streams), initial=len(HEADER)))
        self._cache: dict[int, NDArray[Any]] = {}  # decoded shared streams
        self._shares: dict[int, dict[int, int]] = {}

    @property
    def end(self) -> int:
        """The offset behind the last one."""
        return self._offsets[-1]

    def offset(self, tensor: int) -> int:
        """Return where the first stream of the tensor begins."""
        return self._offsets[self._spans[tensor].first]

    def parts(self, tensor: int) -> list[NDArray[Any]]:
        """Return the tensor's symbols in each of its streams."""
        span, signature, scales = self._spans[tensor], self._index.entries[tensor].signature, self._scales(tensor)
        if span.pieces > 1:
            return [np.concatenate([self._symbols(i) for i in plane]) for plane in self._planes(tensor)]
        return [self._symbols(i, scales)[span.start : span.start + signature.size] for (i,) in self._planes(tensor)]

    def _planes(self, tensor: int) -> list[range]:
        """The streams of each plane of a tensor, or the one of its codes."""
        first, pieces = self._spans[tensor].first, self._spans[tensor].pieces
        starts = (first + pieces * plane for plane in range(self._index.entries[tensor].signature.streams))
        return [range(start, start + pieces) for start in starts]

    def is_fused(self, tensor: int) -> bool:
        """Tell whether native code decodes a tensor straight to its elements (``coded``)."""
        signature, span = self._index.entries[tensor].signature, self._spans[tensor]
        if not signature.streams or self.uses[span.first].shared:
            return False
        if signature.kind.planes:
            return signature.streams in MACHINE_WORDS
        line = signature.kind.line(self._index.entries[tensor].fields)
        return line is not None and not self._index.streams[span.first].in_context

    def words(self, tensor: int) -> int:
        """Return how many float32 numbers have room for what native code decodes of a tensor."""
        signature = self._index.entries[tensor].signature
        return -(-signature.nbytes // 4) if signature.kind.planes else signature.size

    def coded(self, tensor: int, arena: Arena | None) -> CodedGrid | CodedPlanes:
        """Return what native code needs to decode a tensor straight to its elements, with room for them."""
        entry, scales = self._index.entries[tensor], self._scales(tensor)
        signature = entry.signature
        words = self.words(tensor)
        out = np.empty(words, np.float32) if arena is None else arena.take(words)
        planes = [
            [as_coded(self._data(i), self._index.streams[i], scales) for i in plane] for plane in self._planes(tensor)
        ]
        if signature.kind.planes:
            room = out.view(np.uint8)[: signature.nbytes]
            return CodedPlanes(planes, room, find_dtype(signature.dtype).kind == "float")
        step, edge = signature.kind.line(entry.fields) or (0, 0)
        check_scale(step, edge)
        return CodedGrid(planes[0][0], out, unpack_step(step), edge)

    def nbytes(self, tensor: int) -> int:
        """Return the bytes of its tables and blocks; those of shared streams are split by ideal code length."""
        span, width = self._spans[tensor], self._index.entries[tensor].signature.streams
        streams = range(span.first - 2 * span.classes, span.first + width * span.pieces)
        return sum(
            self._shares_of(i)[tensor] if self.uses[i].shared else self._index.streams[i].nbytes for i in streams
        )

    def _shares_of(self, stream: int) -> dict[int, int]:
        """Bytes of a shared stream by number of the tensor."""
        if stream not in self._shares:
            tensors = self.uses[stream].tensors
            sizes = [self._index.entries[tensor].signature.size for tensor in tensors]
            parts = split_shared(self._index.streams[stream].nbytes, self._symbols(stream), sizes)
            self._shares[stream] = dict(zip(tensors, parts, strict=True))
        return self._shares[stream]

    def _symbols(self, stream: int, scales: Scales | None = None) -> NDArray[Any]:
        if stream in self._cache:
            return self._cache[stream]
        use = self.uses[stream]
        shapes = (
            [(use.count,)]
            if use.scales or use.is_bytes
            else [self._index.entries[i].signature.shape for i in use.tensors]
        )
        symbols = decode_chunk(self._data(stream), self._index.streams[stream], use.is_bytes, shapes, scales)
        if use.shared:
            self._cache[stream] = symbols
        return symbols

    def _data(self, stream: int) -> bytes | memoryview:
        return self._source.view(self._offsets[stream], self._index.streams[stream].nbytes)

    def _scales(self, tensor: int) -> Scales | None:
        """The scales of the rows and of the columns of a tensor with classes."""
        span = self._spans[tensor]
        return (self._symbols(span.first - 2), self._symbols(span.first - 1)) if span.classes else None
