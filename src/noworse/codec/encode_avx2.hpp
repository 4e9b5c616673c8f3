// Eight-lane pieces of the encoder: loading codes, exact division, and where the words of full lanes go.
#pragma once

#include "rounds.hpp"

#ifdef NOWORSE_AVX2

namespace noworse {

// For a set of lanes that spill words: the lanes in order at the end of the eight, since words are written backwards.
struct SpillOrder {
    std::uint8_t lane[256][8];
    constexpr SpillOrder() : lane() {
        for (unsigned set = 0; set < 256; ++set)
            for (unsigned l = 8, at = 8; l-- > 0;)
                if (set >> l & 1) lane[set][--at] = static_cast<std::uint8_t>(l);
    }
};
inline constexpr SpillOrder kSpillOrder{};

__attribute__((target("avx2"))) inline unsigned lanes_of(__m256i signs) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(signs)));
}

__attribute__((target("avx2"))) inline __m256i splat(std::uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }

__attribute__((target("avx2"))) inline __m256i load_codes(const std::int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
__attribute__((target("avx2"))) inline __m256i load_codes(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
__attribute__((target("avx2"))) inline __m256i load_codes(const std::int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

// floor(x / f) of four unsigned x and f < 2**15, where it is below 2**20: a quotient that is no integer lies at least
// 1 / f below the next one, which is far more than the rounding of a float64.
__attribute__((target("avx2"))) inline __m128i divide(__m128i x, __m128i f) {
    const __m256i two52 = _mm256_set1_epi64x(0x4330000000000000);
    const __m256d exact = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(_mm256_cvtepu32_epi64(x), two52)),
                                        _mm256_castsi256_pd(two52));
    return _mm256_cvttpd_epi32(_mm256_div_pd(exact, _mm256_cvtepi32_pd(f)));
}
__attribute__((target("avx2"))) inline __m256i divide(__m256i x, __m256i f) {
    const __m128i low = divide(_mm256_castsi256_si128(x), _mm256_castsi256_si128(f));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                   divide(_mm256_extracti128_si256(x, 1), _mm256_extracti128_si256(f, 1)), 1);
}

}  // namespace noworse

#endif
