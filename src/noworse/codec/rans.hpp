// Interleaved rANS over one block; the byte layout is described in rans.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "golomb.hpp"

namespace noworse {

constexpr std::uint32_t kLow = 1u << 16;  // states of several lanes live in [kLow, 2**32)

// Symbol lo + k has frequency freq[k]; with an escape its frequency is the last one.
struct Model {
    std::int32_t lo;
    const std::uint16_t* freq;
    std::size_t size;  // entries of freq
    unsigned bits;     // frequencies sum to 1 << bits
    int golomb;        // Golomb order of escaped values, -1 without escape symbol
    bool single;       // one lane in blocks of any length

    bool escape() const { return golomb >= 0; }
    std::size_t ordinary() const { return size - (escape() ? 1 : 0); }
    std::int64_t end() const { return static_cast<std::int64_t>(lo) + static_cast<std::int64_t>(ordinary()); }
};

inline void check(const Model& m) {
    if (m.bits != 12 && m.bits != 14) throw std::invalid_argument("bits must be 12 or 14");
    if (m.golomb < -1 || m.golomb > kMaxOrder) throw std::invalid_argument("the Golomb order must be in -1..30");
    if (m.size < 2) throw std::invalid_argument("a model needs two symbols");
    if (m.lo < -kMaxCode || m.end() > std::int64_t{kMaxCode} + 1)
        throw std::invalid_argument("the alphabet is too far out");
    std::uint64_t sum = 0;
    for (std::size_t k = 0; k < m.size; ++k) {
        if (m.freq[k] >= (1u << m.bits)) throw std::invalid_argument("a frequency is not below 1 << bits");
        sum += m.freq[k];
    }
    if (sum != (std::uint64_t{1} << m.bits)) throw std::invalid_argument("frequencies do not sum to 1 << bits");
    if (m.escape() && m.freq[m.size - 1] == 0) throw std::invalid_argument("the escape symbol has frequency zero");
}

// Interleaved states of a block: one below 65,536 symbols, then about one per 8,192, in multiples of a SIMD register.
inline unsigned lanes(const Model& m, std::size_t count) {
    if (m.single || count < 65536) return 1;
    return count < 131072 ? 8 : count < 262144 ? 16 : 32;
}

// The last symbols of a block with several lanes: lane 0 alone codes them, and the other lanes start from its words.
inline std::size_t tail(unsigned lanes) { return lanes == 1 ? 0 : 64 * static_cast<std::size_t>(lanes); }

// x / freq as multiplication: (x * scale) >> shift is exact for all x < limit = freq << (32 - bits).
struct EncodeEntry {
    std::uint64_t scale;
    std::uint32_t limit, shift;
    std::uint16_t freq, start;
};

inline std::vector<EncodeEntry> encode_entries(const Model& m) {
    std::vector<EncodeEntry> table(m.size);
    std::uint32_t start = 0;
    for (std::size_t k = 0; k < m.size; ++k) {
        const std::uint32_t f = m.freq[k];
        unsigned log = 0;
        while ((1u << log) < f) ++log;
        const unsigned shift = 2 * log + 32 - m.bits;
        table[k] = {f ? (std::uint64_t{1} << shift) / f + 1 : 0, f << (32 - m.bits), shift,
                    static_cast<std::uint16_t>(f), static_cast<std::uint16_t>(start)};
        start += f;
    }
    return table;
}

class Encoder {
  public:
    explicit Encoder(const Model& m)
        : table_(encode_entries(m)), lo_(static_cast<std::uint32_t>(m.lo)),
          ordinary_(static_cast<std::uint32_t>(m.ordinary())), total_(1u << m.bits) {
        table_.resize(ordinary_ + 1, EncodeEntry{});  // without an escape, what lies outside has frequency zero
    }

    // Puts one code on top of state x; `p` walks backwards through the words.
    std::uint32_t push(std::uint32_t x, std::int32_t code, std::uint16_t*& p) {
        const std::uint32_t k = static_cast<std::uint32_t>(code) - lo_;
        const EncodeEntry& e = table_[k < ordinary_ ? k : ordinary_];
        impossible_ |= e.freq == 0;
        if (x >= e.limit) {
            *--p = static_cast<std::uint16_t>(x);
            x >>= 16;
        }
        return x + e.start + static_cast<std::uint32_t>((x * e.scale) >> e.shift) * (total_ - e.freq);
    }

    bool impossible() const { return impossible_; }

