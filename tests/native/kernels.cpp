// The kernels of tuning on their own, to be compiled with sanitizers: `kernels SEED ROUNDS` rounds, counts and moves
// random weights in arrays of exactly their size, by all instruction sets and some threads, and compares what they wrote.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "../propose/grids/passes.hpp"
#include "../tune/adam.hpp"
#include "random.hpp"

namespace {

template <class T>
std::unique_ptr<T[]> exact(const std::vector<T>& from) {
    std::unique_ptr<T[]> copy(new T[from.size()]);
    std::copy(from.begin(), from.end(), copy.get());
    return copy;
}

struct Case {
    std::vector<float> latent, gradient, ratio, steps, zones;
    std::vector<std::int64_t> ends;
    double delta;
};

Case draw(Random& random, std::size_t most) {
    Case found;
    const auto unit = [&] { return static_cast<float>(random.below(1 << 20)) / (1 << 19) - 1; };
    const std::size_t tensors = 1 + random.below(4);
    for (std::size_t k = 0; k < tensors; ++k) {
        const std::size_t n = random.below(random.below(2) ? 40 : most);
        const float scale = std::ldexp(1.0f, static_cast<int>(random.below(22)) - 8);
        for (std::size_t i = 0; i < n; ++i) {
            found.latent.push_back(random.below(9) ? unit() * unit() * unit() * scale : random.below(2) ? 0.0f : -0.0f);
            found.gradient.push_back(unit());
        }
        found.ends.push_back(static_cast<std::int64_t>(found.latent.size()));
        found.ratio.push_back(0.5f + static_cast<float>(random.below(64)) / 64);
        found.steps.push_back(0.3f);
        found.zones.push_back(static_cast<float>(26 + random.below(230)) / 64);
    }
    found.delta = random.below(2) ? 0.25 : 0;
    return found;
}

// All that is written, one after the other.
std::vector<double> run(const Case& given, unsigned threads, unsigned simd) {
    const std::size_t n = given.latent.size(), groups = (n + 7) / 8;
    const auto latent = exact(given.latent), gradient = exact(given.gradient), values = exact(given.latent);
    const auto ends = exact(given.ends);
    const auto ratio = exact(given.ratio), steps = exact(given.steps), zones = exact(given.zones);
    const noworse::grids::Weights weights{latent.get(), n,           ends.get(),       ratio.get(),
                                          steps.get(),  zones.get(), given.ends.size()};
    std::vector<double> made;
    for (const auto& rates : noworse::grids::Quantiser(weights, values.get(), given.delta, threads, simd).run())
        made.insert(made.end(), {rates.bits, rates.by_log_step, rates.by_zone});
    for (const auto& sums : noworse::grids::descend(weights, steps.get(), gradient.get(), threads, simd))
        made.insert(made.end(), sums.begin(), sums.end());
    const auto first = exact(std::vector<std::uint16_t>(n, 0x3f80));
    const auto second = exact(std::vector<float>(groups, 0.25f));
    const noworse::adam::Rule rule{0.1f, 0.999f, 0.001f, 1e-8f, 0.5f, -0.01f};
    noworse::adam::move({latent.get(), gradient.get(), first.get(), second.get(), n, rule}, threads, simd);
    made.insert(made.end(), values.get(), values.get() + n);
    made.insert(made.end(), gradient.get(), gradient.get() + n);
    made.insert(made.end(), latent.get(), latent.get() + n);
    made.insert(made.end(), first.get(), first.get() + n);
    made.insert(made.end(), second.get(), second.get() + groups);
    return made;
}

}  // namespace

int main(int, char** arguments) {
    Random random{std::strtoull(arguments[1], nullptr, 10)};
    const int rounds = std::atoi(arguments[2]);
    for (int i = 0; i < rounds; ++i) {
        const Case given = draw(random, i ? 3000 : 2 * noworse::grids::kAlone);
        const std::vector<double> plain = run(given, 1, noworse::kPortable);
        for (unsigned simd = 0; simd <= noworse::best_simd(); ++simd)
            if (run(given, 1 + static_cast<unsigned>(random.below(4)), simd) != plain) fail("results differ");
    }
    std::printf("%d rounds\n", rounds);
}
