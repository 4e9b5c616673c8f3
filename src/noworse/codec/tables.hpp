// Frequency tables: which integers occur how often, in a few bytes (layout: docs/format.md, section 5).
//
// What is stored are *levels* r >= 0, and the frequency of a symbol is proportional to r^2. The square root is the
// scale on which all counts are equally uncertain: rounding sqrt(count) to steps of s costs about 0.24 s^2 bits per
// symbol of the alphabet, whatever its count, so that one step size serves the peak and the tails. Levels are predicted
// from their neighbours by a decaying, symmetric shape, and the deviations are coded as geometric numbers.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "classes.hpp"
#include "counts.hpp"
#include "model.hpp"
#include "number.hpp"

namespace noworse {

constexpr std::int64_t kMaxSymbols = 4096;
constexpr std::int64_t kMaxLevel = 1 << 14;

struct Spread {
    unsigned t, order;
};
constexpr Spread kSpreads[8] = {{1, 0}, {3, 0}, {6, 0}, {10, 0}, {9, 1}, {9, 2}, {9, 4}, {9, 6}};

inline std::uint64_t zigzag(std::int64_t v) { return static_cast<std::uint64_t>(v >= 0 ? 2 * v : -2 * v - 1); }
inline std::int64_t unzigzag(std::uint64_t u) {
    return u & 1 ? -static_cast<std::int64_t>((u + 1) / 2) : static_cast<std::int64_t>(u / 2);
}

// Rank of a level in the order p, p + 1, p - 1, .., 0, 2p, 2p + 1, ..
inline std::int64_t fold(std::int64_t level, std::int64_t p) {
    const std::int64_t d = level - p;
    return d > p ? level : d > 0 ? 2 * d - 1 : -2 * d;
}
inline std::int64_t unfold(std::int64_t rank, std::int64_t p) {
    return rank > 2 * p ? rank : rank & 1 ? p + (rank + 1) / 2 : p - rank / 2;
}

// The content of one table's bytes.
struct Levels {
    std::int64_t peak = 0, below = 0;
    std::vector<std::int64_t> values;  // levels of peak - below, ..
    std::int64_t escape = 0;           // level of the escape symbol; 0: none
    int golomb = 0;
    unsigned first = 1, ratio = 1, spread = 1;

    std::int64_t above() const { return static_cast<std::int64_t>(values.size()) - 1 - below; }
    std::int64_t at(std::int64_t k) const { return values[static_cast<std::size_t>(below + k)]; }

    // Prediction of the level at position k from the peak from those nearer to it.
    std::int64_t predict(std::int64_t k) const {
        const std::int64_t inner = at(k > 0 ? k - 1 : k + 1), q = k == 1 || k == -1 ? first : ratio;
        const std::int64_t p = (q * inner + 8) >> 4;
        return k < 0 && -k <= above() ? (p + at(-k) + 1) >> 1 : p;
    }

    // Calls visit(k) in coding order: 1, -1, 2, -2, .. as far as both sides reach.
    template <class Visit>
    static void walk(std::int64_t below, std::int64_t above, Visit visit) {
        for (std::int64_t j = 1; j <= std::max(below, above); ++j) {
            if (j <= above) visit(j);
            if (j <= below) visit(-j);
        }
    }

    void write(NumberWriter& out) const {
        out.more(escape > 0, 4);
        if (escape > 0) {
            out.gamma(static_cast<std::uint64_t>(golomb), 1);
            out.gamma(static_cast<std::uint64_t>(escape - 1), 1);
        }
        out.gamma(zigzag(peak), 0);
        out.gamma(static_cast<std::uint64_t>(below), 2);
        out.gamma(zigzag(above() - below), 1);
        out.gamma(static_cast<std::uint64_t>(at(0)), 4);
        if (values.size() > 1) out.uniform(first - 1, 4);
        if (std::max(below, above()) >= 2) {
            out.uniform(ratio - 1, 4);
            out.uniform(spread, 3);
        }
        const Spread s = kSpreads[spread];
        walk(below, above(),
             [&](std::int64_t k) { out.unary(static_cast<std::uint32_t>(fold(at(k), predict(k))), s.t, s.order); });
    }