  private:
    std::vector<EncodeEntry> table_;
    std::uint32_t lo_, ordinary_, total_;
    bool impossible_ = false;
};

// Codes from last to first; `p` is one past the last word and is left at the first one.
template <unsigned L>
void encode_lanes(const Model& m, const std::int32_t* codes, std::size_t count, std::uint16_t*& p, std::uint32_t* out) {
    Encoder encoder(m);
    std::uint16_t* const end = p;
    std::uint32_t state[L] = {L == 1 ? 0 : kLow};
    std::size_t i = count;
    if (L > 1) {
        for (; i > count - tail(L); --i) state[0] = encoder.push(state[0], codes[i - 1], p);
        for (unsigned j = 1; j < L; ++j) state[j] = kLow | (p != end ? *p++ : 0);
    }
    for (; i % L; --i) state[(i - 1) % L] = encoder.push(state[(i - 1) % L], codes[i - 1], p);
    for (; i > 0; i -= L)
        for (unsigned j = L; j-- > 0;) state[j] = encoder.push(state[j], codes[i - L + j], p);
    if (encoder.impossible()) throw std::invalid_argument("a code has frequency zero");
    for (unsigned j = 0; j < L; ++j) out[j] = state[j];
}

inline void put_state(std::vector<std::uint8_t>& out, std::uint32_t x, unsigned n) {
    for (unsigned b = 0; b < n; ++b) out.push_back(static_cast<std::uint8_t>(x >> (8 * b)));
}

// Bytes of the only state: as few as hold it, but 3 or 4 where words follow (it is at least 2**16 then).
inline unsigned state_bytes(std::uint32_t x) {
    unsigned n = 0;
    for (; x; x >>= 8) ++n;
    return n;
}

inline std::vector<std::uint8_t> encode_block(const Model& m, const std::int32_t* codes, std::size_t count) {
    check(m);
    std::vector<std::uint8_t> out, side;
    if (m.escape()) {
        side = encode_escapes(codes, count, m.lo, m.end(), static_cast<unsigned>(m.golomb));
        put_varint(out, side.size());
    }
    std::vector<std::uint16_t> words(count);
    std::uint16_t* const end = words.data() + count;
    std::uint16_t* p = end;
    std::uint32_t states[32];
    const unsigned n = lanes(m, count);
    if (n == 1) encode_lanes<1>(m, codes, count, p, states);
    else if (n == 8) encode_lanes<8>(m, codes, count, p, states);
    else if (n == 16) encode_lanes<16>(m, codes, count, p, states);
    else encode_lanes<32>(m, codes, count, p, states);
    for (unsigned j = 0; j < n; ++j) put_state(out, states[j], n == 1 ? state_bytes(states[j]) : 4);
    out.reserve(out.size() + 2 * static_cast<std::size_t>(end - p) + side.size());
    for (; p != end; ++p) put_state(out, *p, 2);
    out.insert(out.end(), side.begin(), side.end());
    return out;
}

// What a slot (the low bits of a state) decodes to. Narrow packs symbol:8 | bias:12 | freq-1:12 into 4 bytes, so that
// 12-bit tables take 16 KiB and stay in the first-level cache.
struct Narrow {
    std::uint32_t word;
    void set(std::uint32_t k, std::uint32_t f, std::uint32_t bias) { word = (k << 24) | (bias << 12) | (f - 1); }
    std::uint32_t symbol() const { return word >> 24; }
    std::uint32_t freq() const { return (word & 0xFFF) + 1; }
    std::uint32_t bias() const { return (word >> 12) & 0xFFF; }
};

struct Wide {
    std::uint16_t freq_, bias_;
    std::uint32_t symbol_;
    void set(std::uint32_t k, std::uint32_t f, std::uint32_t bias) {
        symbol_ = k;
        freq_ = static_cast<std::uint16_t>(f);
        bias_ = static_cast<std::uint16_t>(bias);
    }
    std::uint32_t symbol() const { return symbol_; }
    std::uint32_t freq() const { return freq_; }
    std::uint32_t bias() const { return bias_; }
};

template <class Slot>
std::vector<Slot> decode_slots(const Model& m) {
    std::vector<Slot> slots(std::size_t{1} << m.bits);
    std::size_t s = 0;
    for (std::size_t k = 0; k < m.size; ++k)
        for (std::uint32_t b = 0, f = m.freq[k]; b < f && s < slots.size(); ++b)
            slots[s++].set(static_cast<std::uint32_t>(k), f, b);
    return slots;
}

struct Reader {
    const std::uint8_t* p;
    const std::uint8_t* end;
    std::size_t left() const { return static_cast<std::size_t>(end - p); }
    std::uint32_t take(unsigned bytes) {
        if (bytes > left()) throw std::domain_error("a block ends before its last symbol");
        std::uint32_t x = 0;
        for (unsigned b = 0; b < bytes; ++b) x |= static_cast<std::uint32_t>(*p++) << (8 * b);
        return x;
    }
};

template <class Slot, unsigned Bits>
class Decoder {
  public:
    explicit Decoder(const Model& m) : slots_(decode_slots<Slot>(m)), lo_(static_cast<std::uint32_t>(m.lo)) {}

