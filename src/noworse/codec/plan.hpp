// From codes to a coded stream: count, choose tables, encode.
#pragma once

#include "partition.hpp"
#include "stream.hpp"

namespace noworse {

constexpr std::int64_t kSmall = 512;
constexpr std::int64_t kWindow = 1 << 16;  // widest range of codes that is counted symbol by symbol
constexpr std::size_t kMostFar = 1 << 13;  // values outside of it that are looked at

struct Coded {
    std::vector<std::uint8_t> table;
    std::vector<std::vector<std::uint8_t>> blocks;
    std::optional<std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>> scales;  // of rows and columns
};

template <class Code>
std::pair<std::int64_t, std::int64_t> bounds(const Code* codes, std::size_t n) {
    Code low = n ? codes[0] : Code{0}, high = low;
    in_chunks(n, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            low = std::min(low, codes[i]);
            high = std::max(high, codes[i]);
        }
    });
    if (low < -std::int64_t{kMaxCode} || high > std::int64_t{kMaxCode})
        throw std::invalid_argument("codes range over " + std::to_string(low) + " .. " + std::to_string(high) +
                                    ", expected at most 2**30 in size");
    return {low, high};
}

// Codes that are all small are counted at once, without looking for their bounds first; nothing for others.
template <class Code>
std::optional<Histogram> count_small(const Code* codes, std::size_t n) {
    Histogram h;
    h.counts.resize(static_cast<std::size_t>(2 * kSmall + 1));
    if (n == 0 || histogram(codes, n, -kSmall, h.counts.size(), h.counts.data()) > 0) return std::nullopt;
    while (h.counts.back() == 0) h.counts.pop_back();
    const auto first = std::find_if(h.counts.begin(), h.counts.end(), [](std::uint64_t c) { return c > 0; });
    h.lo = (first - h.counts.begin()) - kSmall;
    h.counts.erase(h.counts.begin(), first);
    return h;
}

inline Histogram count(const std::uint8_t* bytes, std::size_t n) {
    Histogram h;
    h.counts.resize(256);
    count_bytes(bytes, n, h.counts.data());
    while (h.counts.size() > 1 && h.counts.back() == 0) h.counts.pop_back();
    while (h.counts.size() > 1 && h.counts[static_cast<std::size_t>(h.lo)] == 0) ++h.lo;
    h.counts.erase(h.counts.begin(), h.counts.begin() + h.lo);
    return h;
}

template <class Code>
Histogram count(const Code* codes, std::size_t n) {
    if (auto small = count_small(codes, n)) return *std::move(small);
    const auto [low, high] = bounds(codes, n);
    Histogram h;
    h.lo = low;
    if (high - low >= kWindow) {
        std::vector<Code> sorted(codes, codes + n);
        const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(n / 2);
        Patience patience;
        const auto less = [&](Code a, Code b) { return patience.spend(4), a < b; };
        std::nth_element(sorted.begin(), middle, sorted.end(), less);
        h.lo = std::max<std::int64_t>(low, *middle - kWindow / 2);  // around a code: not empty
        const std::int64_t first = h.lo;
        const auto inside = [first](Code c) { return c >= first && c < first + kWindow; };
        sorted.erase(std::remove_if(sorted.begin(), sorted.end(), inside), sorted.end());
        std::sort(sorted.begin(), sorted.end(), less);
        // many stand for their neighbours as well: only estimates depend on them
        const std::size_t group = sorted.size() / kMostFar + 1;
        for (std::size_t i = 0; i < sorted.size(); i += group) {
            const std::size_t n = std::min(group, sorted.size() - i);
            const Code c = sorted[i + n / 2];
            if (h.far.empty() || h.far.back().first != c) h.far.emplace_back(c, 0);
            h.far.back().second += n;
        }
    }
    h.counts.resize(static_cast<std::size_t>(std::min(high - low + 1, kWindow)));
    histogram(codes, n, h.lo, h.counts.size(), h.counts.data());
    return h;
}

