// Which rows and columns of a matrix get which scale, and which sums of scales share a table: an encoder's choice.
//
// The scale of a row is the logarithm of its mean magnitude in thirds of an octave, likewise that of a column, and an
// element's distribution is taken to depend on the sum of the two. Sums that lie side by side are merged by dynamic
// programming as long as that saves more in tables than it costs in the payload. Rows or columns whose scales do not
// pay for themselves have none.
#pragma once

#include <optional>
#include <tuple>

#include "fit.hpp"

namespace noworse {

constexpr double kUnitsPerOctave = 3;
constexpr double kTableBits = 48, kSymbolBits = 3.5;  // estimated cost of one more table
// What one must save besides: it takes a reader's time to make, and then room in its cache. But no more than a
// thousandth, so that small streams, which are read in no time, stay small.
constexpr double kTableTime = 400, kMostTime = 1e-3;
constexpr double kStreamBits = 8 * 7.0;               // of a stream of scales: checksum, lengths
constexpr std::size_t kMaxClassSymbols = 4096;        // wider alphabets have one table

struct Matrix {
    std::size_t rows, columns;
};

struct Partition {
    TableChoice tables;
    std::vector<std::int32_t> rows, columns;
};

// Scales of mean magnitudes, the smallest 0.
inline std::vector<std::int32_t> scales(const std::vector<std::uint64_t>& sums, std::size_t length) {
    double total = 0;
    for (const std::uint64_t sum : sums) total += static_cast<double>(sum);
    const double mean = total / static_cast<double>(sums.size()), little = 0.25 / static_cast<double>(length);
    std::vector<std::int32_t> found;
    for (const std::uint64_t sum : sums) {
        const double octaves = std::log2(std::max(static_cast<double>(sum) / mean, little));
        found.push_back(
            static_cast<std::int32_t>(std::clamp(std::nearbyint(kUnitsPerOctave * octaves) + 16, 0.0, 31.0)));
    }
    const std::int32_t least = *std::min_element(found.begin(), found.end());
    for (std::int32_t& scale : found) scale -= least;
    return found;
}

// Histograms of the codes lo .. lo + symbols - 1 for every pair of scales.
struct Cells {
    std::size_t rows, columns, symbols;  // one more than the largest scales
    std::vector<std::uint32_t> counts;

    template <class Code>
    Cells(const Code* codes, const std::vector<std::int32_t>& row, const std::vector<std::int32_t>& column,
          std::int64_t lo, std::size_t width)
        : rows(static_cast<std::size_t>(*std::max_element(row.begin(), row.end())) + 1),
          columns(static_cast<std::size_t>(*std::max_element(column.begin(), column.end())) + 1),
          symbols(width),
          counts(rows * columns * symbols, 0) {
        std::vector<std::size_t> offset;
        for (const std::int32_t scale : column) offset.push_back(static_cast<std::size_t>(scale) * symbols);
        Patience patience;
        for (const std::int32_t scale : row) {
            patience.spend(offset.size());
            std::uint32_t* const at = counts.data() + static_cast<std::size_t>(scale) * columns * symbols;
            for (std::size_t c = 0; c < offset.size(); ++c, ++codes)
                ++at[offset[c] + static_cast<std::size_t>(static_cast<std::int64_t>(*codes) - lo)];
        }
    }

    // Histograms by sum of scales, those of rows or columns counting as 0 where they are not to be used.
    std::vector<std::vector<std::uint64_t>> sums(bool by_row, bool by_column) const {
        std::vector<std::vector<std::uint64_t>> found((by_row ? rows - 1 : 0) + (by_column ? columns - 1 : 0) + 1,
                                                      std::vector<std::uint64_t>(symbols, 0));
        const std::uint32_t* cell = counts.data();
        for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < columns; ++c, cell += symbols) {
                auto& sum = found[(by_row ? r : 0) + (by_column ? c : 0)];
                for (std::size_t k = 0; k < symbols; ++k) sum[k] += cell[k];
            }
        return found;
    }
};