    // Frequencies that sum to 1 << bits; std::domain_error where fewer than two symbols are used.
    Table table(unsigned bits, bool single) const {
        std::vector<std::uint64_t> weights;
        for (const std::int64_t level : values) weights.push_back(static_cast<std::uint64_t>(level * level));
        if (escape > 0) weights.push_back(static_cast<std::uint64_t>(escape * escape));
        Table t;
        t.lo = static_cast<std::int32_t>(peak - below);
        try {
            t.freq = normalise(weights.data(), weights.size(), bits);
        } catch (const std::invalid_argument& error) {
            throw std::domain_error(std::string("a frequency table is damaged: ") + error.what());
        }
        for (const std::uint16_t f : t.freq)
            if (f >> bits) throw std::domain_error("a frequency table uses one symbol only, expected at least two");
        t.bits = bits;
        t.golomb = escape > 0 ? golomb : -1;
        t.single = single;
        return t;
    }
};

inline Levels read_levels(NumberReader& in) {
    constexpr std::uint64_t kAny = std::uint64_t{1} << 40;  // beyond what any field may hold
    const auto fail = [](const std::string& found, const std::string& expected) {
        throw std::domain_error("a frequency table has " + found + ", expected " + expected);
    };
    Levels l;
    if (in.more(4)) {
        const std::uint64_t golomb = in.gamma(1), escape = std::min(in.gamma(1), kAny) + 1;
        if (golomb > kMaxOrder || escape > static_cast<std::uint64_t>(kMaxLevel))
            fail("an escape symbol of order " + std::to_string(golomb) + " and level " + std::to_string(escape),
                 "30, 16384 at most");
        l.golomb = static_cast<int>(golomb);
        l.escape = static_cast<std::int64_t>(escape);
    }
    l.peak = unzigzag(in.gamma(0));
    l.below = static_cast<std::int64_t>(in.gamma(2));
    const std::int64_t above = l.below + unzigzag(in.gamma(1)), symbols = l.below + above + 1;
    if (above < 0 || symbols > kMaxSymbols) fail(std::to_string(symbols) + " symbols", "1 .. 4096");
    const std::int64_t high = l.peak + above;
    if (l.peak - l.below < -kMaxCode || high > kMaxCode)
        fail("the alphabet " + std::to_string(l.peak - l.below) + " .. " + std::to_string(high),
             "at most 2**30 in size");
    l.values.assign(static_cast<std::size_t>(symbols), 0);
    const auto set = [&](std::int64_t k, std::uint64_t level) {
        if (level > static_cast<std::uint64_t>(kMaxLevel)) fail("a level of " + std::to_string(level), "at most 16384");
        l.values[static_cast<std::size_t>(l.below + k)] = static_cast<std::int64_t>(level);
    };
    set(0, in.gamma(4));
    if (symbols > 1) l.first = static_cast<unsigned>(in.uniform(4)) + 1;
    if (std::max(l.below, above) >= 2) {
        l.ratio = static_cast<unsigned>(in.uniform(4)) + 1;
        l.spread = static_cast<unsigned>(in.uniform(3));
    }
    const Spread s = kSpreads[l.spread];
    Levels::walk(l.below, above, [&](std::int64_t k) {
        const std::int64_t p = l.predict(k);
        set(k, static_cast<std::uint64_t>(unfold(static_cast<std::int64_t>(in.unary(s.t, s.order)), p)));
    });
    return l;
}

// What stands before the blocks of a stream: one table, or several and the sums of scales that each one serves.
struct StreamTables {
    Model model;
    std::vector<std::uint8_t> of;  // number of the table for each sum of scales; empty for streams of one table
};

inline Table constant_table(std::int64_t value) {
    if (value < -kMaxCode || value > kMaxCode)
        throw std::domain_error("a constant stream of " + std::to_string(value) + ", expected at most 2**30 in size");
    Table t;
    t.lo = static_cast<std::int32_t>(value);
    t.freq = {1};
    t.bits = 0;
    return t;
}

inline StreamTables read_tables(const std::uint8_t* data, std::size_t size, bool classes) {
    NumberReader in(data, size);
    StreamTables found;
    const std::size_t tables = classes ? static_cast<std::size_t>(in.uniform(4)) + 1 : in.uniform(1);
    if (classes) {
        for (std::size_t table = 0; table + 1 < tables; ++table) {
            const std::uint64_t width = in.gamma(0);
            if (width >= kScaleSums - found.of.size()) throw std::domain_error("the classes of a stream are too many");
            found.of.insert(found.of.end(), static_cast<std::size_t>(width) + 1, static_cast<std::uint8_t>(table));
        }
        found.of.resize(std::max(found.of.size(), kScaleSums), static_cast<std::uint8_t>(tables - 1));
    }
    if (tables == 0) {
        found.model.tables.push_back(constant_table(unzigzag(in.gamma(0))));
    } else {
        const unsigned bits = in.more(4) ? 14 : 12;
        const bool single = in.more(4);
        for (std::size_t table = 0; table < tables; ++table)
            found.model.tables.push_back(read_levels(in).table(bits, single));
    }
    in.finish();
    return found;
}

// The choice that a writer makes; `widths` counts the sums of scales of each table but the last, none without classes.
struct TableChoice {
    double bits = 0;  // of tables and payload
    std::vector<Levels> tables;
    std::vector<std::size_t> widths;
    bool wide = false, single = false, classes = false;

    NumberWriter number() const {
        NumberWriter out;
        if (classes) {
            out.uniform(tables.size() - 1, 4);
            for (const std::size_t width : widths) out.gamma(width - 1, 0);
        } else {
            out.uniform(1, 1);
        }
        out.more(wide, 4);
        out.more(single, 4);
        for (const Levels& levels : tables) levels.write(out);
        return out;
    }
};

inline std::vector<std::uint8_t> constant_bytes(std::int64_t value) {
    NumberWriter out;
    out.uniform(0, 1);
    out.gamma(zigzag(value), 0);
    return out.bytes();
}

}  // namespace noworse
