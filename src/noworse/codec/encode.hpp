// Interleaved rANS, from symbols to bytes; the byte layout is described in docs/format.md, section 5.
#pragma once

#include <algorithm>
#include <memory>

#include "classes.hpp"
#include "golomb.hpp"
#include "encode_avx2.hpp"

namespace noworse {

// What a value is coded with; x / freq as multiplication: (x * scale) >> shift is exact for x < limit.
struct EncodeEntry {
    std::uint64_t scale;
    std::uint32_t limit, shift;  // limit = freq << (32 - bits)
    std::uint16_t freq, start;
    bool escaped;
};

// The coding side of all tables of a stream, over one range of values: entry number class * stride + value - lo, where
// the last entry of each table stands for all values outside of the range. Made once, used for all blocks.
struct EncodeTables {
    explicit EncodeTables(const Model& m) : bits(m.bits()) {
        check(m);
        std::int64_t first = m.tables[0].lo, end = m.tables[0].end();
        for (const Table& t : m.tables) first = std::min<std::int64_t>(first, t.lo), end = std::max(end, t.end());
        if (end - first > (1 << 16)) throw std::invalid_argument("the tables of a stream are too far apart");
        lo = static_cast<std::uint32_t>(first);
        stride = static_cast<std::uint32_t>(end - first) + 1;
        for (const Table& t : m.tables) add(t, first);
        for (const EncodeEntry& e : entries)
            packed.push_back(e.freq | static_cast<std::uint32_t>(e.start) << 16 |
                             static_cast<std::uint32_t>(e.escaped) << 31);
        packed.resize(packed.size() + kBeyond);
    }

    unsigned bits;
    std::uint32_t lo, stride;
    std::vector<EncodeEntry> entries;
    std::vector<std::uint32_t> packed;  // freq:16 | start:15 | escaped:1, for SIMD

  private:
    void add(const Table& t, std::int64_t first) {
        std::vector<EncodeEntry> own;
        std::uint32_t start = 0;
        for (const std::uint32_t f : t.freq) {
            unsigned log = 0;
            while ((1u << log) < f) ++log;
            const unsigned shift = 2 * log + 32 - bits;
            own.push_back({f ? (std::uint64_t{1} << shift) / f + 1 : 0, f << (32 - bits), shift,
                           static_cast<std::uint16_t>(f), static_cast<std::uint16_t>(start), false});
            start += f;
        }
        EncodeEntry outside{};  // without an escape symbol, what lies outside has frequency zero
        if (t.escape()) outside = own.back(), own.pop_back();
        outside.escaped = true;
        entries.insert(entries.end(), static_cast<std::size_t>(t.lo - first), outside);
        entries.insert(entries.end(), own.begin(), own.end());
        entries.resize((entries.size() / stride + 1) * stride, outside);
    }
};

// Codes of one block from last to first; `p` walks backwards through its words, 8 of which are kept free before it.
template <class Code>
class BlockEncoder {
  public:
    BlockEncoder(const EncodeTables& tables, const Code* codes, const std::uint8_t* classes, unsigned simd)
        : tables_(tables),
          entries_(tables.entries.data()),
          codes_(codes),
          classes_(classes),
          simd_(simd && has_avx2()) {}

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
        std::uint32_t state[L] = {};
        std::size_t i = count;
        if (L > 1) {
            std::fill_n(state, kTailLanes, kLow);
            for (; i > count - tail(L); --i) {
                std::uint32_t& x = state[(i - 1) % kTailLanes];
                x = push<Classes>(x, i - 1, p);
            }
            for (unsigned j = kTailLanes; j < L; ++j) state[j] = kLow | (p != end ? *p++ : 0);
        }
        for (; i % L; --i) state[(i - 1) % L] = push<Classes>(state[(i - 1) % L], i - 1, p);
#ifdef NOWORSE_AVX2
        if constexpr (L > 1)
            if (simd_) i = rounds_avx2<L, Classes>(i, p, state);
#endif
        for (; i > 0; i -= L)
            for (unsigned j = L; j-- > 0;) state[j] = push<Classes>(state[j], i - L + j, p);
        for (unsigned j = 0; j < L; ++j) out[j] = state[j];
    }