inline double entropy_bits(const std::vector<std::uint64_t>& counts) {
    double total = 0, sum = 0;
    for (const std::uint64_t count : counts) {
        if (!count) continue;
        total += static_cast<double>(count);
        sum += static_cast<double>(count) * std::log2(static_cast<double>(count));
    }
    return total > 0 ? total * std::log2(total) - sum : 0;
}

// Division of 0 .. n - 1 into at most kMaxTables intervals of least cost, each of which is to save `least` bits: their
// ends, and the bits that all take.
struct Division {
    std::vector<std::size_t> ends;
    double bits;
};

inline Division divide(const std::vector<std::vector<std::uint64_t>>& sums, double least) {
    const std::size_t n = sums.size();
    std::vector<std::vector<double>> cost(n, std::vector<double>(n + 1, 0));  // [begin][end]
    for (std::size_t begin = 0; begin < n; ++begin) {
        std::vector<std::uint64_t> joint(sums[0].size(), 0);
        for (std::size_t end = begin; end < n; ++end) {
            std::size_t used = 0;
            for (std::size_t k = 0; k < joint.size(); ++k) used += (joint[k] += sums[end][k]) > 0;
            cost[begin][end + 1] = entropy_bits(joint) + least + kTableBits + kSymbolBits * static_cast<double>(used);
        }
    }
    constexpr double kNever = std::numeric_limits<double>::infinity();
    std::vector<std::vector<double>> best(kMaxTables + 1, std::vector<double>(n + 1, kNever));  // [tables][end]
    std::vector<std::vector<std::size_t>> begin_of(kMaxTables + 1, std::vector<std::size_t>(n + 1, 0));
    best[0][0] = 0;
    for (std::size_t tables = 1; tables <= kMaxTables; ++tables)
        for (std::size_t end = 1; end <= n; ++end)
            for (std::size_t begin = 0; begin < end; ++begin)
                if (const double bits = best[tables - 1][begin] + cost[begin][end]; bits < best[tables][end])
                    best[tables][end] = bits, begin_of[tables][end] = begin;
    std::size_t tables = 1;
    for (std::size_t t = 2; t <= kMaxTables; ++t)
        if (best[t][n] < best[tables][n]) tables = t;
    Division found{{}, best[tables][n] - least * static_cast<double>(tables)};
    for (std::size_t end = n; tables > 0; end = begin_of[tables--][end]) found.ends.insert(found.ends.begin(), end);
    return found;
}

inline std::vector<std::uint64_t> count_scales(const std::vector<std::int32_t>& scales) {
    std::vector<std::uint64_t> counts(kMaxScale + 1, 0);
    for (const std::int32_t scale : scales) ++counts[static_cast<std::size_t>(scale)];
    return counts;
}

// Bits of a stream of scales: its entropy, about two bytes beyond, and its table.
inline double scale_bits(const std::vector<std::int32_t>& scales) {
    const std::vector<std::uint64_t> counts = count_scales(scales);
    const auto used = kMaxScale + 1 - static_cast<std::size_t>(std::count(counts.begin(), counts.end(), 0u));
    return used < 2 ? kStreamBits
                    : entropy_bits(counts) + kStreamBits + kTableBits + 16 + kSymbolBits * static_cast<double>(used);
}

