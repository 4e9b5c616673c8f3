// The loop over whole rounds where gathers are quick: sixteen lanes per register, of one block or of two in turns, so
// that one is worked on while the other waits for its lookups and products.
#pragma once

#include <chrono>

#include "rounds.hpp"

namespace noworse {

#ifdef NOWORSE_AVX2
#ifndef __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says both of its own functions for AVX-512
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
namespace gathers {
#define NOWORSE_TARGET "avx2,popcnt,avx512f,avx512vl"

struct Entry {
    __m512i symbol, freq, bias;
};

__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE Entry look_up(const Narrow* slots, __m512i index) {
    const __m512i word = _mm512_i32gather_epi32(index, &slots->word, 4), low = _mm512_set1_epi32(0xFFF);
    return {_mm512_srli_epi32(word, 24), _mm512_and_si512(word, low),
            _mm512_and_si512(_mm512_srli_epi32(word, 12), low)};
}

__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE Entry look_up(const Wide* slots, __m512i index) {
    const __m512i first = _mm512_i32gather_epi64(_mm512_castsi512_si256(index), &slots->word, 8),
                  second = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(index, 1), &slots->word, 8);
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i both = _mm512_permutex2var_epi32(first, even, second);
    return {_mm512_permutex2var_epi32(first, _mm512_or_si512(even, _mm512_set1_epi32(1)), second),
            _mm512_and_si512(both, _mm512_set1_epi32(0xFFFF)), _mm512_srli_epi32(both, 16)};
}

// Words for symbols' numbers; the values of codes as those of namespace avx512.
template <Emit Kind>
__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE __m512i emitted(__m512i number, const Emission& emission) {
    if constexpr (Kind == Emit::kNumbers) return number;
    const __m512i code = _mm512_add_epi32(number, _mm512_set1_epi32(emission.lo));
    if constexpr (Kind == Emit::kCodes) return code;
    const __m512 edge = _mm512_set1_ps(static_cast<float>(emission.zone) * emission.scale);
    const __m512i sign = _mm512_set1_epi32(std::numeric_limits<int>::min());
    const __m512i signed_edge = _mm512_ternarylogic_epi32(code, sign, _mm512_castps_si512(edge), 0x6A);
    return _mm512_castps_si512(_mm512_maskz_fmadd_ps(_mm512_test_epi32_mask(code, code), _mm512_cvtepi32_ps(code),
                                                     _mm512_set1_ps(64 * emission.scale),
                                                     _mm512_castsi512_ps(signed_edge)));
}

// The states x of sixteen lanes after those below 2**16 have taken their words; p moves behind these.
__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE __m512i refill(__m512i x, const std::uint8_t*& p) {
    const __mmask16 low = _mm512_cmplt_epu32_mask(x, _mm512_set1_epi32(1 << 16));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    p += 2 * static_cast<unsigned>(__builtin_popcount(static_cast<unsigned>(low)));
    return _mm512_or_si512(_mm512_mask_slli_epi32(x, low, x, 16), _mm512_maskz_expand_epi32(low, next));
}

template <class Slot, unsigned L, bool Classes, Emit Kind, unsigned N>
__attribute__((target(NOWORSE_TARGET))) std::size_t rounds_as(const Slot* slots, unsigned width, Rounds (&r)[N]) {
    const unsigned bits = Slot::bits(width);
    const __m128i shift = _mm_cvtsi32_si128(static_cast<int>(bits));
    const __m512i mask = _mm512_set1_epi32((1 << bits) - 1);
    __m512i state[N][L / 16];
    const std::uint8_t *p[N], *last[N], *classes[N];
    std::uint32_t* out[N];
    const char* ahead[N];
    std::uint64_t escapes[N] = {};
    for (unsigned n = 0; n < N; ++n) {
        p[n] = r[n].p;
        last[n] = r[n].end - 2 * L;
        classes[n] = r[n].classes;
        out[n] = r[n].out;
        ahead[n] = r[n].ahead;
        for (unsigned v = 0; v < L / 16; ++v) state[n][v] = _mm512_loadu_si512(r[n].state + 16 * v);
    }
    const std::size_t count = r[0].count, line = r[0].width * 16;  // of 16 symbols
    const Emission emission = r[0].emission;
    const __m512i escape = _mm512_set1_epi32(static_cast<int>(r[0].escape));
    std::size_t i = 0;
    for (; i < count && p[0] <= last[0] && p[N - 1] <= last[N - 1]; i += L) {
#pragma GCC unroll 2
        for (unsigned n = 0; n < N; ++n) {
            __m512i greatest = _mm512_setzero_si512();
#pragma GCC unroll 2
            for (unsigned v = 0; v < L / 16; ++v) {
                const __m512i x = state[n][v];
                __m512i index = _mm512_and_si512(x, mask);
                if (Classes) {
                    const auto* at = reinterpret_cast<const __m128i*>(classes[n] + i + 16 * v);
                    index = _mm512_or_si512(index, _mm512_sll_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(at)), shift));
                }
                const Entry entry = look_up(slots, index);
                greatest = _mm512_max_epu32(greatest, entry.symbol);
                _mm512_storeu_si512(out[n] + i + 16 * v, emitted<Kind>(entry.symbol, emission));
                __builtin_prefetch(ahead[n] + (i / 16 + v) * line, 1);
                const __m512i product = _mm512_mullo_epi32(_mm512_srl_epi32(x, shift), entry.freq);
                state[n][v] = refill(_mm512_add_epi32(product, entry.bias), p[n]);
            }
            escapes[n] |= std::uint64_t{_mm512_cmpeq_epi32_mask(greatest, escape) != 0} << (i / L);
        }
    }
    for (unsigned n = 0; n < N; ++n) {
        for (unsigned v = 0; v < L / 16; ++v) _mm512_storeu_si512(r[n].state + 16 * v, state[n][v]);
        r[n].p = p[n];
        r[n].escapes = escapes[n];
    }
    return i;
}

