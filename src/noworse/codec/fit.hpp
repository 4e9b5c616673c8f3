// Choosing a frequency table: the one with the fewest bytes of table and payload together.
//
// Nothing here is part of the file format: a decoder never looks at it. A candidate is an alphabet (a window of the
// histogram; values outside are escaped) and a step size s of its levels, r = sqrt(count) / s. Each level is then moved
// towards its prediction as long as that saves more in the table than it costs in the payload.
#pragma once

#include <array>
#include <limits>

#include "tables.hpp"

namespace noworse {

constexpr std::uint64_t kTails[] = {0, 1, 2, 4, 8, 16, 64, 256};  // rarest symbols tried as escapes, from both ends
constexpr double kSteps[] = {0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4};
constexpr double kRough = 1.4;
constexpr double kMany = 65536;         // symbols of a block from which on it has several lanes ..
constexpr double kSparse = 0.4;         // .. which cost a byte per 8,192 symbols: over 0.25 % at fewer bits than this
constexpr double kWideGain = 0.996;     // size from which on large streams use wide tables, which decode more slowly
constexpr std::size_t kMaxMoved = 256;  // larger alphabets keep their levels: moving them gains nothing visible

// Counts of lo, lo + 1, .., and the values outside of that range with theirs (both may be empty).
struct Histogram {
    std::int64_t lo = 0;
    std::vector<std::uint64_t> counts;
    std::vector<std::pair<std::int64_t, std::uint64_t>> far;
};

// A table with what it costs in all, in bits.
struct Fitted {
    Levels levels;
    bool wide = false;
    double bits = std::numeric_limits<double>::infinity();
};

// An alphabet, with the Golomb order that suits what it escapes.
struct Window {
    std::int64_t lo;
    std::vector<double> counts;
    double escaped = 0;
    int golomb = 0;
    double side = 0;  // bits of the escaped values

    Window(const Histogram& h, std::size_t a, std::size_t b)
        : lo(h.lo + static_cast<std::int64_t>(a)),
          counts(h.counts.begin() + static_cast<std::ptrdiff_t>(a), h.counts.begin() + static_cast<std::ptrdiff_t>(b)) {
        std::vector<std::pair<std::uint64_t, double>> outside;  // u of golomb.hpp, count
        const auto escape = [&](std::int64_t v, std::uint64_t count) {
            const std::int64_t end = h.lo + static_cast<std::int64_t>(b);
            if (count)
                outside.emplace_back(v >= end ? 2 * (v - end) : 2 * (lo - 1 - v) + 1, static_cast<double>(count));
        };
        for (std::size_t k = 0; k < h.counts.size(); ++k)
            if (k < a || k >= b) escape(h.lo + static_cast<std::int64_t>(k), h.counts[k]);
        for (const auto& [v, count] : h.far) escape(v, count);
        if (outside.empty()) return;
        for (const auto& [u, count] : outside) escaped += count;
        side = list_bits(outside, 0);
        for (double longer; golomb < kMaxOrder && (longer = list_bits(outside, golomb + 1)) <= side; ++golomb)
            side = longer;
    }

    bool useful() const { return counts.size() > 1 || escaped > 0; }
    double symbols() const {
        double sum = escaped;
        for (const double count : counts) sum += count;
        return sum;
    }

  private:
    static double list_bits(const std::vector<std::pair<std::uint64_t, double>>& outside, int order) {
        double sum = 0;
        in_chunks(outside.size(), [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i)
                sum += outside[i].second * (2 * std::ilogb((outside[i].first >> order) + 1) + 1 + order);
        });
        return sum;
    }
};

