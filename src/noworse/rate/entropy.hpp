// Bits of a tensor's codes, and the soft entropy's gradient for the cosine kernel, from counts per cell; counter.py says
// what is computed. In float64 and in one order, with functions of its own: libraries differ in the last bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace noworse::grids {

// Cells of one tensor, the power of two 1 << shift per code; those of negative weights come after the others.
struct Cells {
    std::int32_t zero = 0, width = 0, bins = 0;
    int shift = 0;
    std::size_t base = 0;  // where they begin among those of all tensors
    std::size_t size() const { return 2 * static_cast<std::size_t>(width); }
};

constexpr std::int32_t kMostBins = std::int32_t{1} << 20;

// As lay_out() in counter.py: cells for |w|/s up to ``reach`` < kMostBins.
inline Cells lay_out(float reach, float r, int finest) {
    constexpr int kFine = 256, kFewest = 4;
    Cells found;
    found.bins = static_cast<std::int32_t>(std::max(reach - r, 0.0f)) + 2;
    const int wanted = std::clamp(finest * kFine / found.bins, std::min(kFewest, finest), finest);
    while (2 << found.shift <= wanted) ++found.shift;
    found.zero = static_cast<std::int32_t>(std::ceil(r * static_cast<float>(1 << found.shift))) + 1;
    found.width = found.zero + (found.bins << found.shift);
    return found;
}

// log2 of a normal x > 0: m · 2**e with m in [√½, √2), and the series of log m in (m − 1) / (m + 1).
inline double log2_of(double x) {
    std::uint64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    const std::uint64_t above = bits - 0x3fe6a09e667f3bcdull;  // √½
    const auto exponent = static_cast<std::int64_t>(above) >> 52;
    bits -= static_cast<std::uint64_t>(exponent) << 52;
    double m;
    std::memcpy(&m, &bits, sizeof m);
    const double s = (m - 1) / (m + 1), square = s * s;
    double sum = 0;
    for (int k = 23; k > 1; k -= 2) sum = (sum + 1.0 / k) * square;
    return static_cast<double>(exponent) + (sum + 1) * s * 2.8853900817779268;  // 2 / ln 2
}

// sin(πu/2) for u in [0, 1], by its series.
inline double sine(double u) {
    const double x = u * 1.5707963267948966, square = x * x;
    double sum = 0;
    for (int k = 22; k > 0; k -= 2) sum = (1 - sum) * square / (k * (k + 1));
    return x * (1 - sum);
}

struct Rates {
    double bits = 0, by_log_step = 0, by_zone = 0;
};

class Entropy {
  public:
    // Counts of the cells of one tensor, whose zero bin ends at r steps; kernels of half width delta, or 0 for none.
    Entropy(const std::uint32_t* counts, const Cells& cells, double r, double delta)
        : counts_(counts), cells_(cells), r_(r), delta_(delta), fine_(1 << cells.shift), soft_(bins(), 0.0) {
        for (int j = 0; delta > 0 && j < fine_; ++j) {
            const double above = (j + 0.5) / fine_;
            inside_.push_back(edge(std::min(above, 1 - above), above >= 0.5 ? 1 : -1));
        }
    }

    Rates rates() {
        Rates found;
        found.bits = hard_bits();
        if (delta_ > 0) {
            each([this](std::size_t bin, std::int32_t sign, double count, const Edge& edge, double, bool) {
                const double share = count * edge.share;
                soft_[bin] += count - share;
                soft_[beyond(bin, sign, edge)] += share;
            });
            for (double& h : soft_) h = log2_of(std::max(h, 1e-6));
            each([&](std::size_t bin, std::int32_t sign, double count, const Edge& edge, double t, bool zero) {
                const double slope = edge.density * (soft_[bin] - soft_[beyond(bin, sign, edge)]) * edge.outward;
                const double pull = count * slope, lever = zero ? t / (2 * r_) : t;
                found.by_log_step -= pull * lever;
                found.by_zone -= zero ? pull * lever / r_ : pull;
            });
        }
        return found;
    }

  private:
    struct Edge {  // the nearest bin boundary of a cell
        double share = 0, density = 0;
        int outward = 1;
    };

    std::size_t bins() const { return 2 * static_cast<std::size_t>(cells_.bins) + 3; }
    std::size_t middle() const { return static_cast<std::size_t>(cells_.bins) + 1; }
    static std::size_t beyond(std::size_t bin, std::int32_t sign, const Edge& edge) {
        return bin + static_cast<std::size_t>(static_cast<std::ptrdiff_t>(sign * edge.outward));
    }

    Edge edge(double distance, int outward) const {
        const double u = distance / delta_;
        if (u >= 1) return {0, 0, outward};
        return {0.5 - 0.5 * sine(u), sine(1 - u) * 0.78539816339744831 / delta_, outward};
    }

    // Cells of magnitude q that begin at `place`, and their number.
    template <class Work>
    void each_bin(const Work& work) const {
        for (const std::int32_t sign : {1, -1}) {
            const std::uint32_t* const from = counts_ + (sign < 0 ? cells_.width : 0);
            work(sign, 0, from, cells_.zero);
            for (std::int32_t q = 1; q <= cells_.bins; ++q)
                work(sign, q, from + cells_.zero + (q - 1) * fine_, fine_);
        }
    }

    double hard_bits() {
        double total = 0, parts = 0, at_zero = 0;
        each_bin([&](std::int32_t, std::int32_t q, const std::uint32_t* cell, std::int32_t n) {
            double count = 0;
            for (std::int32_t i = 0; i < n; ++i) count += cell[i];
            total += count;
            if (q == 0) at_zero += count;
            else if (count > 0) parts += count * log2_of(count);
        });
        if (at_zero > 0) parts += at_zero * log2_of(at_zero);
        return total > 0 ? std::max(total * log2_of(total) - parts, 0.0) : 0;
    }

    // Every cell that has weights: its bin, sign, count, boundary, centre |w|/s, and whether it is in the zero bin.
    template <class Work>
    void each(const Work& work) const {
        each_bin([&](std::int32_t sign, std::int32_t q, const std::uint32_t* cell, std::int32_t n) {
            const std::size_t bin = middle() + static_cast<std::size_t>(static_cast<std::ptrdiff_t>(sign * q));
            const double begin = (q ? (q - 1) : -static_cast<double>(cells_.zero) / fine_) + r_;
            for (std::int32_t i = 0; i < n; ++i) {
                if (!cell[i]) continue;
                const double t = std::max(begin + (i + 0.5) / fine_, 0.0);
                work(bin, sign, cell[i], q ? inside_[static_cast<std::size_t>(i)] : edge(0.5 - t / (2 * r_), 1), t, !q);
            }
        });
    }

    const std::uint32_t* counts_;
    const Cells& cells_;
    double r_, delta_;
    int fine_;
    std::vector<double> soft_;  // relaxed counts of bins, then their log2
    std::vector<Edge> inside_;  // of the cells of a bin outside of zero
};

}  // namespace noworse::grids
