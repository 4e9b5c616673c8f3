// The loops that decode whole rounds, one symbol from every lane: portable, and eight lanes per AVX2 register.
#pragma once

#include "slots.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define NOWORSE_AVX2 1
#include <immintrin.h>
#define NOWORSE_INLINE __attribute__((always_inline)) inline
#else
#define NOWORSE_INLINE inline
#endif

namespace noworse {

// What a loop writes for a symbol: its number, its code, or the value of its code on a grid (see GridScale).
enum class Emit { kNumbers, kCodes, kValues };

struct Emission {
    Emit kind = Emit::kNumbers;
    std::int32_t lo = 0, zone = 0;  // the code of number 0; edge - 32
    float scale = 0;
    std::uint32_t escape = 0;  // the bits that the escape symbol leaves
};

// What a loop works on; it advances p.
struct Rounds {
    std::uint32_t* state;
    const std::uint8_t* p;
    const std::uint8_t* end;
    const std::uint8_t* classes;  // nullptr where all symbols have the first table
    std::uint32_t* out;
    std::size_t count;  // symbols, a multiple of the number of lanes
    const char* ahead;  // where what follows these symbols will be written, `width` bytes each: cache lines to fetch
    std::size_t width;
    Emission emission;
};

// Decodes as long as every lane can take a word (2 L bytes are ahead) and returns the number of symbols.
template <class Slot, unsigned L, bool Classes>
std::size_t rounds(const Slot* slots, unsigned width, Rounds& r) {
    const unsigned bits = Slot::bits(width);
    const std::uint32_t mask = (1u << bits) - 1;
    std::uint32_t state[L];
    std::copy_n(r.state, L, state);
    const std::uint8_t *p = r.p, *const end = r.end, *const classes = r.classes;
    std::uint32_t* const out = r.out;
    std::size_t i = 0;
    for (; i < r.count && static_cast<std::size_t>(end - p) >= 2 * L; i += L) {
        for (unsigned j = 0; j < L; ++j) {
            const Slot slot = slots[(state[j] & mask) | (Classes ? std::uint32_t{classes[i + j]} << bits : 0)];
            out[i + j] = slot.symbol();
            const std::uint32_t x = slot.freq() * (state[j] >> bits) + slot.bias();
            const std::uint32_t word = p[0] | (static_cast<std::uint32_t>(p[1]) << 8);
            const std::uint32_t refill = x < kLow;
            state[j] = (x << (16 * refill)) | (word & (0 - refill));
            p += 2 * refill;
        }
    }
    std::copy_n(state, L, r.state);
    r.p = p;
    return i;
}

#ifdef NOWORSE_AVX2

// For a set of lanes (bits of the index) that take words: which of the next eight words each lane takes.
struct RefillOrder {
    std::uint8_t word[256][8];
    constexpr RefillOrder() : word() {
        for (unsigned set = 0; set < 256; ++set)
            for (unsigned lane = 0, next = 0; lane < 8; ++lane) word[set][lane] = set >> lane & 1 ? next++ : 0;
    }
};
inline constexpr RefillOrder kRefillOrder{};

struct Entry {
    __m256i symbol, freq, bias;
};

// With a source of zeros: an undefined one would make each gather wait for whatever used its register before.
template <int Scale>
__attribute__((target("avx2"))) inline __m256i gather(const int* base, __m256i index) {
    __m256i all = _mm256_set1_epi32(-1);
    asm("" : "+x"(all));  // or the compiler, seeing that nothing of the source remains, leaves it undefined
    return _mm256_mask_i32gather_epi32(_mm256_setzero_si256(), base, index, all, Scale);
}

__attribute__((target("avx2"))) inline Entry look_up(const Narrow* slots, __m256i index) {
    const __m256i word = gather<4>(reinterpret_cast<const int*>(slots), index);
    const __m256i low = _mm256_set1_epi32(0xFFF);
    return {_mm256_srli_epi32(word, 24), _mm256_add_epi32(_mm256_and_si256(word, low), _mm256_set1_epi32(1)),
            _mm256_and_si256(_mm256_srli_epi32(word, 12), low)};
}

__attribute__((target("avx2"))) inline Entry look_up(const Wide* slots, __m256i index) {
    const int* base = reinterpret_cast<const int*>(slots);
    const __m256i both = gather<8>(base, index);
    return {gather<8>(base + 1, index), _mm256_and_si256(both, _mm256_set1_epi32(0xFFFF)), _mm256_srli_epi32(both, 16)};
}

template <class Slot, unsigned L, bool Classes, Emit Kind>
__attribute__((target("avx2,popcnt"))) std::size_t rounds_avx2_as(const Slot* slots, unsigned width, Rounds& r) {
    const int bits = static_cast<int>(Slot::bits(width));
    const __m128i shift = _mm_cvtsi32_si128(bits);
    const __m256i mask = _mm256_set1_epi32((1 << bits) - 1), zero = _mm256_setzero_si256();
    __m256i state[L / 8];
    for (unsigned v = 0; v < L / 8; ++v)
        state[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.state + 8 * v));
    const std::uint8_t *p = r.p, *const end = r.end, *const classes = r.classes;
    std::uint32_t* const out = r.out;
    const __m256i lo = _mm256_set1_epi32(r.emission.lo), zone = _mm256_set1_epi32(r.emission.zone);
    const __m256 scale = _mm256_set1_ps(r.emission.scale);
    std::size_t i = 0;
    for (; i < r.count && static_cast<std::size_t>(end - p) >= 2 * L; i += L) {
        for (unsigned v = 0; v < L / 8; ++v) {
            __m256i index = _mm256_and_si256(state[v], mask);
            if (Classes) {
                const auto* at = reinterpret_cast<const __m128i*>(classes + i + 8 * v);
                index = _mm256_or_si256(index, _mm256_sll_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at)), shift));
            }
            const Entry entry = look_up(slots, index);
            if (v % 2 == 0) __builtin_prefetch(r.ahead + i * r.width + 32 * v, 1);
            __m256i made = entry.symbol;
            if (Kind != Emit::kNumbers) made = _mm256_add_epi32(made, lo);
            if (Kind == Emit::kValues) {
                const __m256i units = _mm256_add_epi32(_mm256_slli_epi32(made, 6), _mm256_sign_epi32(zone, made));
                made = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(units), scale));
            }
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i + 8 * v), made);
            const __m256i rest = _mm256_srl_epi32(state[v], shift);
            const __m256i x = _mm256_add_epi32(_mm256_mullo_epi32(rest, entry.freq), entry.bias);
            const __m256i refill = _mm256_cmpeq_epi32(_mm256_srli_epi32(x, 16), zero);
            const unsigned set = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(refill)));
            const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
            const auto* order = reinterpret_cast<const __m128i*>(kRefillOrder.word[set]);
            const __m256i words = _mm256_permutevar8x32_epi32(next, _mm256_cvtepu8_epi32(_mm_loadl_epi64(order)));
            state[v] = _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), refill);
            p += 2 * static_cast<unsigned>(__builtin_popcount(set));
        }
    }
    for (unsigned v = 0; v < L / 8; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(r.state + 8 * v), state[v]);
    r.p = p;
    return i;
}

template <class Slot, unsigned L, bool Classes>
std::size_t rounds_avx2(const Slot* slots, unsigned width, Rounds& r) {
    switch (r.emission.kind) {
        case Emit::kCodes: return rounds_avx2_as<Slot, L, Classes, Emit::kCodes>(slots, width, r);
        case Emit::kValues: return rounds_avx2_as<Slot, L, Classes, Emit::kValues>(slots, width, r);
        default: return rounds_avx2_as<Slot, L, Classes, Emit::kNumbers>(slots, width, r);
    }
}

inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }

#else

inline bool has_avx2() { return false; }

#endif

}  // namespace noworse