// Candidate alphabets as index ranges of the histogram, at most kMaxSymbols wide.
inline std::vector<std::pair<std::size_t, std::size_t>> alphabets(const Histogram& h) {
    std::vector<std::pair<std::size_t, std::size_t>> found;
    const auto add = [&](std::size_t from, std::size_t to, std::uint64_t tail) {
        while (from < to && h.counts[from] <= tail) ++from;
        while (to > from && h.counts[to - 1] <= tail) --to;
        const auto range = std::make_pair(from, to);
        if (from < to && to - from <= kMaxSymbols && std::find(found.begin(), found.end(), range) == found.end())
            found.push_back(range);
    };
    for (const std::uint64_t tail : kTails) add(0, h.counts.size(), tail);
    if (!found.empty() && h.counts.size() <= kMaxSymbols) return found;
    const std::size_t width = std::min<std::size_t>(kMaxSymbols - 1, h.counts.size());
    std::uint64_t inside = 0, most = 0;
    std::size_t best = 0;
    for (std::size_t k = 0; k < h.counts.size(); ++k) {
        inside += h.counts[k] - (k >= width ? h.counts[k - width] : 0);
        if (k + 1 >= width && inside > most) most = inside, best = k + 1 - width;
    }
    add(best, best + width, 0);
    return found;
}

// Quotients of neighbouring levels in sixteenths: next to the peak, and further out (least squares).
inline void set_decay(Levels& l) {
    double near = 0, neighbours = 0, energy = 0, product = 0;
    for (const int side : {1, -1}) {
        const std::int64_t reach = side > 0 ? l.above() : l.below;
        if (reach >= 1) near += static_cast<double>(l.at(side)), ++neighbours;
        for (std::int64_t j = 2; j <= reach; ++j) {
            const double inner = static_cast<double>(l.at(side * (j - 1)));
            energy += inner * inner;
            product += inner * static_cast<double>(l.at(side * j));
        }
    }
    const auto sixteenths = [](double q) {
        return static_cast<unsigned>(std::clamp(std::nearbyint(16 * q), 1.0, 16.0));
    };
    l.first = sixteenths(neighbours > 0 ? near / neighbours / static_cast<double>(l.at(0)) : 0);
    l.ratio = sixteenths(energy > 0 ? product / energy : 0);
}

// The spread that needs the fewest bits for all deviations.
inline void set_spread(Levels& l) {
    l.spread = 1;
    if (std::max(l.below, l.above()) < 2) return;
    static const std::array<double, 16> log = [] {
        std::array<double, 16> t{};
        for (std::size_t i = 1; i < 16; ++i) t[i] = std::log2(static_cast<double>(i));
        return t;
    }();
    double bits[8] = {};
    Levels::walk(l.below, l.above(), [&](std::int64_t k) {
        const std::int64_t rank = fold(l.at(k), l.predict(k));
        for (unsigned s = 0; s < 8; ++s) {
            const std::int64_t steps = rank >> kSpreads[s].order;
            const double yes = 4 - log[kSpreads[s].t], no = 4 - log[16 - kSpreads[s].t];
            bits[s] += kSpreads[s].order + (steps < kUnaryLimit
                                                ? static_cast<double>(steps) * yes + no
                                                : kUnaryLimit * yes + 2 * std::ilogb(steps - kUnaryLimit + 1) + 1);
        }
    });
    l.spread = static_cast<unsigned>(std::min_element(bits, bits + 8) - bits);
}

// Levels rounded to the nearest multiple of a step.
inline Levels rounded(const Window& w, double step) {
    const double most = std::max(*std::max_element(w.counts.begin(), w.counts.end()), w.escaped);
    step = std::max(step, std::sqrt(most) / static_cast<double>(kMaxLevel - 1));
    Levels l;
    for (const double count : w.counts)
        l.values.push_back(std::max<std::int64_t>(std::llrint(std::sqrt(count) / step), count > 0));
    l.escape = w.escaped > 0 ? std::max<std::int64_t>(1, std::llrint(std::sqrt(w.escaped) / step)) : 0;
    l.golomb = w.golomb;
    l.below = std::max_element(l.values.begin(), l.values.end()) - l.values.begin();
    l.peak = w.lo + l.below;
    set_decay(l);
    set_spread(l);
    return l;
}

