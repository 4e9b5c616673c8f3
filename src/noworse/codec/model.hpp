// Frequency tables as the coder uses them, and how a block is laid out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace noworse {

constexpr std::size_t kBlock = std::size_t{1} << 18;  // symbols of every block of a stream but the last
constexpr std::uint32_t kLow = 1u << 16;              // states of several lanes live in [kLow, 2**32)
constexpr std::int32_t kMaxCode = 1 << 30;            // codes lie in [-kMaxCode, kMaxCode]
constexpr int kMaxOrder = 30;                         // largest Golomb order
constexpr std::size_t kMaxTables = 16;                // of one stream

// Symbol lo + k has frequency freq[k]; with an escape its frequency is the last one.
struct Table {
    std::int32_t lo = 0;
    std::vector<std::uint16_t> freq;
    unsigned bits = 12;   // frequencies sum to 1 << bits; 0: every symbol is lo
    int golomb = -1;      // Golomb order of escaped values, -1 without escape symbol
    bool single = false;  // one lane in blocks of any length

    bool constant() const { return bits == 0; }
    bool escape() const { return golomb >= 0; }
    std::size_t ordinary() const { return freq.size() - (escape() ? 1 : 0); }
    std::int64_t end() const { return static_cast<std::int64_t>(lo) + static_cast<std::int64_t>(ordinary()); }
};

inline void check(const Table& t) {
    if (t.bits != 12 && t.bits != 14) throw std::invalid_argument("bits must be 12 or 14");
    if (t.golomb < -1 || t.golomb > kMaxOrder) throw std::invalid_argument("the Golomb order must be in -1..30");
    if (t.freq.size() < 2) throw std::invalid_argument("a model needs two symbols");
    if (t.lo < -kMaxCode || t.end() > std::int64_t{kMaxCode} + 1)
        throw std::invalid_argument("the alphabet is too far out");
    std::uint64_t sum = 0;
    for (const std::uint16_t f : t.freq) {
        if (f >= (1u << t.bits)) throw std::invalid_argument("a frequency is not below 1 << bits");
        sum += f;
    }
    if (sum != (std::uint64_t{1} << t.bits)) throw std::invalid_argument("frequencies do not sum to 1 << bits");
    if (t.escape() && t.freq.back() == 0) throw std::invalid_argument("the escape symbol has frequency zero");
}

// The tables of one stream, which agree in `bits` and `single`; which one a symbol is coded with, its class says.
struct Model {
    std::vector<Table> tables;

    unsigned bits() const { return tables[0].bits; }
    bool escape() const {
        for (const Table& t : tables)
            if (t.escape()) return true;
        return false;
    }
};

inline void check(const Model& m) {
    if (m.tables.empty() || m.tables.size() > kMaxTables) throw std::invalid_argument("a stream has 1 to 16 tables");
    for (const Table& t : m.tables) {
        check(t);
        if (t.bits != m.bits() || t.single != m.tables[0].single)
            throw std::invalid_argument("the tables of a stream differ in width");
    }
}

// Interleaved states of a block: 32 fill four SIMD registers, which hide the time that a table lookup takes.
inline unsigned lanes(const Model& m, std::size_t count) {
    if (m.tables[0].single || count < 65536) return 1;
    return count < 131072 ? 16 : 32;
}

// The last symbols of a block with several lanes: the first few alone code them, and the others start from their words.
constexpr unsigned kTailLanes = 4;
inline std::size_t tail(unsigned lanes) { return lanes == 1 ? 0 : 32 * static_cast<std::size_t>(lanes); }

// Bytes of the only state: as few as hold it, but 3 or 4 where words follow (it is at least 2**16 then).
inline unsigned state_bytes(std::uint32_t x) {
    unsigned n = 0;
    for (; x; x >>= 8) ++n;
    return n;
}

}  // namespace noworse
