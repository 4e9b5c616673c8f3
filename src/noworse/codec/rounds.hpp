// The loops that decode whole rounds, one symbol from every lane: portable, and eight lanes per register of AVX2.
#pragma once

#include <limits>

#include "slots.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#define NOWORSE_AVX2 1
#include <immintrin.h>
#define NOWORSE_INLINE __attribute__((always_inline)) inline
#else
#define NOWORSE_INLINE inline
#endif

namespace noworse {

// Instruction sets that code may use; each gives the same bytes.
constexpr unsigned kPortable = 0, kAvx2 = 1, kAvx512 = 2, kGather = 3;  // the last where gathers are quick

// What a loop writes for a symbol: its number, its code, or the value of its code on a grid (see GridScale).
enum class Emit { kNumbers, kCodes, kValues };

struct Emission {
    Emit kind = Emit::kNumbers;
    std::int32_t lo = 0, zone = 0;  // the code of number 0; edge - 32
    float scale = 0;
    std::uint32_t escape = 0;  // the bits that the escape symbol leaves
};

constexpr std::size_t kMostRounds = 64;

// What a loop works on; it advances p and sets a bit of `escapes` for every round that may have decoded `escape`.
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
    std::uint32_t escape;
    std::uint64_t escapes;
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
    r.escapes = ~std::uint64_t{0};
    return i;
}

#ifdef NOWORSE_AVX2

// For a set of lanes (bits of the index) that take words: which bytes of the next eight words go to each byte of eight
// numbers, those in the upper half from a second copy of the words; 0x80 where it is 0.
struct RefillOrder {
    alignas(32) std::uint8_t byte[256][32];
    constexpr RefillOrder() : byte() {
        for (unsigned set = 0; set < 256; ++set)
            for (unsigned lane = 0, next = 0; lane < 8; ++lane) {
                const bool takes = set >> lane & 1;
                for (unsigned b = 0; b < 4; ++b) byte[set][4 * lane + b] = takes && b < 2 ? 2 * next + b : 0x80;
                next += takes;
            }
    }
};
inline constexpr RefillOrder kRefillOrder{};

struct Entry {
    __m256i symbol, freq, bias;
};

// Entries of eight lanes by single loads: processors that carry out a gather in microcode, or made it safe at the cost
// of its speed, take longer for one.
__attribute__((target("avx2"))) NOWORSE_INLINE __m128i two(const std::uint32_t* base, const std::uint64_t* at) {
    const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(base + at[1]));
    return _mm_unpacklo_epi32(_mm_cvtsi32_si128(static_cast<int>(base[at[0]])), second);
}
__attribute__((target("avx2"))) NOWORSE_INLINE __m128i two(const std::uint64_t* base, const std::uint64_t* at) {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + at[0])),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + at[1])));
}
__attribute__((target("avx2"))) NOWORSE_INLINE __m256i join(__m128i low, __m128i high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
// Eight numbers in general registers, two by two: a way through memory takes longer.
__attribute__((target("avx2"))) NOWORSE_INLINE void take_apart(__m256i numbers, std::uint64_t (&at)[8]) {
    const __m128i low = _mm256_castsi256_si128(numbers), high = _mm256_extracti128_si256(numbers, 1);
    const long long pairs[] = {_mm_cvtsi128_si64(low), _mm_extract_epi64(low, 1),  //
                               _mm_cvtsi128_si64(high), _mm_extract_epi64(high, 1)};
    for (unsigned j = 0; j < 4; ++j) {
        at[2 * j] = static_cast<std::uint32_t>(pairs[j]);
        at[2 * j + 1] = static_cast<std::uint64_t>(pairs[j]) >> 32;
    }
}
__attribute__((target("avx2"))) NOWORSE_INLINE __m256i gather(const std::uint32_t* base, __m256i index) {
    std::uint64_t at[8];
    take_apart(index, at);
    return join(_mm_unpacklo_epi64(two(base, at), two(base, at + 2)),
                _mm_unpacklo_epi64(two(base, at + 4), two(base, at + 6)));
}

__attribute__((target("avx2"))) NOWORSE_INLINE Entry look_up(const Narrow* slots, __m256i index) {
    const __m256i word = gather(&slots->word, index), low = _mm256_set1_epi32(0xFFF);
    return {_mm256_srli_epi32(word, 24), _mm256_and_si256(word, low), _mm256_and_si256(_mm256_srli_epi32(word, 12), low)};
}

__attribute__((target("avx2"))) NOWORSE_INLINE Entry look_up(const Wide* slots, __m256i index) {
    const std::uint64_t* const base = &slots->word;
    std::uint64_t at[8];
    take_apart(index, at);
    const __m256 a = _mm256_castsi256_ps(join(two(base, at), two(base, at + 4)));
    const __m256 b = _mm256_castsi256_ps(join(two(base, at + 2), two(base, at + 6)));
    const __m256i both = _mm256_castps_si256(_mm256_shuffle_ps(a, b, 0x88));
    return {_mm256_castps_si256(_mm256_shuffle_ps(a, b, 0xDD)), _mm256_and_si256(both, _mm256_set1_epi32(0xFFFF)),
            _mm256_srli_epi32(both, 16)};
}

// The least of the differences between sixteen numbers and K rows of as many.
template <unsigned K>
__attribute__((target("avx2"))) NOWORSE_INLINE __m256i least(const std::uint16_t (*rows)[16], __m256i from) {
    if constexpr (K == 1) return _mm256_sub_epi16(from, _mm256_load_si256(reinterpret_cast<const __m256i*>(*rows)));
    else return _mm256_min_epu16(least<K / 2>(rows, from), least<K - K / 2>(rows + K / 2, from));
}

// The states x of eight lanes after those below 2**16 have taken their words; p moves behind these.
namespace avx2 {
#define NOWORSE_TARGET "avx2,popcnt"
__attribute__((target(NOWORSE_TARGET))) inline __m256i refill(__m256i x, const std::uint8_t*& p) {
    const __m256i low = _mm256_cmpeq_epi32(_mm256_min_epu32(x, _mm256_set1_epi32(0xFFFF)), x);
    const unsigned set = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
    const __m256i next = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const auto* order = reinterpret_cast<const __m256i*>(kRefillOrder.byte[set]);
    const __m256i words = _mm256_shuffle_epi8(next, _mm256_load_si256(order));
    p += 2 * static_cast<unsigned>(__builtin_popcount(set));
    return _mm256_blendv_epi8(x, _mm256_or_si256(_mm256_slli_epi32(x, 16), words), low);
}
// The values of codes, (64 k + sign(k) zone) scale: all but the last product is exact.
__attribute__((target(NOWORSE_TARGET))) inline __m256 values(__m256i codes, __m256i zone, __m256 scale) {
    const __m256i units = _mm256_add_epi32(_mm256_slli_epi32(codes, 6), _mm256_sign_epi32(zone, codes));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(units), scale);
}
// Of sixteen numbers the eight that the low four bits of index say.
__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE __m256i pick(const __m256i (&from)[2], __m256i index) {
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));  // whose highest bit is bit 3 of the index
    return _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(_mm256_permutevar8x32_epi32(from[0], index)),
                                                _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(from[1], index)), upper));
}
#include "lookups.inc"
#include "rounds_loop.inc"
#undef NOWORSE_TARGET
}  // namespace avx2