// Tables for the divided sums; nothing where one of them would have to be wide.
inline std::optional<std::pair<TableChoice, double>> fit_all(const std::vector<std::vector<std::uint64_t>>& sums,
                                                             const Division& d, std::int64_t lo) {
    TableChoice choice;
    choice.classes = true;
    double bits = 0;
    std::size_t begin = 0;
    for (const std::size_t end : d.ends) {
        Histogram h;
        h.lo = lo;
        h.counts.assign(sums[0].size(), 0);
        for (std::size_t t = begin; t < end; ++t)
            for (std::size_t k = 0; k < h.counts.size(); ++k) h.counts[k] += sums[t][k];
        // a table has two symbols at least: a class of one value gets a neighbour that costs next to nothing
        if (std::count(h.counts.begin(), h.counts.end(), 0u) + 1 >= static_cast<std::ptrdiff_t>(h.counts.size())) {
            const auto only = std::max_element(h.counts.begin(), h.counts.end()) - h.counts.begin();
            ++h.counts[static_cast<std::size_t>(only > 0 ? only - 1 : only + 1)];
            ++h.counts[static_cast<std::size_t>(only)];
        }
        Fitted fitted = fit(h, true);
        if (fitted.wide) return std::nullopt;
        bits += fitted.bits;
        choice.tables.push_back(std::move(fitted.levels));
        if (end != d.ends.back()) choice.widths.push_back(end - begin);
        begin = end;
    }
    return std::make_pair(std::move(choice), bits);
}

// Which scales are used, and how their sums are divided, with the bits that all of it is estimated to take.
struct Outline {
    std::vector<std::int32_t> rows, columns;
    bool by_row, by_column;
    Division division;
    double side;  // bits of the streams of scales
    std::vector<std::vector<std::uint64_t>> sums;

    double bits() const { return division.bits + side; }
};

// The outline of a matrix of codes lo .. lo + symbols - 1, where one is estimated to save bits over `single` ones.
template <class Code>
std::optional<Outline> outline(const Code* codes, Matrix shape, std::int64_t lo, std::size_t symbols, double single) {
    if (shape.rows < 2 || shape.columns < 2 || symbols > kMaxClassSymbols) return std::nullopt;
    std::vector<std::uint64_t> row_sums(shape.rows, 0), column_sums(shape.columns, 0);
    Patience patience;
    for (std::size_t r = 0; r < shape.rows; ++r) {
        patience.spend(shape.columns);
        const Code* const row = codes + r * shape.columns;
        std::uint64_t sum = 0;
        for (std::size_t c = 0; c < shape.columns; ++c) {
            const std::uint32_t magnitude = static_cast<std::uint32_t>(row[c] < 0 ? -row[c] : row[c]);
            sum += magnitude;
            column_sums[c] += magnitude;
        }
        row_sums[r] = sum;
    }
    const auto rows = scales(row_sums, shape.columns), columns = scales(column_sums, shape.rows);
    const Cells cells(codes, rows, columns, lo, symbols);
    const double row_bits = scale_bits(rows), column_bits = scale_bits(columns);
    double least = single;
    std::optional<Outline> chosen;
    for (const auto& [by_row, by_column] : {std::pair{true, true}, {true, false}, {false, true}}) {
        auto sums = cells.sums(by_row, by_column);
        Division d = divide(sums, std::min(kTableTime, kMostTime * single));
        const double side = (by_row ? row_bits : kStreamBits) + (by_column ? column_bits : kStreamBits);
        if (d.bits + side >= least) continue;
        least = d.bits + side;
        chosen = Outline{rows, columns, by_row, by_column, std::move(d), side, std::move(sums)};
    }
    return chosen;
}

// The partition of such a matrix, where one saves bits over the `single` bits of one table.
template <class Code>
std::optional<Partition> partition(const Code* codes, Matrix shape, std::int64_t lo, std::size_t symbols,
                                   double single) {
    auto chosen = outline(codes, shape, lo, symbols, single);
    if (!chosen) return std::nullopt;
    auto fitted = fit_all(chosen->sums, chosen->division, lo);
    if (!fitted || fitted->second + chosen->side >= single) return std::nullopt;
    Partition best{std::move(fitted->first), std::move(chosen->rows), std::move(chosen->columns)};
    const double count = static_cast<double>(shape.rows) * static_cast<double>(shape.columns);
    best.tables.single = count >= kMany && fitted->second < kSparse * count;
    if (!chosen->by_row) std::fill(best.rows.begin(), best.rows.end(), 0);
    if (!chosen->by_column) std::fill(best.columns.begin(), best.columns.end(), 0);
    return best;
}

}  // namespace noworse