    // Takes one symbol off state x, which the caller refills.
    std::uint32_t pop(std::uint32_t x, std::int32_t& out) const {
        const Slot slot = slots_[x & ((1u << Bits) - 1)];
        out = static_cast<std::int32_t>(slot.symbol() + lo_);
        return slot.freq() * (x >> Bits) + slot.bias();
    }

  private:
    std::vector<Slot> slots_;
    std::uint32_t lo_;
};

inline void expect_end(bool good) {
    if (!good) throw std::domain_error("a block does not end in its initial state");
}

// One lane starts from zero: after the last word its state runs down to zero without refills.
template <class Slot, unsigned Bits>
void decode_single(const Model& m, Reader& in, std::int32_t* out, std::size_t count) {
    const unsigned bytes = in.left() <= 4 ? static_cast<unsigned>(in.left()) : 4 - in.left() % 2;
    std::uint32_t x = in.take(bytes);
    if (state_bytes(x) != bytes || (in.left() > 0 && x < kLow)) throw std::domain_error("a lane state is out of range");
    const Decoder<Slot, Bits> decoder(m);
    std::size_t i = 0;
    const std::uint8_t* p = in.p;
    // a branch, where several lanes use arithmetic: guessing it right shortens the only chain of dependencies
    for (; i < count && p != in.end; ++i) {
        x = decoder.pop(x, out[i]);
        if (x < kLow) {
            x = (x << 16) | p[0] | (static_cast<std::uint32_t>(p[1]) << 8);
            p += 2;
        }
    }
    in.p = p;
    for (; i < count; ++i) x = decoder.pop(x, out[i]);
    expect_end(x == 0);
}

template <class Slot, unsigned Bits, unsigned L>
void decode_lanes(const Model& m, Reader& in, std::int32_t* out, std::size_t count) {
    std::uint32_t state[L];
    for (unsigned j = 0; j < L; ++j) {
        state[j] = in.take(4);
        if (state[j] < kLow) throw std::domain_error("a lane state is out of range");
    }
    const Decoder<Slot, Bits> decoder(m);
    const std::size_t main = count - tail(L);
    std::size_t i = 0;
    // every symbol takes one word at most: 2 L bytes ahead make a whole round safe
    const std::uint8_t* p = in.p;
    for (; i + L <= main && static_cast<std::size_t>(in.end - p) >= 2 * L; i += L) {
        for (unsigned j = 0; j < L; ++j) {
            const std::uint32_t x = decoder.pop(state[j], out[i + j]);
            const std::uint32_t word = p[0] | (static_cast<std::uint32_t>(p[1]) << 8);
            const std::uint32_t refill = x < kLow;
            state[j] = (x << (16 * refill)) | (word & (0 - refill));
            p += 2 * refill;
        }
    }
    in.p = p;
    for (; i < main; ++i) {
        const std::uint32_t x = decoder.pop(state[i % L], out[i]);
        state[i % L] = x < kLow ? (x << 16) | in.take(2) : x;
    }
    unsigned lane = 1;
    for (unsigned j = 1; j < L; ++j) expect_end(state[j] >> 16 == 1);
    std::uint32_t x = state[0];
    for (; i < count; ++i) {
        x = decoder.pop(x, out[i]);
        if (x < kLow) x = (x << 16) | (lane < L ? state[lane++] & 0xFFFF : in.take(2));
    }
    for (; lane < L; ++lane) expect_end(state[lane] == kLow);
    expect_end(x == kLow);
}

template <class Slot, unsigned Bits>
void decode_symbols(const Model& m, Reader& in, std::int32_t* out, std::size_t count) {
    const unsigned n = lanes(m, count);
    if (n == 1) decode_single<Slot, Bits>(m, in, out, count);
    else if (n == 8) decode_lanes<Slot, Bits, 8>(m, in, out, count);
    else if (n == 16) decode_lanes<Slot, Bits, 16>(m, in, out, count);
    else decode_lanes<Slot, Bits, 32>(m, in, out, count);
    if (in.p != in.end) throw std::domain_error("a block has bytes after its last symbol");
}

inline void decode_block(const Model& m, const std::uint8_t* data, std::size_t size, std::int32_t* out,
                         std::size_t count) {
    check(m);
    Reader in{data, data + size};
    const std::uint8_t* const end = in.end;
    if (m.escape()) {
        const std::uint64_t side = take_varint(in.p, in.end);
        if (side > in.left()) throw std::domain_error("a block is shorter than its list of escaped values");
        in.end -= side;
    }
    const std::uint8_t* const side = in.end;
    if (m.bits == 14) decode_symbols<Wide, 14>(m, in, out, count);
    else if (m.size > 256) decode_symbols<Wide, 12>(m, in, out, count);
    else decode_symbols<Narrow, 12>(m, in, out, count);
    if (m.escape()) decode_escapes(side, end, out, count, m.lo, m.end(), static_cast<unsigned>(m.golomb));
}

}  // namespace noworse
