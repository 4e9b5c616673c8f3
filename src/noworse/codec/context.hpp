// An adaptive context model of the codes of a sequence of tensors; the method is described in docs/context.md.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "arithmetic.hpp"
#include "mixing.hpp"
#include "patience.hpp"
#include "surroundings.hpp"

namespace noworse::context {

constexpr std::size_t kBlock = 1u << 18;  // symbols per block
constexpr std::size_t kLook = 1u << 13;   // symbols between looks around
constexpr std::uint32_t kMaxMagnitude = 1u << 30;

// Learns from tensor to tensor; the same object codes all tensors of a stream.
template <class Coder>
class ContextModel {
  public:
    explicit ContextModel(Coder& coder) : coder_(coder) {}

    // Codes a tensor. An encoder reads the codes (const), a decoder writes them.
    template <class Code>
    void tensor(const Geometry& g, Code* codes) {
        Sums sums(g);
        std::uint64_t mean = 0;  // magnitude in 1/256
        const std::uint64_t prior = prior_[g.kind()];
        for (std::size_t r = 0; r < g.rows; ++r) {
            sums.row = 0;
            sums.row_signs = 0;
            for (std::size_t c = 0, i = 0; c < g.columns; ++i) {
                sums.kernel = 0;
                sums.kernel_size = 0;
                for (std::size_t t = 0; t < g.taps; ++t, ++c, ++codes) {
                    if (symbols_ % kLook == 0) look_around();
                    if (symbols_++ % kBlock == 0) coder_.next_block();
                    if (sums.count < 64 || sums.count % 64 == 0)
                        mean = (256 * sums.total + 2 * prior) / (sums.count + 2) + 1;
                    const Neighbours near(codes, g, r, c, t);
                    observe(g, sums, near, mean, r, c, i, t);
                    std::int32_t code = 0;
                    if constexpr (std::is_const_v<Code>) code = *codes;
                    code = value(code, g, sums, near, c, t);
                    if constexpr (!std::is_const_v<Code>) *codes = code;
                    sums.add(code, c, i, t);
                }
            }
        }
        if (sums.count > 1) prior_[g.kind()] = 256 * sums.total / sums.count + 1;
    }

    void finish() {
        if (symbols_ > 0) coder_.finish();
    }

  private:
    static constexpr std::uint32_t kDecisions = 14;

    // Logarithms of the mean magnitudes that the code to come may resemble, and the contexts that depend on no scale.
    void observe(const Geometry& g, const Sums& s, const Neighbours& n, std::uint64_t mean, std::size_t r,
                 std::size_t c, std::size_t i, std::size_t t) {
        const bool kernel = g.taps > 1;
        const auto ratio = [mean](std::uint64_t sum, std::size_t count) {
            return log64(256 * sum + 8 * mean) - log64(count + 8);
        };
        row_ = ratio(s.row, c);
        channel_ = ratio(s.channel[i], r * g.taps + t);
        column_ = ratio(s.column[c], r);
        expected_ = row_ + channel_ - log64(mean);
        if (kernel) expected_ += ratio(s.tap[t], r * (g.columns / g.taps) + i) - log64(mean);
        const auto a = size_of(n.left), u = size_of(n.up), k = size_of(n.above);
        const std::uint64_t near = 2 * std::uint64_t{a} + size_of(n.left2) + 2 * std::uint64_t{u} + size_of(n.up2);
        local_ = log64((kernel ? 48 * (near + k + size_of(n.before)) : 64 * near) + mean);
        const auto digits = [](std::uint32_t p, std::uint32_t q, std::uint32_t v, std::uint32_t w) {
            return 64 * std::min(p, 3u) + 16 * std::min(q, 3u) + 4 * std::min(v, 3u) + std::min(w, 3u);
        };
        slope_ = within(2 * (std::int64_t{n.left} + n.above) + n.corner + n.right, 15);
        if (!kernel) {
            sizes_.context[0] = digits(u, size_of(n.up2), size_of(n.up3), a);
            sizes_.feature[2] = 0;
            return;
        }
        sizes_.context[0] = 256 + digits(a, k, size_of(n.corner), size_of(n.right));
        const auto tap = static_cast<std::uint32_t>(std::min<std::size_t>(t, 9));
        sizes_.context[5] = 64 * tap + 8 * static_cast<std::uint32_t>(std::min(std::abs(s.kernel), 7)) +
                            std::min(s.kernel_size, 7u);
        sizes_.feature[2] = -64 * std::abs(within(std::int64_t{n.above} + n.left, 8));
    }

    // The contexts that depend on scale, all scales being divided by 2^(shift / 64).
    void scale(const Geometry& g, int shift) {
        const int offset = shift + 256;
        const std::uint32_t e32 = level(expected_ - offset, 32, 23);
        auto& context = sizes_.context;
        context[1] = static_cast<std::uint32_t>(g.kind()) * 48 + level(expected_ - offset, 16, 47);
        context[2] = e32 * 32 + level(local_ - offset, 32, 31);
        context[3] = level(column_ - offset, 24, 31) * 24 + level(row_ - offset, 32, 23);
        if (g.taps > 1) {
            context[4] = 1 + static_cast<std::uint32_t>(std::abs(slope_)) * 24 + e32;
        } else {
            context[4] = 0;
            context[5] = 640 + level(column_ - offset, 32, 23) * 24 + level(channel_ - offset, 32, 23);
        }
        const auto logit = [shift](int l) { return within(((512 + shift - l) * 177) >> 6, 2047); };
        sizes_.feature[0] = logit(expected_);
        sizes_.feature[1] = logit(column_);
        curve_ = e32 * kDecisions;
        shift_ = shift;
    }

