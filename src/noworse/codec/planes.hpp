// Byte planes of fixed-width elements: plane p holds byte p of every element, the lowest byte being 0.
// Rotated elements are turned left by one bit first, which gives the exponent of a float a plane of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "clones.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "noworse copies elements as little-endian bytes: it needs a little-endian machine"
#endif

namespace noworse {

template <class Word>
inline Word rotate_left(Word x) {
    return static_cast<Word>((x << 1) | (x >> (8 * sizeof(Word) - 1)));
}

template <class Word>
inline Word rotate_right(Word x) {
    return static_cast<Word>((x >> 1) | (x << (8 * sizeof(Word) - 1)));
}

// The loops are plain so that compilers turn them into shifts and packs of whole registers.
template <class Word, bool Rotate>
NOWORSE_INLINE void take_plane(const std::uint8_t* data, std::size_t count, unsigned plane, std::uint8_t* out) {
    for (std::size_t i = 0; i < count; ++i) {
        Word x;
        std::memcpy(&x, data + i * sizeof(Word), sizeof(Word));
        if (Rotate) x = rotate_left(x);
        out[i] = static_cast<std::uint8_t>(x >> (8 * plane));
    }
}

inline void check_width(std::size_t width) {
    if (width != 2 && width != 4 && width != 8) throw std::invalid_argument("elements of 2, 4 or 8 bytes have planes");
}

inline void check_plane(std::size_t bytes, std::size_t width, std::size_t plane, std::size_t elements) {
    check_width(width);
    if (plane >= width) throw std::invalid_argument("there is no such plane");
    if (bytes / width != elements || bytes % width) throw std::invalid_argument("sizes do not fit");
}

// One byte of each of some elements, of 2, 4 or 8 bytes.
inline void take_bytes(const std::uint8_t* data, std::size_t count, unsigned width, unsigned plane, bool rotate,
                       std::uint8_t* out) {
    const auto take = [&](auto word) {
        using Word = decltype(word);
        if (rotate) take_plane<Word, true>(data, count, plane, out);
        else take_plane<Word, false>(data, count, plane, out);
    };
    if (width == 2) take(std::uint16_t{});
    else if (width == 4) take(std::uint32_t{});
    else take(std::uint64_t{});
}

template <class Word, bool Rotate>
NOWORSE_INLINE void put_planes(const std::uint8_t* const* planes, std::size_t count, std::uint8_t* data) {
    const std::uint8_t* p[sizeof(Word)];
    for (std::size_t b = 0; b < sizeof(Word); ++b) p[b] = planes[b];
    for (std::size_t i = 0; i < count; ++i) {
        Word x = 0;
        for (std::size_t b = 0; b < sizeof(Word); ++b) x = static_cast<Word>(x | static_cast<Word>(p[b][i]) << (8 * b));
        if (Rotate) x = rotate_right(x);
        std::memcpy(data + i * sizeof(Word), &x, sizeof(Word));
    }
}

template <class Word, bool Rotate>
struct PutPlanes {
    const std::uint8_t* const* planes;
    std::size_t count;
    std::uint8_t* data;
    NOWORSE_INLINE void operator()() const { put_planes<Word, Rotate>(planes, count, data); }
};

// The elements of 2, 4 or 8 planes.
inline void join_planes(const std::uint8_t* const* planes, std::size_t count, std::size_t width, bool rotate,
                        std::uint8_t* data, unsigned simd = kAvx512) {
    const auto join = [&](auto word) {
        using Word = decltype(word);
        if (rotate) run_cloned(PutPlanes<Word, true>{planes, count, data}, simd);
        else run_cloned(PutPlanes<Word, false>{planes, count, data}, simd);
    };
    if (width == 2) join(std::uint16_t{});
    else if (width == 4) join(std::uint32_t{});
    else join(std::uint64_t{});
}

}  // namespace noworse
