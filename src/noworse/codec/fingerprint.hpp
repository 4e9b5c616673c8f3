// 64 bits that tell arrays apart as fast as memory can be read: not a cryptographic hash, but every accident shows.
#pragma once

#include <cstring>
#include <numeric>

#include "stream.hpp"

namespace noworse {

constexpr std::uint64_t kWeyl = 0x9E3779B97F4A7C15u;

// What a word adds to the sum; mark is (its number + 1) kWeyl.
NOWORSE_INLINE std::uint64_t fingerprint_term(std::uint64_t w, std::uint64_t mark) {
    const std::uint64_t v = w ^ mark;
    return w + (v & 0xFFFFFFFFu) * (v >> 32);
}

// Of words begin .. end - 1 of an array that is in hand from word `from` on.
NOWORSE_INLINE std::uint64_t sum_terms(const std::uint8_t* data, std::size_t begin, std::size_t end, std::size_t from) {
    std::uint64_t sum = 0, mark = (begin + 1) * kWeyl, w;
    data += 8 * (begin - from);
    for (std::size_t i = begin; i < end; ++i, mark += kWeyl, data += 8) {
        std::memcpy(&w, data, 8);
        sum += fingerprint_term(w, mark);
    }
    return sum;
}

#ifdef NOWORSE_AVX2
__attribute__((target("avx2"))) inline std::uint64_t sum_terms_avx2(const std::uint8_t* data, std::size_t begin,
                                                                    std::size_t end, std::size_t from) {
    return sum_terms(data, begin, end, from);
}
#endif

// The part of words begin .. end - 1, the last one not filled up, of an array that is in hand from word `from` on.
inline std::uint64_t fingerprint_of(const std::uint8_t* data, std::size_t begin, std::size_t end, std::size_t from = 0) {
#ifdef NOWORSE_AVX2
    if (has_avx2()) return sum_terms_avx2(data, begin, end, from);
#endif
    return sum_terms(data, begin, end, from);
}

// The part of the bytes behind the last whole word.
inline std::uint64_t fingerprint_of_rest(const std::uint8_t* data, std::size_t size, std::size_t from = 0) {
    const std::size_t words = size / 8;
    std::uint64_t last = 0;
    for (std::size_t at = 8 * words; at < size; ++at)
        last |= static_cast<std::uint64_t>(data[at - 8 * from]) << (8 * (at % 8));
    return size % 8 ? fingerprint_term(last, (words + 1) * kWeyl) : 0;
}

// The part of bytes begin .. end - 1 of an array, in hand alone; begin is a multiple of 8, and so is any end but the last.
inline std::uint64_t fingerprint_of_part(const std::uint8_t* data, std::size_t begin, std::size_t end) {
    return fingerprint_of(data, begin / 8, end / 8, begin / 8) + fingerprint_of_rest(data, end, begin / 8);
}

// The sum, modulo 2**64, of w + low(v) high(v) with v = w xor (i + 1) kWeyl, over the little-endian words w of 8 bytes,
// numbered i from 0; the last one is filled with zeros. (The products are those of NH, Black et al. 1999.)
inline std::uint64_t fingerprint(const std::uint8_t* data, std::size_t size, unsigned threads) {
    constexpr std::size_t kWords = std::size_t{1} << 17;  // of one piece of work
    const std::size_t words = size / 8;
    std::vector<std::uint64_t> sums((words + kWords - 1) / kWords, 0);
    parallel(sums.size(), threads, [&](std::size_t piece) {
        sums[piece] = fingerprint_of(data, piece * kWords, std::min(words, (piece + 1) * kWords));
    });
    return std::accumulate(sums.begin(), sums.end(), fingerprint_of_rest(data, size));
}

}  // namespace noworse