    // Puts one code on top of state x.
    template <bool Classes>
    std::uint32_t push(std::uint32_t x, std::size_t i, std::uint16_t*& p) {
        const std::uint32_t k = std::min(static_cast<std::uint32_t>(codes_[i]) - tables_.lo, tables_.stride - 1);
        const EncodeEntry& e = entries_[(Classes ? classes_[i] * tables_.stride : 0) + k];
        if (e.escaped) escaped.push_back(i);
        impossible_ |= e.freq == 0;
        if (x >= e.limit) {
            *--p = static_cast<std::uint16_t>(x);
            x >>= 16;
        }
        return x + e.start + static_cast<std::uint32_t>((x * e.scale) >> e.shift) * ((1u << tables_.bits) - e.freq);
    }

#ifdef NOWORSE_AVX2
    template <unsigned L, bool Classes>
    __attribute__((target("avx2,popcnt"))) std::size_t rounds_avx2(std::size_t i, std::uint16_t*& words,
                                                                   std::uint32_t* out) {
        const __m128i rest = _mm_cvtsi32_si128(32 - static_cast<int>(tables_.bits));
        const __m256i lo = splat(tables_.lo), last = splat(tables_.stride - 1), stride = splat(tables_.stride),
                      total = splat(1u << tables_.bits);
        const __m256i low16 = splat(0xFFFF), low15 = splat(0x7FFF), sixteen = splat(16), zero = _mm256_setzero_si256();
        __m256i state[L / 8], impossible = zero;
        for (unsigned v = 0; v < L / 8; ++v)
            state[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(out + 8 * v));
        std::uint16_t* p = words;
        for (; i > 0; i -= L) {
            for (unsigned v = L / 8; v-- > 0;) {
                const std::size_t at = i - L + 8 * v;
                __m256i index = _mm256_min_epu32(_mm256_sub_epi32(load_codes(codes_ + at), lo), last);
                if (Classes) index = _mm256_add_epi32(index, _mm256_mullo_epi32(load_codes(classes_ + at), stride));
                const __m256i entry = gather(tables_.packed.data(), index);
                const __m256i freq = _mm256_and_si256(entry, low16),
                              start = _mm256_and_si256(_mm256_srli_epi32(entry, 16), low15);
                if (const unsigned set = lanes_of(entry); set != 0) note_escapes(at, set);
                impossible = _mm256_or_si256(impossible, _mm256_cmpeq_epi32(freq, zero));
                const __m256i full = _mm256_cmpgt_epi32(freq, _mm256_srl_epi32(state[v], rest));  // not full
                const unsigned set = lanes_of(full) ^ 0xFF;
                const auto* order = reinterpret_cast<const __m128i*>(kSpillOrder.lane[set]);
                const __m256i spilt = _mm256_permutevar8x32_epi32(_mm256_and_si256(state[v], low16),
                                                                  _mm256_cvtepu8_epi32(_mm_loadl_epi64(order)));
                _mm_storeu_si128(reinterpret_cast<__m128i*>(p - 8),
                                 _mm_packus_epi32(_mm256_castsi256_si128(spilt), _mm256_extracti128_si256(spilt, 1)));
                p -= __builtin_popcount(set);
                const __m256i x = _mm256_srlv_epi32(state[v], _mm256_andnot_si256(full, sixteen));
                const __m256i q = divide(x, freq);
                state[v] =
                    _mm256_add_epi32(_mm256_add_epi32(x, start), _mm256_mullo_epi32(q, _mm256_sub_epi32(total, freq)));
            }
        }
        for (unsigned v = 0; v < L / 8; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * v), state[v]);
        impossible_ |= lanes_of(impossible) != 0;
        words = p;
        return i;
    }

    void note_escapes(std::size_t at, unsigned set) {
        for (unsigned lane = 8; lane-- > 0;)
            if (set >> lane & 1) escaped.push_back(at + lane);
    }
#endif

    const EncodeTables& tables_;
    const EncodeEntry* entries_;
    const Code* codes_;
    const std::uint8_t* classes_;
    const bool simd_;
    bool impossible_ = false;
};

inline void put_state(std::vector<std::uint8_t>& out, std::uint32_t x, unsigned n) {
    for (unsigned b = 0; b < n; ++b) out.push_back(static_cast<std::uint8_t>(x >> (8 * b)));
}

// One block, whose first symbol is symbol `first` of its stream.
template <class Code>
std::vector<std::uint8_t> encode_block(const Model& m, const EncodeTables& tables, const ClassMap& map,
                                       const Code* codes, std::size_t first, std::size_t count, unsigned simd) {
    std::vector<std::uint8_t> out, side, filled(map.empty() ? 0 : count);
    if (!map.empty()) map.fill(first, filled.data(), count);
    const std::uint8_t* const classes = map.empty() ? nullptr : filled.data();
    BlockEncoder<Code> encoder(tables, codes, classes, simd);
    const std::unique_ptr<std::uint16_t[]> words(new std::uint16_t[count + 8]);  // not set to zeros, which takes time
    std::uint16_t* const end = words.get() + count + 8;
    std::uint16_t* p = end;
    std::uint32_t states[32];
    const unsigned n = lanes(m, count);
    if (n == 1) encoder.template run<1>(count, p, states);
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
    const std::size_t head = out.size();
    out.resize(head + 2 * static_cast<std::size_t>(end - p));
    for (std::uint8_t* to = out.data() + head; p != end; ++p) {
        *to++ = static_cast<std::uint8_t>(*p);
        *to++ = static_cast<std::uint8_t>(*p >> 8);
    }
    out.insert(out.end(), side.begin(), side.end());
    return out;
}

}  // namespace noworse
