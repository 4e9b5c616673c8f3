// Weights and the codes of a grid without any data: nearest codes, what they cost, how far they are off.
//
// Sums run over eight lanes and over pieces in order, so that neither instruction sets nor threads change them.
#pragma once

#include <cmath>

#include "counts.hpp"
#include "stream.hpp"

namespace noworse {

constexpr std::size_t kPiece = std::size_t{1} << 16;  // elements of one piece of work
constexpr unsigned kSums = 8;

struct Bfloat16 {
    std::uint16_t bits;
};
NOWORSE_INLINE double number(double x) { return x; }
NOWORSE_INLINE double number(float x) { return static_cast<double>(x); }
NOWORSE_INLINE double number(Bfloat16 x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return static_cast<double>(value);
}

// 0 up to r steps from zero, k in the k-th bin of one step beyond; beyond every code for what is no number. Rounded up
// by way of integers, which compilers turn into vectors.
NOWORSE_INLINE std::int32_t code_of(double magnitude, double step, double r) {
    const double k = magnitude / step - r, most = kMaxCode, some = k > 0 ? k : 0.0, within = some < most ? some : most;
    const auto whole = static_cast<std::int32_t>(within);
    return whole + static_cast<std::int32_t>(some > static_cast<double>(whole));
}

NOWORSE_INLINE double total(const double (&sums)[kSums]) {
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
}

struct Lattice {
    double step, r, largest;  // elements beyond the last one get code 0
};

// Fills codes, and returns how many elements are beyond.
template <class T>
NOWORSE_INLINE std::size_t nearest_codes(const T* from, std::size_t n, const Lattice& l, std::int32_t* out) {
    const double step = l.step, r = l.r, largest = l.largest;
    std::int32_t far = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const double x = number(from[i]), a = std::fabs(x);
        const bool beyond = a > largest;
        const std::int32_t k = code_of(beyond ? 0.0 : a, step, r);
        out[i] = x < 0 ? -k : k;
        far += beyond;
    }
    return static_cast<std::size_t>(far);
}

// Of elements: sum of squares (not finite where one of them is not), least, greatest, least magnitude but 0.
struct Extent {
    double square = 0;
    std::uint64_t count = 0;
    double low = std::numeric_limits<double>::infinity(), high = -low, smallest = low;

    void add(const Extent& other) {
        square += other.square;
        count += other.count;
        low = std::min(low, other.low);
        high = std::max(high, other.high);
        smallest = std::min(smallest, other.smallest);
    }
};

// Those of magnitudes beyond `most` do not count, what is not a number does.
template <class T>
NOWORSE_INLINE Extent extent_of(const T* from, std::size_t n, double most) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    double square[kSums] = {}, low[kSums], high[kSums], smallest[kSums];
    std::uint64_t count[kSums] = {};
    for (unsigned j = 0; j < kSums; ++j) low[j] = smallest[j] = kInfinity, high[j] = -kInfinity;
    const auto take = [&](double x, unsigned j) {
        const double a = std::fabs(x);
        const bool counts = !(a > most);
        const double v = counts ? x : 0.0, least = counts ? x : kInfinity, greatest = counts ? x : -kInfinity;
        square[j] += v * v;
        count[j] += counts;
        low[j] = least < low[j] ? least : low[j];
        high[j] = greatest > high[j] ? greatest : high[j];
        const double size = a > 0 && counts ? a : kInfinity;
        smallest[j] = size < smallest[j] ? size : smallest[j];
    };
    std::size_t i = 0;
    for (; i + kSums <= n; i += kSums)
        for (unsigned j = 0; j < kSums; ++j) take(number(from[i + j]), j);
    for (unsigned j = 0; i < n; ++i, ++j) take(number(from[i]), j);
    Extent found{total(square)};
    for (unsigned j = 0; j < kSums; ++j) found.add({0, count[j], low[j], high[j], smallest[j]});
    return found;
}

// Sums of squares of after - before, and of before.
template <class T, class U>
NOWORSE_INLINE std::pair<double, double> squares_of(const T* before, const U* after, std::size_t n) {
    double error[kSums] = {}, square[kSums] = {};
    const auto take = [&](std::size_t i, unsigned j) {
        const double x = number(before[i]), d = number(after[i]) - x;
        error[j] += d * d;
        square[j] += x * x;
    };
    std::size_t i = 0;
    for (; i + kSums <= n; i += kSums)
        for (unsigned j = 0; j < kSums; ++j) take(i + j, j);
    for (unsigned j = 0; i < n; ++i, ++j) take(i, j);
    return {total(error), total(square)};
}

// The sum of squares by which the values of codes are off.
NOWORSE_INLINE double error_of(const double* from, const std::int32_t* codes, std::size_t n, double step, double r) {
    double error[kSums] = {};
    const auto take = [&](std::size_t i, unsigned j) {
        const double k = std::fabs(static_cast<double>(codes[i])), d = std::fabs(from[i]) - (r + k - 0.5) * step;
        const double off = k > 0 ? d : from[i];
        error[j] += off * off;
    };
    std::size_t i = 0;
    for (; i + kSums <= n; i += kSums)
        for (unsigned j = 0; j < kSums; ++j) take(i + j, j);
    for (unsigned j = 0; i < n; ++i, ++j) take(i, j);
    return total(error);
}

NOWORSE_INLINE void values_of(const std::int32_t* codes, std::size_t n, const GridScale& scale, float* out) {
    const std::int64_t zone = scale.edge - 32;
    const double unit = scale.scale, edge = static_cast<double>(zone);
    for (std::size_t i = 0; i < n; ++i) {
        const double k = codes[i], units = 64 * k + (k > 0 ? edge : k < 0 ? -edge : 0.0);  // exact
        out[i] = static_cast<float>(units * unit);
    }
}

