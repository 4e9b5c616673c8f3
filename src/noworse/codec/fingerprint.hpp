// 64 bits that tell arrays apart as fast as memory can be read: not a cryptographic hash, but every accident shows.
#pragma once

#include <cstring>

#include "stream.hpp"

namespace noworse {

constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15u;

// The sum, modulo 2**64, of w + low(v) high(v) with v = w xor (i + 1) kWeyl, over the little-endian words w of 8 bytes,
// numbered i from 0; the last one is filled with zeros. (The products are those of NH, Black et al. 1999.)
inline std::uint64_t fingerprint(const std::uint8_t* data, std::size_t size, unsigned threads) {
    constexpr std::size_t kWords = std::size_t{1} << 17;  // of one piece of work
    const std::size_t words = size / 8, rest = size % 8;
    std::vector<std::uint64_t> sums(words / kWords + 1, 0);
    const auto term = [](std::uint64_t w, std::uint64_t i) {
        const std::uint64_t v = w ^ (i + 1) * kWeyl;
        return w + (v & 0xFFFFFFFFu) * (v >> 32);
    };
    parallel(sums.size(), words < kWords ? 1 : threads, [&](std::size_t piece) {
        std::uint64_t sum = 0, w;
        for (std::size_t i = piece * kWords; i < std::min(words, (piece + 1) * kWords); ++i) {
            std::memcpy(&w, data + 8 * i, 8);
            sum += term(w, i);
        }
        sums[piece] = sum;
    });
    std::uint64_t last = 0, total = 0;
    for (std::size_t b = 0; b < rest; ++b) last |= static_cast<std::uint64_t>(data[8 * words + b]) << (8 * b);
    for (const std::uint64_t sum : sums) total += sum;
    return rest > 0 ? total + term(last, words) : total;
}

}  // namespace noworse
