// Values outside the alphabet: exponential Golomb codes of their distance, in the order of their positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "model.hpp"

namespace noworse {

inline void put_varint(std::vector<std::uint8_t>& out, std::uint64_t v) {
    for (; v >= 128; v >>= 7) out.push_back(static_cast<std::uint8_t>(v | 128));
    out.push_back(static_cast<std::uint8_t>(v));
}

inline std::uint64_t take_varint(const std::uint8_t*& p, const std::uint8_t* end) {
    std::uint64_t v = 0;
    for (unsigned shift = 0; shift <= 28 && p != end; shift += 7) {
        const std::uint8_t byte = *p++;
        v |= static_cast<std::uint64_t>(byte & 127) << shift;
        if (byte < 128) return v;
    }
    throw std::domain_error("a block has no valid length of its list of escaped values");
}

// Bits fill bytes from the least significant one.
struct BitWriter {
    std::vector<std::uint8_t> bytes;
    std::uint64_t bits = 0;

    void put(std::uint64_t value, unsigned n) {
        for (unsigned b = 0; b < n; ++b, ++bits) {
            if (bits % 8 == 0) bytes.push_back(0);
            bytes.back() |= static_cast<std::uint8_t>(((value >> b) & 1) << (bits % 8));
        }
    }
};

struct BitReader {
    const std::uint8_t* data;
    std::uint64_t size;  // in bits
    std::uint64_t at = 0;

    std::uint64_t take(unsigned n) {
        if (n > size - at) throw std::domain_error("the list of escaped values ends early");
        std::uint64_t value = 0;
        for (unsigned b = 0; b < n; ++b, ++at) value |= static_cast<std::uint64_t>((data[at / 8] >> (at % 8)) & 1) << b;
        return value;
    }

    void finish() {
        if (size - at >= 8 || take(static_cast<unsigned>(size - at)) != 0)
            throw std::domain_error("bytes are left after the last escaped value");
    }
};

// u = 2 (v - end) above the alphabet [lo, end), 2 (lo - 1 - v) + 1 below it; m = (u >> order) + 1 has n + 1 bits and is
// written as n zeros, a one, the n low bits of m; then the `order` low bits of u.
inline void put_escape(BitWriter& out, std::int64_t v, std::int64_t lo, std::int64_t end, unsigned order) {
    const std::uint64_t u = static_cast<std::uint64_t>(v >= end ? 2 * (v - end) : 2 * (lo - 1 - v) + 1);
    const std::uint64_t m = (u >> order) + 1;
    unsigned n = 0;
    while (m >> (n + 1)) ++n;
    out.put(0, n);
    out.put(1, 1);
    out.put(m, n);
    out.put(u, order);
}

inline std::int32_t take_escape(BitReader& in, std::int64_t lo, std::int64_t end, unsigned order) {
    constexpr const char* kTooLarge = "an escaped value is too large";
    unsigned n = 0;
    while (in.take(1) == 0)
        if (++n > 32) throw std::domain_error(kTooLarge);
    const std::uint64_t m = (std::uint64_t{1} << n) | in.take(n);
    const std::uint64_t u = ((m - 1) << order) | in.take(order);
    if (m > (std::uint64_t{1} << 33) || u > (std::uint64_t{1} << 33)) throw std::domain_error(kTooLarge);
    const std::int64_t half = static_cast<std::int64_t>(u >> 1);
    const std::int64_t v = u & 1 ? lo - 1 - half : end + half;
    if (v < -kMaxCode || v > kMaxCode) throw std::domain_error(kTooLarge);
    return static_cast<std::int32_t>(v);
}

}  // namespace noworse
