// What the low bits of a state, its slot, decode to: one entry per slot, for all tables of a stream back to back.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <variant>

#include "model.hpp"

namespace noworse {

constexpr std::size_t kBeyond = 3;  // entries that may be read behind any of an array, and are ignored

// symbol:8 | bias:12 | freq:12 in 4 bytes (no frequency is 4096, since there are two symbols or more), so that a table of
// 12 bits takes 16 KiB and stays in the first-level cache.
struct Narrow {
    std::uint32_t word;
    static constexpr unsigned bits(unsigned) { return 12; }
    void set(std::uint32_t k, std::uint32_t f, std::uint32_t bias) { word = (k << 24) | (bias << 12) | f; }
    std::uint32_t symbol() const { return word >> 24; }
    std::uint32_t freq() const { return word & 0xFFF; }
    std::uint32_t bias() const { return (word >> 12) & 0xFFF; }
};

// symbol:32 | bias:16 | freq:16.
struct Wide {
    std::uint64_t word;
    static constexpr unsigned bits(unsigned bits) { return bits; }
    void set(std::uint64_t k, std::uint32_t f, std::uint32_t bias) { word = (k << 32) | (bias << 16) | f; }
    std::uint32_t symbol() const { return static_cast<std::uint32_t>(word >> 32); }
    std::uint32_t freq() const { return word & 0xFFFF; }
    std::uint32_t bias() const { return static_cast<std::uint32_t>(word) >> 16; }
};

// The table of at most K <= 16 symbols, small enough to compare a slot with the start of each at once. Of the differences
// 16 slot - row, as unsigned numbers of 16 bits, the least is that of the slot's own symbol: bias:12 | row:4.
template <unsigned K>
struct Few {
    static constexpr unsigned bits(unsigned) { return 12; }
    alignas(32) std::uint16_t rows[K][16];  // every one sixteen times, as a register holds it
    alignas(32) std::uint32_t freq[16] = {};  // by row
    alignas(32) std::uint32_t symbol[16] = {};
    unsigned count = 0;

    // Those of the symbols with a frequency; the last one fills the rest.
    static std::optional<Few> of(const Table& t) {
        Few few;
        unsigned row = 0;
        std::uint32_t start = 0;
        for (std::uint32_t k = 0; k < t.freq.size(); ++k) {
            if (t.freq[k] == 0) continue;
            if (row == K) return std::nullopt;
            few.freq[row] = t.freq[k];
            few.symbol[row] = k;
            few.fill(row, (start << 4) - row);
            ++row;
            start += t.freq[k];
        }
        few.count = row;
        for (const unsigned last = row - 1; row < K; ++row) few.fill(row, few.rows[last][0]);
        return few;
    }

  private:
    void fill(unsigned row, std::uint32_t value) { std::fill_n(rows[row], 16, static_cast<std::uint16_t>(value)); }
};

using AnyFew = std::variant<std::monostate, Few<6>, Few<8>, Few<10>, Few<12>, Few<16>>;

// Symbols are numbered from the smallest value of any table; `escape` is the number that all escape symbols get.
class Slots {
  public:
    explicit Slots(const Model& m) : bits(m.bits()) {
        std::int64_t end = m.tables[0].end();
        lo = m.tables[0].lo;
        for (const Table& t : m.tables) {
            lo = std::min(lo, t.lo);
            end = std::max(end, t.end());
        }
        if (end - lo > (1 << 24)) throw std::domain_error("the tables of a stream are too far apart");
        escape = static_cast<std::uint32_t>(end - lo);
        if (bits != 12 || escape + m.escape() > 256) {
            fill(m, wide);
            return;
        }
        fill(m, narrow);
        if (m.tables.size() > 1) return;
        compare(m.tables[0], few);
    }

    std::int32_t lo;
    std::uint32_t escape;
    unsigned bits;
    std::unique_ptr<Narrow[]> narrow;  // one of the two is nullptr
    std::unique_ptr<Wide[]> wide;
    AnyFew few;  // beside narrow ones, where few symbols have a frequency

  private:
    // The smallest that has room.
    template <class... Kinds>
    static void compare(const Table& t, std::variant<std::monostate, Kinds...>& few) {
        const auto take = [&](const auto& found) { return found && (few = *found, true); };
        (take(Kinds::of(t)) || ...);
    }

    template <class Slot>
    void fill(const Model& m, std::unique_ptr<Slot[]>& slots) const {
        const std::size_t size = m.tables.size() << bits;
        slots.reset(new Slot[size + kBeyond]);  // not set to zero first: all but the last few are filled
        std::fill_n(slots.get() + size, kBeyond, Slot{});
        Slot* slot = slots.get();
        for (const Table& t : m.tables) {
            const std::uint32_t first = static_cast<std::uint32_t>(t.lo - lo);
            for (std::uint32_t k = 0; k < t.freq.size(); slot += t.freq[k++]) {
                const std::uint32_t f = t.freq[k], symbol = k < t.ordinary() ? first + k : escape;
                for (std::uint32_t b = 0; b < f; ++b) slot[b].set(symbol, f, b);
            }
        }
    }
};

}  // namespace noworse
