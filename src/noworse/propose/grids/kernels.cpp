// What an iteration of tuning does to every weight, for float32 on processors; bindings, and the work shared among
// threads. Weights are cut where neither their number nor that of threads is asked for, so that sums are always the same.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <mutex>
#include <vector>

#include "../../codec/crew.hpp"
#include "../../tune/adam.hpp"
#include "rounding.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace noworse;
using namespace noworse::grids;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Found = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t kSpan = std::size_t{1} << 17;  // weights of one piece of work; a multiple of all blocks
constexpr std::size_t kAlone = std::size_t{1} << 18;  // fewer weights in all are not worth a second thread

// Consecutive weights of one tensor.
struct Span {
    std::size_t tensor, begin, count;
    bool whole;  // all of the tensor
};

void need(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

std::vector<Span> spans_of(const In<std::int64_t>& ends, std::size_t count) {
    std::vector<Span> found;
    std::size_t begin = 0;
    for (std::size_t k = 0; k < ends.size(); ++k) {
        const std::int64_t end = ends.data()[k];
        need(end >= static_cast<std::int64_t>(begin) && end <= static_cast<std::int64_t>(count), "ends must ascend");
        const std::size_t last = static_cast<std::size_t>(end);
        for (std::size_t at = begin; at < last; at += kSpan) {
            const std::size_t n = std::min(kSpan, last - at);
            found.push_back({k, at, n, n == last - begin});
        }
        begin = last;
    }
    need(begin == count, "the last tensor must end where the weights do");
    return found;
}

// The grids of K tensors, as quantise() of grid.py has them.
struct Grids {
    In<float> ratio, steps, zones;
    Grids(In<float> ratio, In<float> steps, In<float> zones, std::size_t tensors)
        : ratio(ratio), steps(steps), zones(zones) {
        need(ratio.size() == tensors && steps.size() == tensors && zones.size() == tensors,
             "ratio, steps and zones must have one number for each tensor");
        for (std::size_t k = 0; k < tensors; ++k)
            need(zones.data()[k] >= 0 && zones.data()[k] <= 64, "zones must lie in 0 .. 64");
    }
    Scale operator[](std::size_t k) const { return {ratio.data()[k], steps.data()[k], zones.data()[k]}; }
};

class Counter {
  public:
    Counter(const float* latent, float* out, const std::vector<Span>& spans, const Grids& grids, unsigned threads,
            unsigned simd)
        : latent_(latent), out_(out), spans_(spans), grids_(grids), threads_(threads), simd_(simd) {}

    void run(std::size_t tensors, int finest) {
        lay_out_cells(tensors, finest);
        parallel(spans_.size(), threads_, [this](std::size_t i) { count(spans_[i]); });
    }
    const Cells& cells(std::size_t k) const { return cells_[k]; }
    const std::uint32_t* counts(std::size_t k) const { return counts_.data() + cells_[k].base; }

  private:
    void lay_out_cells(std::size_t tensors, int finest) {
        std::vector<std::int32_t> found(spans_.size()), most(tensors, 0);
        parallel(spans_.size(), threads_, [&](std::size_t i) {
            run_cloned(Reach{latent_ + spans_[i].begin, spans_[i].count, &found[i]}, simd_);
        });
        for (std::size_t i = 0; i < found.size(); ++i)
            most[spans_[i].tensor] = std::max(most[spans_[i].tensor], found[i]);
        std::size_t total = 0;
        for (std::size_t k = 0; k < tensors; ++k) {
            float reach;
            std::memcpy(&reach, &most[k], sizeof reach);
            reach *= std::fabs(grids_[k].ratio);
            need(reach < static_cast<float>(kMostBins), "weights are not finite, or beyond 2**20 steps");
            cells_.push_back(lay_out(reach, grids_[k].r, finest));
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
        run_cloned(Round{latent_ + span.begin, out_ + span.begin, span.count, grids_[span.tensor], cells, found}, simd_);
        if (span.whole) return;
        const std::lock_guard<std::mutex> lock(adding_);
        for (std::size_t i = 0; i < own.size(); ++i) all[i] += own[i];
    }

    const float* latent_;
    float* out_;
    const std::vector<Span>& spans_;
    const Grids& grids_;
    unsigned threads_, simd_;
    std::vector<Cells> cells_;
    std::vector<std::uint32_t> counts_;
    std::mutex adding_;
};

// Fills `found` (3, K) with bits, and the soft entropy's slopes by ln s and r.
void quantise(In<float> latent, In<std::int64_t> ends, In<float> ratio, In<float> steps, In<float> zones,
              Out<float> out, double delta, Found found, unsigned threads, unsigned simd) {
    const std::size_t tensors = ends.size();
    need(out.size() == latent.size(), "there must be as many values as latents");
    need(found.shape(0) == 3 && found.shape(1) == tensors, "what is found must be of shape (3, tensors)");
    need(delta >= 0 && delta <= 0.5, "delta must lie in 0 .. 1/2");
    const Grids grids(ratio, steps, zones, tensors);
    const std::vector<Span> spans = spans_of(ends, latent.size());
    if (latent.size() < kAlone) threads = 1;
    nb::gil_scoped_release release;
    Counter counter(latent.data(), out.data(), spans, grids, threads, simd);
    counter.run(tensors, delta > 0 ? 32 : 1);
    double* const to = found.data();
    parallel(tensors, threads, [&](std::size_t k) {
        const Rates rates = Entropy(counter.counts(k), counter.cells(k), grids[k].r, delta).rates();
        to[k] = rates.bits, to[tensors + k] = rates.by_log_step, to[2 * tensors + k] = rates.by_zone;
    });
}

// Turns the gradient at values into that of latents; fills `found` (2, K) with g · (ŵ − w), of all and of those at zero.
void gradients(In<float> latent, In<std::int64_t> ends, In<float> ratio, In<float> steps, In<float> zones,
               In<float> units, Out<float> gradient, Found found, unsigned threads, unsigned simd) {
    const std::size_t tensors = ends.size();
    need(gradient.size() == latent.size(), "there must be as many gradients as latents");
    need(units.size() == tensors, "units must have one number for each tensor");
    need(found.shape(0) == 2 && found.shape(1) == tensors, "what is found must be of shape (2, tensors)");
    const Grids grids(ratio, steps, zones, tensors);
    const std::vector<Span> spans = spans_of(ends, latent.size());
    if (latent.size() < kAlone) threads = 1;
    nb::gil_scoped_release release;
    std::vector<std::array<double, 2>> sums(spans.size());
    parallel(spans.size(), threads, [&](std::size_t i) {
        const auto [k, begin, count, whole] = spans[i];
        run_cloned(Descend{latent.data() + begin, gradient.data() + begin, count, grids[k], units.data()[k], &sums[i]},
                   simd);
    });
    double* const to = found.data();
    std::fill_n(to, 2 * tensors, 0.0);
    for (std::size_t i = 0; i < spans.size(); ++i)
        for (std::size_t s = 0; s < 2; ++s) to[s * tensors + spans[i].tensor] += sums[i][s];
}

void adam_step(Out<float> weights, In<float> gradient, Out<std::uint16_t> first, Out<float> second, In<float> rule,
               unsigned threads, unsigned simd) {
    const std::size_t n = weights.size();
    need(gradient.size() == n && first.size() == n, "there must be as many gradients and first moments as weights");
    need(second.size() == (n + adam::kTogether - 1) / adam::kTogether, "second moments must be one for eight weights");
    need(rule.size() == 6, "a rule has six numbers");
    const float* const r = rule.data();
    const adam::Rule by{r[0], r[1], r[2], r[3], r[4], r[5]};
    nb::gil_scoped_release release;
    parallel((n + kSpan - 1) / kSpan, threads, [&](std::size_t i) {
        const std::size_t at = i * kSpan;
        run_cloned(adam::Step{weights.data() + at, gradient.data() + at, first.data() + at,
                              second.data() + at / adam::kTogether, std::min(kSpan, n - at), by},
                   simd);
    });
}

}  // namespace

// noconvert: a converted copy would be filled instead of the caller's array
void bind_kernels(nb::module_& m) {
    const auto threads = nb::arg("threads") = 0;
    const auto simd = nb::arg("simd") = kAvx512;
    m.def("quantise", &quantise, "latent"_a.noconvert(), "ends"_a.noconvert(), "ratio"_a.noconvert(),
          "steps"_a.noconvert(), "zones"_a.noconvert(), "out"_a.noconvert(), "delta"_a, "found"_a.noconvert(), threads,
          simd, "Values on grids, bits of their codes, and slopes of the soft entropy.");
    m.def("gradients", &gradients, "latent"_a.noconvert(), "ends"_a.noconvert(), "ratio"_a.noconvert(),
          "steps"_a.noconvert(), "zones"_a.noconvert(), "units"_a.noconvert(), "gradient"_a.noconvert(),
          "found"_a.noconvert(), threads, simd, "The gradient at values as one of latents, and its sums.");
    m.def("adam_step", &adam_step, "weights"_a.noconvert(), "gradient"_a.noconvert(), "first"_a.noconvert(),
          "second"_a.noconvert(), "rule"_a.noconvert(), threads, simd, "One step of Adam, moments of bfloat16.");
}
