"""The streams of an open file: their bytes, their symbols, and which of both belong to a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import CodedGrid, Scales
from noworse.format.arena import Arena
from noworse.format.attribution import split_shared
from noworse.format.chunks import as_coded, decode_chunk
from noworse.format.index import Index
from noworse.format.layout import Layout, Span, Use
from noworse.format.source import Source
from noworse.representation import check_scale, unpack_step


class Streams:
    """Those that ``index`` lists, from byte ``start`` of a source on; CorruptFile where one is damaged.

    Tensors are given by their number in the index. Shared streams are decoded once and kept, since their other tensors
    are likely to be asked for.
    """

    def __init__(self, source: Source, index: Index, layout: Layout, start: int) -> None:
        self._source, self._index = source, index
        self.uses, self._spans = layout.uses, layout.spans
        self._offsets = [start]
        for stream in index.streams:
            self._offsets.append(self._offsets[-1] + stream.nbytes)
        self._cache: dict[int, NDArray[Any]] = {}  # decoded shared streams
        self._shares: dict[int, dict[int, int]] = {}

    @property
    def end(self) -> int:
        """The offset behind the last one."""
        return self._offsets[-1]

    def offset(self, tensor: int) -> int:
        """Where the first stream of the tensor begins."""
        return self._offsets[self._spans[tensor].first]

    def parts(self, tensor: int) -> list[NDArray[Any]]:
        """The tensor's symbols in each of its streams."""
        span, signature = self._spans[tensor], self._index.entries[tensor].signature
        streams, scales = range(span.first, span.first + signature.streams), self._scales(span)
        return [self._symbols(stream, scales)[span.start : span.start + signature.size] for stream in streams]

    def is_fused(self, tensor: int) -> bool:
        """Whether the codes of a tensor are decoded straight to its values (``coded_grid``)."""
        signature, span = self._index.entries[tensor].signature, self._spans[tensor]
        if not signature.streams or signature.kind.line(self._index.entries[tensor].fields) is None:
            return False
        return not self.uses[span.first].shared and not self._index.streams[span.first].in_context

    def coded_grid(self, tensor: int, arena: Arena | None) -> CodedGrid:
        """What native code needs to do so, with room for the values."""
        entry, span = self._index.entries[tensor], self._spans[tensor]
        step, edge = entry.signature.kind.line(entry.fields) or (0, 0)
        check_scale(step, edge)
        coded = as_coded(self._data(span.first), self._index.streams[span.first], self._scales(span))
        size = entry.signature.size
        out = np.empty(size, np.float32) if arena is None else arena.take(size)
        return CodedGrid(coded, out, unpack_step(step), edge)

    def nbytes(self, tensor: int) -> int:
        """Bytes of tables and blocks; those of shared streams are split by ideal code length."""
        span, width = self._spans[tensor], self._index.entries[tensor].signature.streams
        total = 0
        for stream in range(span.first - 2 * span.classes, span.first + width):
            shared = self.uses[stream].shared
            total += self._shares_of(stream)[tensor] if shared else self._index.streams[stream].nbytes
        return total

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
        data, shapes = self._data(stream), self._shapes(use)
        symbols = decode_chunk(data, self._index.streams[stream], use.is_bytes, shapes, scales)
        if use.shared:
            self._cache[stream] = symbols
        return symbols

    def _shapes(self, use: Use) -> list[tuple[int, ...]]:
        """Those of the tensors of a stream, or its own where it holds scales."""
        return [(use.count,)] if use.scales else [self._index.entries[tensor].signature.shape for tensor in use.tensors]

    def _data(self, stream: int) -> bytes:
        return self._source.read(self._offsets[stream], self._index.streams[stream].nbytes)

    def _scales(self, span: Span) -> Scales | None:
        """The scales of the rows and of the columns of a tensor with classes."""
        return (self._symbols(span.first - 2), self._symbols(span.first - 1)) if span.classes else None
