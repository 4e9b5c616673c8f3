// The crc32 of zlib, eight bytes a step (Kounavis and Berry 2008), or 64 by carry-less multiplication (Gopal et al.
// 2009).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define NOWORSE_CLMUL 1
#include <immintrin.h>
#endif

namespace noworse {

using CrcTables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr CrcTables crc_tables() {
    CrcTables t{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t c = byte;
        for (int bit = 0; bit < 8; ++bit) c = c & 1 ? (c >> 1) ^ 0xEDB88320u : c >> 1;
        t[0][byte] = c;
    }
    for (std::size_t k = 1; k < 8; ++k)
        for (std::size_t byte = 0; byte < 256; ++byte) t[k][byte] = (t[k - 1][byte] >> 8) ^ t[0][t[k - 1][byte] & 255];
    return t;
}
inline constexpr CrcTables kCrcTables = crc_tables();

// The register of the division, before and after the bytes (that is, without the inversions of crc32).
inline std::uint32_t crc_bytes(std::uint32_t c, const std::uint8_t* p, const std::uint8_t* end) {
    const CrcTables& t = kCrcTables;
    for (; end - p >= 8; p += 8) {
        const std::uint32_t low = c ^ (p[0] | p[1] << 8 | p[2] << 16 | static_cast<std::uint32_t>(p[3]) << 24);
        c = t[7][low & 255] ^ t[6][low >> 8 & 255] ^ t[5][low >> 16 & 255] ^ t[4][low >> 24] ^ t[3][p[4]] ^ t[2][p[5]] ^
            t[1][p[6]] ^ t[0][p[7]];
    }
    for (; p != end; ++p) c = (c >> 8) ^ t[0][(c ^ *p) & 255];
    return c;
}

#ifdef NOWORSE_CLMUL

// a x^512 or a x^128 modulo the polynomial, added to b: the constants are those powers of x, for the halves of a.
__attribute__((target("pclmul,sse4.1"))) inline __m128i crc_fold(__m128i a, __m128i powers, __m128i b) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(a, powers, 0x00), _mm_clmulepi64_si128(a, powers, 0x11)),
                         b);
}

// At least 64 bytes; the last 0 to 63 and the 16 that all others were folded into are left to crc_bytes.
__attribute__((target("pclmul,sse4.1"))) inline std::uint32_t crc_clmul(std::uint32_t c, const std::uint8_t* p,
                                                                        const std::uint8_t* end) {
    const auto load = [](const std::uint8_t* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); };
    const __m128i by512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i x0 = _mm_xor_si128(load(p), _mm_cvtsi32_si128(static_cast<int>(c)));
    __m128i x1 = load(p + 16), x2 = load(p + 32), x3 = load(p + 48);
    for (p += 64; end - p >= 64; p += 64) {
        x0 = crc_fold(x0, by512, load(p));
        x1 = crc_fold(x1, by512, load(p + 16));
        x2 = crc_fold(x2, by512, load(p + 32));
        x3 = crc_fold(x3, by512, load(p + 48));
    }
    x0 = crc_fold(crc_fold(crc_fold(x0, by128, x1), by128, x2), by128, x3);
    std::uint8_t rest[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), x0);
    return crc_bytes(crc_bytes(0, rest, rest + 16), p, end);
}

#endif

// crc32 of what `crc` is the crc32 of (0 for nothing) followed by the bytes begin .. end.
inline std::uint32_t crc32(std::uint32_t crc, const std::uint8_t* begin, const std::uint8_t* end) {
#ifdef NOWORSE_CLMUL
    static const bool clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    if (clmul && end - begin >= 64) return ~crc_clmul(~crc, begin, end);
#endif
    return ~crc_bytes(~crc, begin, end);
}

}  // namespace noworse
