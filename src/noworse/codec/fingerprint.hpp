// 64 bits that tell arrays apart as fast as memory can be read: not a cryptographic hash, but every accident shows.
#pragma once

#include <cstring>

#include "stream.hpp"

namespace noworse {

constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15u;

// What word i adds to the sum.
NOWORSE_INLINE std::uint64_t fingerprint_term(std::uint64_t w, std::uint64_t i) {
    const std::uint64_t v = w ^ (i + 1) * kWeyl;
    return w + (v & 0xFFFFFFFFu) * (v >> 32);
}

NOWORSE_INLINE std::uint64_t sum_terms(const std::uint8_t* data, std::size_t begin, std::size_t end) {
    std::uint64_t sum = 0, w;
    for (std::size_t i = begin; i < end; ++i) {
        std::memcpy(&w, data + 8 * i, 8);
        sum += fingerprint_term(w, i);
    }
    return sum;
}

#ifdef NOWORSE_AVX2
__attribute__((target("avx2"))) inline std::uint64_t sum_terms_avx2(const std::uint8_t* data, std::size_t begin, std::size_t end) {
    return sum_terms(data, begin, end);
}
#endif

// The sum, modulo 2**64, of w + low(v) high(v) with v = w xor (i + 1) kWeyl, over the little-endian words w of 8 bytes,
// numbered i from 0; the last one is filled with zeros. (The products are those of NH, Black et al. 1999.)
inline std::uint64_t fingerprint(const std::uint8_t* data, std::size_t size, unsigned threads) {
    constexpr std::size_t kWords = std::size_t{1} << 17;  // of one piece of work
    const std::size_t words = size / 8, rest = size % 8;
    std::vector<std::uint64_t> sums((words + kWords - 1) / kWords, 0);
    parallel(sums.size(), threads, [&](std::size_t piece) {
        const std::size_t begin = piece * kWords, end = std::min(words, begin + kWords);
#ifdef NOWORSE_AVX2
        sums[piece] = has_avx2() ? sum_terms_avx2(data, begin, end) : sum_terms(data, begin, end);
#else
        sums[piece] = sum_terms(data, begin, end);
#endif
    });
    std::uint64_t last = 0, total = 0;
    for (std::size_t b = 0; b < rest; ++b) last |= static_cast<std::uint64_t>(data[8 * words + b]) << (8 * b);
    for (const std::uint64_t sum : sums) total += sum;
    return rest > 0 ? total + fingerprint_term(last, words) : total;
}

}  // namespace noworse