// Whole rounds of N blocks of one stream, all as long as every lane of each can take a word.
template <class Slot, unsigned L, bool Classes, unsigned N>
std::size_t rounds(const Slot* slots, unsigned width, Rounds (&r)[N]) {
    switch (r[0].emission.kind) {
        case Emit::kCodes: return rounds_as<Slot, L, Classes, Emit::kCodes>(slots, width, r);
        case Emit::kValues: return rounds_as<Slot, L, Classes, Emit::kValues>(slots, width, r);
        default: return rounds_as<Slot, L, Classes, Emit::kNumbers>(slots, width, r);
    }
}

template <bool Gather>
__attribute__((target(NOWORSE_TARGET))) std::uint32_t lookups(const std::uint32_t* from) {
    __m512i index = _mm512_set1_epi32(static_cast<int>(from[0])), sum = _mm512_setzero_si512();
    for (int i = 0; i < 256; ++i) {
        index = _mm512_and_si512(_mm512_add_epi32(index, _mm512_set1_epi32(997)), _mm512_set1_epi32(0xFFF));
        const __m256i low = _mm512_castsi512_si256(index), high = _mm512_extracti64x4_epi64(index, 1);
        if constexpr (Gather) sum = _mm512_add_epi32(sum, _mm512_i32gather_epi32(index, from, 4));
        else
            sum = _mm512_add_epi32(
                sum, _mm512_inserti64x4(_mm512_castsi256_si512(gather(from, low)), gather(from, high), 1));
    }
    return static_cast<std::uint32_t>(_mm512_reduce_add_epi32(sum));
}
#undef NOWORSE_TARGET

// Whether a gather takes less time than single loads: processors differ, and so does what makes them safe. Measured once.
inline bool are_quick() {
    static const bool quick = [] {
        using Clock = std::chrono::steady_clock;
        const std::vector<std::uint32_t> zeros((1 << 12) + kBeyond, 0);
        volatile std::uint32_t result;
        Clock::duration best[2] = {Clock::duration::max(), Clock::duration::max()};
        for (int turn = 0; turn < 16; ++turn) {
            const auto begin = Clock::now();
            result = turn % 2 ? lookups<true>(zeros.data()) : lookups<false>(zeros.data());
            best[turn % 2] = std::min(best[turn % 2], Clock::now() - begin);
        }
        static_cast<void>(result);
        return best[1] < best[0];
    }();
    return quick;
}
}  // namespace gathers
#ifndef __clang__
#pragma GCC diagnostic pop
#endif
#endif

}  // namespace noworse
