// Interleaved rANS, from symbols to bytes; the byte layout is described in rans.py.
#pragma once

#include <algorithm>

#include "classes.hpp"
#include "golomb.hpp"

namespace noworse {

// x / freq as multiplication: (x * scale) >> shift is exact for all x < limit = freq << (32 - bits).
struct EncodeEntry {
    std::uint64_t scale;
    std::uint32_t limit, shift;
    std::uint16_t freq, start;
};

inline std::vector<EncodeEntry> encode_entries(const Table& t) {
    std::vector<EncodeEntry> entries(t.freq.size());
    std::uint32_t start = 0;
    for (std::size_t k = 0; k < entries.size(); ++k) {
        const std::uint32_t f = t.freq[k];
        unsigned log = 0;
        while ((1u << log) < f) ++log;
        const unsigned shift = 2 * log + 32 - t.bits;
        entries[k] = {f ? (std::uint64_t{1} << shift) / f + 1 : 0, f << (32 - t.bits), shift,
                      static_cast<std::uint16_t>(f), static_cast<std::uint16_t>(start)};
        start += f;
    }
    entries.resize(t.ordinary() + 1, EncodeEntry{});  // without an escape, what lies outside has frequency zero
    return entries;
}

// The coding side of all tables of a stream; made once, used for all its blocks.
struct EncodeTables {
    explicit EncodeTables(const Model& m) {
        check(m);
        for (const Table& t : m.tables) {
            lo.push_back(static_cast<std::uint32_t>(t.lo));
            ordinary.push_back(static_cast<std::uint32_t>(t.ordinary()));
            entries.push_back(encode_entries(t));
        }
    }
    std::vector<std::uint32_t> lo, ordinary;
    std::vector<std::vector<EncodeEntry>> entries;
};

// Codes of one block from last to first; `p` walks backwards through its words.
template <class Code>
class BlockEncoder {
  public:
    BlockEncoder(const EncodeTables& tables, const Code* codes, const std::uint8_t* classes, unsigned bits)
        : tables_(tables), codes_(codes), classes_(classes), total_(1u << bits), entries_(tables.entries[0].data()),
          lo_(tables.lo[0]), ordinary_(tables.ordinary[0]) {}

    template <unsigned L>
    void run(std::size_t count, std::uint16_t*& p, std::uint32_t* out) {
        if (classes_) lanes<L, true>(count, p, out);
        else lanes<L, false>(count, p, out);
        if (impossible_) throw std::invalid_argument("a code has frequency zero");
    }

    std::vector<std::size_t> escaped;  // positions, the last one first

  private:
    template <unsigned L, bool Classes>
    void lanes(std::size_t count, std::uint16_t*& p, std::uint32_t* out) {
        std::uint16_t* const end = p;
        std::uint32_t state[L] = {L == 1 ? 0 : kLow};
        std::size_t i = count;
        if (L > 1) {
            for (; i > count - tail(L); --i) state[0] = push<Classes>(state[0], i - 1, p);
            for (unsigned j = 1; j < L; ++j) state[j] = kLow | (p != end ? *p++ : 0);
        }
        for (; i % L; --i) state[(i - 1) % L] = push<Classes>(state[(i - 1) % L], i - 1, p);
        for (; i > 0; i -= L)
            for (unsigned j = L; j-- > 0;) state[j] = push<Classes>(state[j], i - L + j, p);
        for (unsigned j = 0; j < L; ++j) out[j] = state[j];
    }

    // Puts one code on top of state x.
    template <bool Classes>
    std::uint32_t push(std::uint32_t x, std::size_t i, std::uint16_t*& p) {
        const unsigned c = Classes ? classes_[i] : 0;
        const std::uint32_t k = static_cast<std::uint32_t>(codes_[i]) - (Classes ? tables_.lo[c] : lo_);
        const std::uint32_t ordinary = Classes ? tables_.ordinary[c] : ordinary_;
        if (k >= ordinary) escaped.push_back(i);  // rare, or the alphabet would be wider
        const EncodeEntry e = (Classes ? tables_.entries[c].data() : entries_)[k < ordinary ? k : ordinary];
        impossible_ |= e.freq == 0;
        const bool full = x >= e.limit;
        p[-1] = static_cast<std::uint16_t>(x);  // overwritten unless full: no branch, which would be guessed badly
        p -= full;
        x >>= 16 * full;
        return x + e.start + static_cast<std::uint32_t>((x * e.scale) >> e.shift) * (total_ - e.freq);
    }

    const EncodeTables& tables_;
    const Code* codes_;
    const std::uint8_t* classes_;
    const std::uint32_t total_;
    const EncodeEntry* entries_;
    const std::uint32_t lo_, ordinary_;
    bool impossible_ = false;
};

inline void put_state(std::vector<std::uint8_t>& out, std::uint32_t x, unsigned n) {
    for (unsigned b = 0; b < n; ++b) out.push_back(static_cast<std::uint8_t>(x >> (8 * b)));
}

// One block, whose first symbol is symbol `first` of its stream.
template <class Code>
std::vector<std::uint8_t> encode_block(const Model& m, const EncodeTables& tables, const ClassMap& map,
                                       const Code* codes, std::size_t first, std::size_t count) {
    std::vector<std::uint8_t> out, side, filled(map.empty() ? 0 : count);
    if (!map.empty()) map.fill(first, filled.data(), count);
    const std::uint8_t* const classes = map.empty() ? nullptr : filled.data();
    BlockEncoder<Code> encoder(tables, codes, classes, m.bits());
    std::vector<std::uint16_t> words(count + 1);
    std::uint16_t* const end = words.data() + count + 1;
    std::uint16_t* p = end;
    std::uint32_t states[32];
    const unsigned n = lanes(m, count);
    if (n == 1) encoder.template run<1>(count, p, states);
    else if (n == 8) encoder.template run<8>(count, p, states);
    else if (n == 16) encoder.template run<16>(count, p, states);
    else encoder.template run<32>(count, p, states);
    if (m.escape()) {
        BitWriter list;
        for (auto i = encoder.escaped.rbegin(); i != encoder.escaped.rend(); ++i) {
            const Table& t = m.tables[classes ? classes[*i] : 0];
            put_escape(list, codes[*i], t.lo, t.end(), static_cast<unsigned>(t.golomb));
        }
        side = std::move(list.bytes);
        put_varint(out, side.size());
    }
    for (unsigned j = 0; j < n; ++j) put_state(out, states[j], n == 1 ? state_bytes(states[j]) : 4);
    out.reserve(out.size() + 2 * static_cast<std::size_t>(end - p) + side.size());
    for (; p != end; ++p) put_state(out, *p, 2);
    out.insert(out.end(), side.begin(), side.end());
    return out;
}

}  // namespace noworse
