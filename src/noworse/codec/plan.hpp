// From codes to a coded stream: count, choose tables, encode.
#pragma once

#include "partition.hpp"
#include "stream.hpp"

namespace noworse {

constexpr std::int64_t kWindow = 1 << 16;  // widest range of codes that is counted symbol by symbol

struct Coded {
    std::vector<std::uint8_t> table;
    std::vector<std::vector<std::uint8_t>> blocks;
    std::optional<std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>> scales;  // of rows and columns
};

template <class Code>
Histogram count(const Code* codes, std::size_t n, std::int64_t low, std::int64_t high) {
    Histogram h;
    h.lo = low;
    if (high - low >= kWindow) {
        std::vector<Code> sorted(codes, codes + n);
        std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(n / 2), sorted.end());
        h.lo = std::max<std::int64_t>(low, sorted[n / 2] - kWindow / 2);  // around a code: not empty
        const auto inside = [&](Code c) { return c >= h.lo && c < h.lo + kWindow; };
        sorted.erase(std::remove_if(sorted.begin(), sorted.end(), inside), sorted.end());
        std::sort(sorted.begin(), sorted.end());
        for (const Code c : sorted) {
            if (h.far.empty() || h.far.back().first != c) h.far.emplace_back(c, 0);
            ++h.far.back().second;
        }
    }
    h.counts.resize(static_cast<std::size_t>(std::min(high - low + 1, kWindow)));
    histogram(codes, n, h.lo, h.counts.size(), h.counts.data());
    return h;
}

// Codes in low .. high. With `columns` > 0 they are a matrix, whose rows and columns may get scales.
template <class Code>
Coded encode_codes(const Code* codes, std::size_t n, std::int64_t low, std::int64_t high, std::size_t columns,
                   unsigned threads, bool simd) {
    Coded found;
    if (low == high) {
        found.table = constant_bytes(low);
        found.blocks.resize((n + kBlock - 1) / kBlock);
        return found;
    }
    const TableChoice one = choose(count(codes, n, low, high));
    std::optional<Partition> parts;
    if (columns > 0) parts = partition(codes, {n / columns, columns}, low, high, one.bits);
    found.table = (parts ? parts->tables : one).number().bytes();
    const StreamTables tables = read_tables(found.table.data(), found.table.size(), parts.has_value());
    ClassMap classes;
    if (parts) {
        classes = {parts->rows.data(), parts->rows.size(), parts->columns.data(), columns, tables.of};
        found.scales = {std::move(parts->rows), std::move(parts->columns)};
    }
    found.blocks = encode_stream(tables.model, classes, codes, n, threads, simd);
    return found;
}

}  // namespace noworse