namespace avx512 {
#define NOWORSE_TARGET "avx2,popcnt,avx512f,avx512vl"
__attribute__((target(NOWORSE_TARGET))) inline __m256i refill(__m256i x, const std::uint8_t*& p) {
    const __mmask8 low = _mm256_cmplt_epu32_mask(x, _mm256_set1_epi32(1 << 16));
    const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    p += 2 * static_cast<unsigned>(__builtin_popcount(static_cast<unsigned>(low)));
    return _mm256_or_si256(_mm256_mask_slli_epi32(x, low, x, 16), _mm256_maskz_expand_epi32(low, next));
}
// The same as 64 scale k + sign(k) zone scale, rounded once, since zone scale is exact (see GridScale::fits).
__attribute__((target(NOWORSE_TARGET))) inline __m256 values(__m256i codes, __m256i zone, __m256 scale) {
    const __m256i edge = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(zone), scale));
    const __m256i sign = _mm256_set1_epi32(std::numeric_limits<int>::min());
    const __m256i signed_edge = _mm256_ternarylogic_epi32(codes, sign, edge, 0x6A);  // (codes & sign) ^ edge
    const __mmask8 not_zero = _mm256_test_epi32_mask(codes, codes);
    return _mm256_maskz_fmadd_ps(not_zero, _mm256_cvtepi32_ps(codes), _mm256_mul_ps(scale, _mm256_set1_ps(64)),
                                 _mm256_castsi256_ps(signed_edge));
}
__attribute__((target(NOWORSE_TARGET))) NOWORSE_INLINE __m256i pick(const __m256i (&from)[2], __m256i index) {
    return _mm256_permutex2var_epi32(from[0], index, from[1]);
}
#include "lookups.inc"
#include "rounds_loop.inc"
#undef NOWORSE_TARGET
}  // namespace avx512

// The last of them that this processor has.
inline unsigned best_simd() {
    const auto has = [](bool avx512) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") &&
               (!avx512 || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")));
    };
    return has(true) ? kAvx512 : has(false) ? kAvx2 : kPortable;
}

#else

inline unsigned best_simd() { return kPortable; }

#endif

inline bool has_avx2() { return best_simd() >= kAvx2; }

}  // namespace noworse