// Levels that minimise table plus payload bits one after the other, in coding order.
//
// The payload of a symbol that occurs c times and has weight v (in units of one occurrence) is v / ln 2 - c log2 v up
// to a constant: its own code words and the slots that it takes from all others.
inline Levels moved(const Window& w, const Levels& start) {
    const double more = 4 - std::log2(kSpreads[start.spread].t);
    const double unit =
        *std::max_element(w.counts.begin(), w.counts.end()) / static_cast<double>(start.at(0) * start.at(0));
    Levels l = start;
    Levels::walk(l.below, l.above(), [&](std::int64_t k) {
        const std::size_t index = static_cast<std::size_t>(l.below + k);
        const std::int64_t p = l.predict(k), target = start.values[index];
        const double count = w.counts[index];
        double best = std::numeric_limits<double>::infinity();
        const auto attempt = [&](std::int64_t r) {
            if (r < 0 || (r == 0 && count > 0)) return;
            const double v = static_cast<double>(r * r) * unit;
            const double payload = v / std::log(2.0) - (count > 0 ? count * std::log2(v) : 0.0);
            const double cost = payload + static_cast<double>(fold(r, p) >> kSpreads[start.spread].order) * more;
            if (cost < best) best = cost, l.values[index] = r;
        };
        attempt(p);
        for (std::int64_t r = target - 2; r <= target + 2; ++r) attempt(r);
    });
    set_spread(l);
    return l;
}

// Bits of the payload of a window, the escaped values included.
inline double payload_bits(const Window& w, const Levels& levels, unsigned bits) {
    const Table t = levels.table(bits, false);
    double sum = w.side;
    for (std::size_t k = 0; k < w.counts.size(); ++k)
        if (w.counts[k] > 0) sum += w.counts[k] * (bits - std::log2(t.freq[k]));
    return w.escaped > 0 ? sum + w.escaped * (bits - std::log2(t.freq.back())) : sum;
}

// Frequencies of 12 or 14 bits, whichever is smaller; large streams are narrow unless wide tables pay visibly.
inline Fitted with_width(const Window& w, const Levels& levels, double wide_gain) {
    NumberWriter out;
    levels.write(out);
    const double table = 8 * std::ceil((out.bits() + 2) / 8), symbols = w.symbols();
    const std::size_t used = static_cast<std::size_t>(
        std::count_if(levels.values.begin(), levels.values.end(), [](auto v) { return v > 0; }));
    const bool too_many = used + (levels.escape > 0) > std::size_t{1} << 12;
    Fitted best;
    if (!too_many) best = {levels, false, table + payload_bits(w, levels, 12)};
    if (too_many ||
        (symbols >= 1 << 12 && wide_gain > 0)) {  // 12 bits resolve single occurrences of few symbols already
        const double bits = table + payload_bits(w, levels, 14);
        if (bits < best.bits * wide_gain || too_many) best = {levels, true, bits};
    }
    return best;
}

// The best table found for a histogram of at least two different values. Narrow ones only where `narrow` is true.
inline Fitted fit(const Histogram& h, bool narrow = false) {
    std::vector<Window> windows;
    for (const auto& [a, b] : alphabets(h)) {
        windows.emplace_back(h, a, b);
        if (!windows.back().useful()) windows.pop_back();
    }
    if (windows.empty()) throw std::invalid_argument("a histogram of fewer than two values");
    const double symbols = windows[0].symbols(), gain = narrow ? 0.0 : symbols >= kMany ? kWideGain : 1.0;
    const Window* window = nullptr;
    double least = std::numeric_limits<double>::infinity();
    for (const Window& w : windows) {
        const double bits = with_width(w, rounded(w, kRough), gain).bits;
        if (bits < least) least = bits, window = &w;
    }
    Fitted best;
    for (const double step : kSteps) {
        const Levels levels = rounded(*window, step);
        Fitted found = with_width(*window, levels, gain);
        if (found.bits < best.bits) best = std::move(found);
        if (levels.values.size() > kMaxMoved) continue;
        found = with_width(*window, moved(*window, levels), gain);
        if (found.bits < best.bits) best = std::move(found);
    }
    return best;
}

// The table of a whole stream.
inline TableChoice choose(const Histogram& h) {
    const Fitted best = fit(h);
    double symbols = 0;
    for (const std::uint64_t count : h.counts) symbols += static_cast<double>(count);
    for (const auto& far : h.far) symbols += static_cast<double>(far.second);
    TableChoice choice;
    choice.tables = {best.levels};
    choice.wide = best.wide;
    choice.bits = best.bits;
    choice.single = symbols >= kMany && best.bits < kSparse * symbols;
    return choice;
}

}  // namespace noworse