    bool decide(bool bit, std::uint32_t decision, const Geometry& g, int shift) {
        if (shift != shift_) scale(g, shift);
        return sizes_.code(coder_, bit, decision, static_cast<std::uint32_t>(g.kind()) * kDecisions + decision,
                           curve_ + decision);
    }

    // The length of the magnitude in unary, the bits behind its first one, the sign.
    std::int32_t value(std::int32_t code, const Geometry& g, const Sums& s, const Neighbours& n, std::size_t c,
                       std::size_t t) {
        const auto size = static_cast<std::uint32_t>(std::abs(std::int64_t{code}));
        const auto shift = [](std::uint32_t bits) { return bits > 4 ? 64 * (static_cast<int>(bits) - 4) : 0; };
        std::uint32_t bits = 0;
        scale(g, 0);
        while (bits < 31 && !decide(size >> bits == 0, std::min(bits, 4u), g, shift(bits))) ++bits;
        if (bits == 0) return 0;
        std::uint32_t found = 1;
        for (std::uint32_t depth = 1; depth < bits; ++depth) {
            const bool bit = size >> (bits - 1 - depth) & 1;
            const std::uint32_t decision = depth == 1   ? 3 + std::min(bits, 4u)
                                           : depth == 2 ? (bits == 3 ? 8 : 10) + (found & 1)
                                                        : 12 + (found >> 1 & 1);
            found = 2 * found + (depth > 3 ? coder_.code(bit, 32768) : decide(bit, decision, g, shift(bits)));
        }
        if (found > kMaxMagnitude) throw std::domain_error("a code lies beyond 2**30");
        const auto magnitude = static_cast<std::int32_t>(found);
        return sign(code < 0, magnitude, g, s, n, c, t) ? -magnitude : magnitude;
    }

    bool sign(bool negative, std::int32_t magnitude, const Geometry& g, const Sums& s, const Neighbours& n,
              std::size_t c, std::size_t t) {
        const bool kernel = g.taps > 1;
        const auto size = static_cast<std::uint32_t>(std::min(magnitude, 3) - 1);
        const auto trit = [](std::int32_t x) { return static_cast<std::uint32_t>((x > 0) - (x < 0) + 1); };
        const auto tap = static_cast<std::uint32_t>(std::min<std::size_t>(t, 24));
        signs_.context[0] = kernel ? (static_cast<std::uint32_t>(slope_ + 15) * 25 + tap) * 3 + size : 0;
        signs_.context[1] = kernel ? tap * 27 + trit(n.left) * 9 + trit(n.above) * 3 + trit(s.kernel) : 0;
        const std::int32_t around[] = {n.left,
                                       n.left2,
                                       n.before,
                                       n.up,
                                       s.kernel,
                                       s.column_signs[c],
                                       n.corner,
                                       kernel ? n.above : s.row_signs >> 2,
                                       kernel ? n.right : n.up2,
                                       n.above2};
        for (std::size_t i = 0; i < signs_.feature.size(); ++i) signs_.feature[i] = -64 * within(around[i], 8);
        return signs_.code(coder_, negative, 0, static_cast<std::uint32_t>(g.kind()) * 3 + size, size);
    }

    Coder& coder_;
    std::size_t symbols_ = 0;
    std::array<std::uint64_t, 3> prior_{2560, 256, 256};
    Predictor<6, 3> sizes_{Plan<6>{
        {512, 144, 768, 768, 385, 1216}, kDecisions, 3 * kDecisions, 24 * kDecisions, 8000, 15, 17, 1023}};
    Predictor<2, 10> signs_{Plan<2>{{2325, 675}, 1, 9, 3, 16000, 12, 16, 127}};
    int row_ = 0, channel_ = 0, column_ = 0, expected_ = 0, local_ = 0, slope_ = 0, shift_ = 0;
    std::uint32_t curve_ = 0;
};

inline std::vector<std::vector<std::uint8_t>> encode(const std::vector<Geometry>& tensors,
                                                             const std::int32_t* codes) {
    BlockEncoder coder;
    ContextModel<BlockEncoder> model(coder);
    for (const Geometry& g : tensors) {
        model.tensor(g, codes);
        codes += g.rows * g.columns;
    }
    model.finish();
    return std::move(coder.blocks);
}

inline void decode(const std::vector<Geometry>& tensors, const std::vector<Bytes>& blocks, std::int32_t* out) {
    BlockDecoder coder(blocks);
    ContextModel<BlockDecoder> model(coder);
    for (const Geometry& g : tensors) {
        model.tensor(g, out);
        out += g.rows * g.columns;
    }
    model.finish();
}

}  // namespace noworse::context
