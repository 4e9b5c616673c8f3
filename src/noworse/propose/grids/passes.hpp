// Passes over all weights of a model, shared among threads. Tensors are cut where the number of threads is not asked for,
// so that sums are always the same.
#pragma once

#include <mutex>
#include <stdexcept>
#include <vector>

#include "../../codec/crew.hpp"
#include "rounding.hpp"

namespace noworse::grids {

constexpr std::size_t kSpan = std::size_t{1} << 17;   // weights of one piece of work; a multiple of all blocks
constexpr std::size_t kAlone = std::size_t{1} << 20;  // fewer weights in all are not worth a second thread

inline void need(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

// Latents of K tensors one after the other, where each tensor ends, and its grid.
struct Weights {
    const float* latent;
    std::size_t count;
    const std::int64_t* ends;
    const float *ratio, *steps, *zones;
    std::size_t tensors;
    Scale operator[](std::size_t k) const { return {ratio[k], steps[k], zones[k]}; }
};

// Consecutive weights of one tensor.
struct Span {
    std::size_t tensor, begin, count;
    bool whole;  // all of the tensor
};

inline std::vector<Span> spans_of(const Weights& w) {
    std::vector<Span> found;
    std::size_t begin = 0;
    for (std::size_t k = 0; k < w.tensors; ++k) {
        need(w.ends[k] >= static_cast<std::int64_t>(begin) && w.ends[k] <= static_cast<std::int64_t>(w.count),
             "ends must ascend");
        need(w.zones[k] >= 0 && w.zones[k] <= 64, "zones must lie in 0 .. 64");
        const auto end = static_cast<std::size_t>(w.ends[k]);
        for (std::size_t at = begin; at < end; at += kSpan) {
            const std::size_t n = std::min(kSpan, end - at);
            found.push_back({k, at, n, n == end - begin});
        }
        begin = end;
    }
    need(begin == w.count, "the last tensor must end where the weights do");
    return found;
}

class Quantiser {
  public:
    // With delta > 0 weights are counted in cells, for the slopes of a soft entropy of that half width.
    Quantiser(const Weights& weights, float* out, double delta, unsigned threads, unsigned simd)
        : w_(weights), out_(out), delta_(delta), spans_(spans_of(weights)), simd_(simd) {
        threads_ = w_.count < kAlone ? 1 : threads;
    }

    std::vector<Rates> run() {
        lay_out_cells();
        parallel(spans_.size(), threads_, [this](std::size_t i) { count(spans_[i]); });
        std::vector<Rates> found(w_.tensors);
        parallel(w_.tensors, threads_, [&](std::size_t k) {
            found[k] = Entropy(counts_.data() + cells_[k].base, cells_[k], w_[k].r, delta_).rates();
        });
        return found;
    }

  private:
    void lay_out_cells() {
        std::vector<std::int32_t> found(spans_.size()), most(w_.tensors, 0);
        parallel(spans_.size(), threads_, [&](std::size_t i) {
            run_cloned(Reach{w_.latent + spans_[i].begin, spans_[i].count, &found[i]}, simd_);
        });
        for (std::size_t i = 0; i < found.size(); ++i)
            most[spans_[i].tensor] = std::max(most[spans_[i].tensor], found[i]);
        std::size_t total = 0;
        for (std::size_t k = 0; k < w_.tensors; ++k) {
            float reach;
            std::memcpy(&reach, &most[k], sizeof reach);
            reach *= std::fabs(w_.ratio[k]);
            need(reach < static_cast<float>(kMostBins), "weights are not finite, or beyond 2**20 steps");
            cells_.push_back(lay_out(reach, w_.zones[k], delta_ > 0 ? 32 : 1));
            cells_.back().base = total;
            total += cells_.back().size();
        }
        counts_.assign(total, 0);
    }

    void count(const Span& span) {
        const Cells& cells = cells_[span.tensor];
        std::uint32_t* const all = counts_.data() + cells.base;
        std::vector<std::uint32_t> own(span.whole ? 0 : cells.size(), 0);
        std::uint32_t* const found = span.whole ? all : own.data();
        run_cloned(Round{w_.latent + span.begin, out_ + span.begin, span.count, w_[span.tensor], cells, found}, simd_);
        const std::lock_guard<std::mutex> lock(adding_);
        for (std::size_t i = 0; i < own.size(); ++i) all[i] += own[i];
    }

    const Weights w_;
    float* out_;
    double delta_;
    std::vector<Span> spans_;
    unsigned threads_, simd_;
    std::vector<Cells> cells_;
    std::vector<std::uint32_t> counts_;
    std::mutex adding_;
};

// Turns the gradient at values into that of latents; returns g · (ŵ − w) of each tensor, of all weights and of those at 0.
inline std::vector<std::array<double, 2>> descend(const Weights& w, const float* units, float* gradient,
                                                  unsigned threads, unsigned simd) {
    const std::vector<Span> spans = spans_of(w);
    std::vector<std::array<double, 2>> sums(spans.size()), found(w.tensors, {0, 0});
    parallel(spans.size(), w.count < kAlone ? 1 : threads, [&](std::size_t i) {
        const auto [k, begin, count, whole] = spans[i];
        run_cloned(Descend{w.latent + begin, gradient + begin, count, w[k], units[k], &sums[i]}, simd);
    });
    for (std::size_t i = 0; i < spans.size(); ++i)
        for (std::size_t s = 0; s < 2; ++s) found[spans[i].tensor][s] += sums[i][s];
    return found;
}

}  // namespace noworse::grids
