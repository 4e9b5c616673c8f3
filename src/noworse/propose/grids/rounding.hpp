// Weights to values on dead-zone grids, counted in cells on the way; and the gradient at values to that of weights, steps
// and zones. What is computed, and to the last bit how, is GridSet's torch code (grid.py); only sums differ in order.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "../../codec/clones.hpp"
#include "../../rate/entropy.hpp"

namespace noworse::grids {

constexpr std::size_t kBlock = 512;  // weights whose intermediate results stay in the first cache; a multiple of kLanes

// A grid as the loops see it: a weight has w/s = latent · ratio, its zero bin ends at r steps.
struct Scale {
    float ratio, step, r;
};

// Largest |x| of n numbers as its bits, which order as the numbers do; a NaN counts as larger than infinity.
struct Reach {
    const float* x;
    std::size_t n;
    std::int32_t* found;
    NOWORSE_INLINE void operator()() const {
        const float* const from = x;
        const std::size_t count = n;
        std::int32_t most = 0;
        for (std::size_t i = 0; i < count; ++i) {
            std::int32_t bits;
            std::memcpy(&bits, from + i, sizeof bits);
            most = std::max(most, bits & 0x7fffffff);
        }
        *found = most;
    }
};

// floor(x) for |x| < 2**31.
NOWORSE_INLINE std::int32_t floor_of(float x) {
    const auto cut = static_cast<std::int32_t>(x);
    return cut - (static_cast<float>(cut) > x);
}

// Magnitude on the grid of the excess |w|/s − r in cells.
NOWORSE_INLINE std::int32_t magnitude(std::int32_t cell, int shift) { return std::max((cell >> shift) + 1, 0); }

NOWORSE_INLINE float value(std::int32_t q, float half, float step) {
    return (q > 0 ? static_cast<float>(q) + half : 0.0f) * step;
}

// Writes ŵ of n latents to `out`, and counts them. |w|/s of all must be below 2**20, and their cells exist.
struct Round {
    const float* latent;
    float* out;
    std::size_t n;
    Scale scale;
    Cells cells;
    std::uint32_t* counts;
    NOWORSE_INLINE void operator()() const {
        const float ratio = scale.ratio, step = scale.step, r = scale.r, half = scale.r - 0.5f;
        const int shift = cells.shift;
        const auto fine = static_cast<float>(1 << shift);
        const std::int32_t zero = cells.zero, width = cells.width;
        std::uint32_t* const found = counts;
        std::int32_t place[kBlock];
        for (std::size_t begin = 0; begin < n; begin += kBlock) {
            const float* __restrict x = latent + begin;
            float* __restrict y = out + begin;
            const std::size_t count = std::min(kBlock, n - begin);
            for (std::size_t i = 0; i < count; ++i) {
                const float scaled = x[i] * ratio;
                const std::int32_t cell = floor_of((std::fabs(scaled) - r) * fine);
                y[i] = std::copysign(value(magnitude(cell, shift), half, step), scaled);
                place[i] = cell + zero + (scaled < 0 ? width : 0);
            }
            for (std::size_t i = 0; i < count; ++i) ++found[place[i]];
        }
    }
};

// Turns the gradient at values into that of latents, in place; adds up g · (ŵ − w), of all weights and of those at zero.
struct Descend {
    const float* latent;
    float* gradient;
    std::size_t n;
    Scale scale;  // of the values
    float unit;   // of the latents
    std::array<double, 2>* sums;
    NOWORSE_INLINE void operator()() const {
        const float ratio = scale.ratio, step = scale.step, r = scale.r, half = scale.r - 0.5f, one = unit;
        float error[kBlock], at_zero[kBlock];
        double all[kLanes] = {}, zeros[kLanes] = {};
        for (std::size_t begin = 0; begin < n; begin += kBlock) {
            const float* __restrict x = latent + begin;
            float* __restrict g = gradient + begin;
            const std::size_t count = std::min(kBlock, n - begin);
            for (std::size_t i = 0; i < count; ++i) {
                const float scaled = x[i] * ratio;
                const std::int32_t q = magnitude(floor_of(std::fabs(scaled) - r), 0);
                const float rounded = std::copysign(value(q, half, step), scaled);
                const float moved = (rounded - x[i] * one) * g[i];
                g[i] *= one;
                error[i] = moved;
                at_zero[i] = q > 0 ? 0.0f : moved;
            }
            for (std::size_t i = count; i % kLanes; ++i) error[i] = at_zero[i] = 0;
            for (std::size_t i = 0; i < count; i += kLanes)
                for (std::size_t l = 0; l < kLanes; ++l) {
                    all[l] += static_cast<double>(error[i + l]);
                    zeros[l] += static_cast<double>(at_zero[i + l]);
                }
        }
        *sums = {};
        for (std::size_t l = 0; l < kLanes; ++l) (*sums)[0] += all[l], (*sums)[1] += zeros[l];
    }
};

}  // namespace noworse::grids
