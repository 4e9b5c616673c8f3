// Adam on large leaves: see adam.py, whose formulas these are, in its order; all in float32, nothing fused.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "../codec/clones.hpp"
#include "../codec/crew.hpp"

namespace noworse::adam {

constexpr std::size_t kTogether = 8;  // neighbours that have one second moment

struct Rule {
    float first_new, second_kept;         // 1 − β₁, β₂
    float second_new, eps, root, step;  // 1 − β₂, ε, √(1 − β₂ᵗ), −lr / (1 − β₁ᵗ)
};

NOWORSE_INLINE float wide(std::uint16_t half) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The nearest bfloat16, ties to even.
NOWORSE_INLINE std::uint16_t narrow(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const std::uint32_t near = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : near);
}

// Moves n weights; `second` has one number for every kTogether of them, the last ones may be fewer.
struct Step {
    float* weights;
    const float* gradient;
    std::uint16_t* first;
    float* second;
    std::size_t n;
    Rule rule;
    NOWORSE_INLINE void operator()() const {
        constexpr std::size_t kBlock = 512;
        const Rule by = rule;
        float own[kBlock];
        for (std::size_t begin = 0; begin < n; begin += kBlock) {
            const std::size_t count = std::min(kBlock, n - begin);
            const std::size_t groups = (count + kTogether - 1) / kTogether;
            float* __restrict w = weights + begin;
            const float* __restrict g = gradient + begin;
            std::uint16_t* __restrict m = first + begin;
            float* const shared = second + begin / kTogether;
            for (std::size_t j = 0; j < groups; ++j)
                for (std::size_t l = 0; l < kTogether; ++l) own[j * kTogether + l] = shared[j];
            for (std::size_t i = 0; i < count; ++i) {
                const float before = wide(m[i]);
                const float mean = before + (g[i] - before) * by.first_new;
                const float square = own[i] * by.second_kept + by.second_new * g[i] * g[i];
                own[i] = square;
                m[i] = narrow(mean);
                w[i] += by.step * mean / (std::sqrt(square) / by.root + by.eps);
            }
            for (std::size_t j = 0; j < groups; ++j) {
                const float* const v = own + j * kTogether;
                shared[j] = (((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))) * 0.125f;
            }
        }
    }
};

// Moves all weights of a step.
inline void move(const Step& all, unsigned threads, unsigned simd) {
    constexpr std::size_t kPiece = std::size_t{1} << 17;  // a multiple of the blocks
    parallel((all.n + kPiece - 1) / kPiece, threads, [&](std::size_t i) {
        Step piece = all;
        piece.weights += i * kPiece, piece.gradient += i * kPiece, piece.first += i * kPiece;
        piece.second += i * kPiece / kTogether;
        piece.n = std::min(kPiece, all.n - i * kPiece);
        run_cloned(piece, simd);
    });
}

}  // namespace noworse::adam
