// What a code may resemble: its neighbours, and what has been seen of its row, column, channel and kernel.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace noworse::context {

// How a tensor is looked at: rows of columns, which are channels of taps; width is the length of a line of taps.
struct Geometry {
    std::size_t rows, columns, taps, width;
    std::size_t kind() const { return taps > 1 ? 2 : rows > 1 ? 1 : 0; }
};

inline int highest_bit(std::uint64_t v) {
#if defined(__GNUC__)
    return 63 - __builtin_clzll(v);
#else
    int e = 0;
    for (int s = 32; s > 0; s >>= 1)
        if (v >> (e + s)) e += s;
    return e;
#endif
}

// 64 log2(v) for v >= 1, linear between powers of two.
inline int log64(std::uint64_t v) {
    const int e = highest_bit(v);
    return 64 * e + static_cast<int>((e > 6 ? v >> (e - 6) : v << (6 - e)) & 63);
}

inline std::uint32_t level(int x, int step, int most) {
    return static_cast<std::uint32_t>(x < 0 ? 0 : std::min(x / step, most));
}

inline std::int32_t within(std::int64_t x, std::int32_t most) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(x, -most, most));
}

inline std::uint32_t size_of(std::int32_t code) {
    return static_cast<std::uint32_t>(std::min<std::int64_t>(std::abs(std::int64_t{code}), 65535));
}

// Sum of magnitudes that stops at its maximum.
inline void add(std::uint32_t& sum, std::uint32_t size) { sum += std::min(size, 0xFFFFFFFFu - sum); }

// Codes near the one to be coded that are known already; 0 beyond the edge of the tensor or of the kernel.
struct Neighbours {
    std::int32_t left, left2, up, up2, up3;                    // up: same place in the rows before
    std::int32_t above = 0, above2 = 0, corner = 0, right = 0;  // in the lines of the kernel before
    std::int32_t before = 0;                                    // same tap of the channel before

    Neighbours(const std::int32_t* code, const Geometry& g, std::size_t row, std::size_t column, std::size_t tap) {
        const bool kernel = g.taps > 1;
        const std::size_t at = kernel ? tap : column, c = g.columns, w = g.width;
        left = at >= 1 ? code[-1] : 0;
        left2 = at >= 2 ? code[-2] : 0;
        up = row >= 1 ? *(code - c) : 0;
        up2 = row >= 2 ? *(code - 2 * c) : 0;
        up3 = row >= 3 ? *(code - 3 * c) : 0;
        if (!kernel) return;
        before = column >= g.taps ? *(code - g.taps) : 0;
        if (tap < w) return;
        above = *(code - w);
        above2 = tap >= 2 * w ? *(code - 2 * w) : 0;
        corner = tap % w >= 1 ? *(code - w - 1) : 0;
        right = tap % w + 1 < w ? *(code - w + 1) : 0;
    }
};

// What has been seen of a tensor: sums of magnitudes and of signs.
struct Sums {
    std::uint64_t total = 0, count = 0, row = 0;
    std::vector<std::uint32_t> channel, column, tap;
    std::vector<std::int8_t> column_signs;
    std::int32_t row_signs = 0, kernel = 0;
    std::uint32_t kernel_size = 0;

    explicit Sums(const Geometry& g)
        : channel(g.columns / g.taps), column(g.columns), tap(g.taps), column_signs(g.columns) {}

    void add(std::int32_t code, std::size_t c, std::size_t i, std::size_t t) {
        const std::uint32_t size = size_of(code);
        const int sign = (code > 0) - (code < 0);
        total += size;
        ++count;
        row += size;
        context::add(channel[i], size);
        context::add(column[c], size);
        context::add(tap[t], size);
        column_signs[c] = static_cast<std::int8_t>(within(column_signs[c] + sign, 64));
        row_signs = within(row_signs + sign, 64);
        kernel = within(std::int64_t{kernel} + code, 64);
        kernel_size = std::min(kernel_size + size, 64u);
    }
};

}  // namespace noworse::context