// The same bodies for two instruction sets: the compiler turns the loops into vectors of either.
#ifdef NOWORSE_AVX2
#define NOWORSE_TWICE(name)                                                                     \
    template <class... Args>                                                                    \
    __attribute__((target("avx2"))) auto name##_avx2(Args... args) { return name(args...); }    \
    template <class... Args>                                                                    \
    auto name##_best(Args... args) { return has_avx2() ? name##_avx2(args...) : name(args...); }
#else
#define NOWORSE_TWICE(name) \
    template <class... Args> \
    auto name##_best(Args... args) { return name(args...); }
#endif
NOWORSE_TWICE(nearest_codes)
NOWORSE_TWICE(extent_of)
NOWORSE_TWICE(squares_of)
NOWORSE_TWICE(error_of)
NOWORSE_TWICE(values_of)
#undef NOWORSE_TWICE

// Calls work(begin, values) for the values of codes, some at a time.
template <class Work>
void with_values(const std::int32_t* codes, std::size_t n, const GridScale& scale, const Work& work) {
    constexpr std::size_t kSome = 1 << 12;
    float values[kSome];
    for (std::size_t i = 0; i < n; i += kSome) {
        const std::size_t m = std::min(kSome, n - i);
        values_of_best(codes + i, m, scale, values);
        work(i, m, values);
    }
}

// Calls work(begin, end, number) for the pieces of 0 .. count - 1, shared out among threads.
template <class Work>
void in_pieces(std::size_t count, unsigned threads, const Work& work) {
    parallel((count + kPiece - 1) / kPiece, threads, [&](std::size_t i) {
        work(i * kPiece, std::min(count, (i + 1) * kPiece), i);
    });
}

// c log2(c) for counts c.
inline std::vector<double> count_logs(std::size_t most) {
    std::vector<double> logs(most + 1, 0);
    for (std::size_t c = 2; c <= most; ++c) logs[c] = static_cast<double>(c) * std::log2(static_cast<double>(c));
    return logs;
}

// Costs of a sorted sample: bits per element, its entropy corrected for its finite size (Miller 1955), and mean squared
// error. Where there are few codes, the ends of their runs are searched for, else all elements are looked at.
class SortedSample {
  public:
    SortedSample(const double* x, std::size_t n) : x_(x), n_(n), logs_(count_logs(n)), sums_(n + 1), squares_(n + 1) {
        for (std::size_t i = 0; i < n; ++i) sums_[i + 1] = sums_[i] + x[i], squares_[i + 1] = squares_[i] + x[i] * x[i];
    }

    std::pair<double, double> cost(double step, double r, std::vector<std::int32_t>& codes) const {
        const double largest = std::max(std::fabs(x_[0]), std::fabs(x_[n_ - 1]));
        return largest < kFew * step ? searched(step, r) : looked_at(step, r, codes);
    }

  private:
    static constexpr double kFew = 100;  // steps from zero

    std::pair<double, double> searched(double step, double r) const {
        double sum = 0, error = 0;
        std::size_t used = 0;
        for (std::size_t i = 0; i < n_; ++used) {
            const auto code = [&](double x) { return (x < 0 ? -1 : 1) * code_of(std::fabs(x), step, r); };
            const std::int32_t k = code(x_[i]);
            const double v = k == 0 ? 0.0 : k > 0 ? (r + k - 0.5) * step : -(r - k - 0.5) * step;
            const std::size_t end = static_cast<std::size_t>(
                std::partition_point(x_ + i, x_ + n_, [&](double x) { return code(x) == k; }) - x_);
            const std::size_t count = end - i;
            sum += logs_[count];
            error += squares_[end] - squares_[i] - v * (2 * (sums_[end] - sums_[i]) - static_cast<double>(count) * v);
            i = end;
        }
        return {entropy(sum, used), std::max(error, 0.0) / static_cast<double>(n_)};
    }

    std::pair<double, double> looked_at(double step, double r, std::vector<std::int32_t>& codes) const {
        codes.resize(n_);
        nearest_codes_best(x_, n_, Lattice{step, r, std::numeric_limits<double>::infinity()}, codes.data());
        const double error = error_of_best(x_, codes.data(), n_, step, r);
        std::vector<std::uint32_t> ends(n_ + 1);  // of runs; found without branches, which nobody could guess
        std::size_t used = 0;
        for (std::size_t i = 1; i < n_; ++i) ends[used] = static_cast<std::uint32_t>(i), used += codes[i] != codes[i - 1];
        ends[used++] = static_cast<std::uint32_t>(n_);
        double sum = 0;
        for (std::size_t k = 0; k < used; ++k) sum += logs_[ends[k] - (k ? ends[k - 1] : 0)];
        return {entropy(sum, used), error / static_cast<double>(n_)};
    }

    double entropy(double sum, std::size_t used) const {
        const double all = static_cast<double>(n_);
        return std::log2(all) - sum / all + static_cast<double>(used - 1) / (2 * std::log(2.0) * all);
    }

    const double* x_;
    std::size_t n_;
    std::vector<double> logs_, sums_, squares_;
};

// For each step, and each r in turn.
inline void costs_of(const SortedSample& sample, const double* steps, std::size_t count, const double* rs,
                     std::size_t edges, double* bits, double* errors, unsigned threads) {
    parallel(count, threads, [&](std::size_t s) {
        std::vector<std::int32_t> codes;
        for (std::size_t e = 0, at = s * edges; e < edges; ++e, ++at)
            std::tie(bits[at], errors[at]) = sample.cost(steps[s], rs[e], codes);
    });
}

}  // namespace noworse
