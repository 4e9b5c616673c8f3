// Python bindings of what an iteration of tuning does to every weight, for float32 on processors (kernels.py, adam.py).
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "../../tune/adam.hpp"
#include "passes.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace noworse;
using noworse::grids::need;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Found = nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

grids::Weights weights_of(const In<float>& latent, const In<std::int64_t>& ends, const In<float>& ratio,
                          const In<float>& steps, const In<float>& zones) {
    const std::size_t tensors = ends.size();
    need(ratio.size() == tensors && steps.size() == tensors && zones.size() == tensors,
         "ratio, steps and zones must have one number for each tensor");
    return {latent.data(), latent.size(), ends.data(), ratio.data(), steps.data(), zones.data(), tensors};
}

// Fills `found` (3, K) with bits, and the soft entropy's slopes by ln s and r.
void quantise(In<float> latent, In<std::int64_t> ends, In<float> ratio, In<float> steps, In<float> zones,
              Out<float> out, double delta, Found found, unsigned threads, unsigned simd) {
    const grids::Weights weights = weights_of(latent, ends, ratio, steps, zones);
    need(out.size() == latent.size(), "there must be as many values as latents");
    need(found.shape(0) == 3 && found.shape(1) == weights.tensors, "what is found must be of shape (3, tensors)");
    need(delta >= 0 && delta <= 0.5, "delta must lie in 0 .. 1/2");
    nb::gil_scoped_release release;
    double* to = found.data();
    for (const grids::Rates& rates : grids::Quantiser(weights, out.data(), delta, threads, simd).run()) {
        to[0] = rates.bits, to[weights.tensors] = rates.by_log_step, to[2 * weights.tensors] = rates.by_zone;
        ++to;
    }
}

// Turns the gradient at values into that of latents; fills `found` (2, K) with g · (ŵ − w), of all and of those at zero.
void gradients(In<float> latent, In<std::int64_t> ends, In<float> ratio, In<float> steps, In<float> zones,
               In<float> units, Out<float> gradient, Found found, unsigned threads, unsigned simd) {
    const grids::Weights weights = weights_of(latent, ends, ratio, steps, zones);
    need(gradient.size() == latent.size(), "there must be as many gradients as latents");
    need(units.size() == weights.tensors, "units must have one number for each tensor");
    need(found.shape(0) == 2 && found.shape(1) == weights.tensors, "what is found must be of shape (2, tensors)");
    nb::gil_scoped_release release;
    double* to = found.data();
    for (const auto& [all, zeros] : grids::descend(weights, units.data(), gradient.data(), threads, simd)) {
        to[0] = all, to[weights.tensors] = zeros;
        ++to;
    }
}

void adam_step(Out<float> weights, In<float> gradient, Out<std::uint16_t> first, Out<float> second, In<float> rule,
               unsigned threads, unsigned simd) {
    const std::size_t n = weights.size();
    need(gradient.size() == n && first.size() == n, "there must be as many gradients and first moments as weights");
    need(second.size() == (n + adam::kTogether - 1) / adam::kTogether, "second moments must be one for eight weights");
    need(rule.size() == 6, "a rule has six numbers");
    const float* const r = rule.data();
    const adam::Step step{weights.data(), gradient.data(), first.data(), second.data(), n,
                          {r[0], r[1], r[2], r[3], r[4], r[5]}};
    nb::gil_scoped_release release;
    adam::move(step, threads, simd);
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