// With `columns` > 0 they are a matrix, whose rows and columns may get scales.
template <class Code>
Coded encode_codes(const Code* codes, std::size_t n, std::size_t columns, unsigned threads, unsigned simd) {
    Coded found;
    const Histogram counts = count(codes, n);
    if (counts.counts.size() == 1 && counts.far.empty()) {
        found.table = constant_bytes(counts.lo);
        found.blocks.resize((n + kBlock - 1) / kBlock);
        return found;
    }
    const TableChoice one = choose(counts);
    std::optional<Partition> parts;
    if (columns > 0 && counts.far.empty())
        parts = partition(codes, {n / columns, columns}, counts.lo, counts.counts.size(), one.bits);
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

constexpr std::size_t kSample = 1 << 15;  // bytes looked at to tell noise ..
constexpr std::size_t kRun = 64;         // .. in runs that share a line of the cache
constexpr double kNoise = 0.0125;        // share saved below which coding is not tried: it would only slow readers down
constexpr double kByteOfTable = 0.3;     // estimated bytes per symbol of a table

// Whether a sample of bytes says that coding them saves more than a table costs.
inline bool promising(const std::uint8_t* data, std::size_t n) {
    const std::size_t apart = n > kSample ? n / (kSample / kRun) : std::max<std::size_t>(n, 1), run = n > kSample ? kRun : n;
    std::vector<std::uint64_t> counts(256, 0);
    for (std::size_t begin = 0; begin + apart <= n; begin += apart)
        for (std::size_t i = begin; i < begin + run; ++i) ++counts[data[i]];
    double total = 0, used = 0;
    for (const std::uint64_t count : counts) total += static_cast<double>(count), used += count > 0;
    // corrected for the finite sample (Miller 1955)
    const double bits = total > 0 ? (entropy_bits(counts) + (used - 1) / (2 * std::log(2.0))) / total : 8;
    const double saved = static_cast<double>(n) * (1 - bits / 8);
    return saved > std::max(kNoise * static_cast<double>(n), kByteOfTable * used);
}

// Bytes as streams of `each`, the last of fewer; nothing for those that are about as small as they are. Each is put in
// its place by fill(first, count) just before, while it fits the cache.
template <class Fill>
std::vector<std::optional<Coded>> encode_bytes(const std::uint8_t* data, std::size_t n, std::size_t each,
                                               unsigned threads, unsigned simd, const Fill& fill) {
    std::vector<std::optional<Coded>> found((n + each - 1) / each);
    parallel(found.size(), threads, [&](std::size_t i) {
        const std::size_t first = i * each, count = std::min(each, n - first);
        fill(first, count);
        if (!promising(data + first, count)) return;
        Coded coded = encode_codes(data + first, count, 0, found.size() > 1 ? 1 : threads, simd);
        std::size_t size = coded.table.size();
        for (const auto& block : coded.blocks) size += block.size() + 2;  // lengths of blocks stand in the index
        if (size < count) found[i] = std::move(coded);
    });
    return found;
}

// The bytes that encode_codes is estimated to need for tables and blocks, from entropies alone.
template <class Code>
double estimated_bytes(const Code* codes, std::size_t n, std::size_t columns) {
    const Histogram counts = count(codes, n);
    if (counts.counts.size() == 1 && counts.far.empty()) return 0;
    if (!counts.far.empty()) return choose(counts).bits / 8;
    const auto used = counts.counts.size() - static_cast<std::size_t>(std::count(counts.counts.begin(), counts.counts.end(), 0u));
    const double one = entropy_bits(counts.counts) + kTableBits + kSymbolBits * static_cast<double>(used);
    const auto classes = outline(codes, {columns ? n / columns : 0, columns}, counts.lo, counts.counts.size(), one);
    return (classes ? classes->bits() : one) / 8;
}

}  // namespace noworse
