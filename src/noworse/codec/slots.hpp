// What the low bits of a state, its slot, decode to: one entry per slot, for all tables of a stream back to back.
#pragma once

#include <algorithm>

#include "model.hpp"

namespace noworse {

// symbol:8 | bias:12 | freq-1:12 in 4 bytes, so that a table of 12 bits takes 16 KiB and stays in the first-level
// cache.
struct Narrow {
    static constexpr bool kLess = true;  // holds freq - 1
    std::uint32_t word;
    static constexpr unsigned bits(unsigned) { return 12; }
    void set(std::uint32_t k, std::uint32_t f, std::uint32_t bias) { word = (k << 24) | (bias << 12) | (f - 1); }
    std::uint32_t symbol() const { return word >> 24; }
    std::uint32_t freq() const { return (word & 0xFFF) + 1; }
    std::uint32_t bias() const { return (word >> 12) & 0xFFF; }
};

struct Wide {
    static constexpr bool kLess = false;
    std::uint16_t freq_, bias_;
    std::uint32_t symbol_;
    static constexpr unsigned bits(unsigned bits) { return bits; }
    void set(std::uint32_t k, std::uint32_t f, std::uint32_t bias) {
        symbol_ = k;
        freq_ = static_cast<std::uint16_t>(f);
        bias_ = static_cast<std::uint16_t>(bias);
    }
    std::uint32_t symbol() const { return symbol_; }
    std::uint32_t freq() const { return freq_; }
    std::uint32_t bias() const { return bias_; }
};

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
        if (bits == 12 && escape + m.escape() <= 256) fill(m, narrow);
        else fill(m, wide);
    }

    std::int32_t lo;
    std::uint32_t escape;
    unsigned bits;
    std::vector<Narrow> narrow;  // one of the two is empty
    std::vector<Wide> wide;

  private:
    template <class Slot>
    void fill(const Model& m, std::vector<Slot>& slots) const {
        slots.resize(m.tables.size() << bits);
        auto slot = slots.begin();
        for (const Table& t : m.tables) {
            const std::uint32_t first = static_cast<std::uint32_t>(t.lo - lo);
            for (std::uint32_t k = 0; k < t.freq.size(); ++k)
                for (std::uint32_t b = 0; b < t.freq[k]; ++b)
                    (slot++)->set(k < t.ordinary() ? first + k : escape, t.freq[k], b);
        }
    }
};

}  // namespace noworse
