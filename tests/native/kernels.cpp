// The kernels of tuning on their own, to be compiled with sanitizers: `kernels SEED ROUNDS` rounds, counts and moves
// random weights in arrays of exactly their size, on every instruction set, and compares what they wrote.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "../propose/grids/rounding.hpp"
#include "random.hpp"
#include "../tune/adam.hpp"

namespace {

using noworse::grids::Cells;

template <class T>
std::unique_ptr<T[]> exact(const std::vector<T>& from) {
    std::unique_ptr<T[]> copy(new T[from.size()]);
    std::copy(from.begin(), from.end(), copy.get());
    return copy;
}

struct Made {
    std::vector<float> values, gradient, moved, second;
    std::vector<std::uint32_t> counts;
    std::vector<std::uint16_t> first;
    std::array<double, 2> sums;
    noworse::grids::Rates rates;
    bool operator==(const Made& other) const {
        return values == other.values && gradient == other.gradient && moved == other.moved && second == other.second &&
               counts == other.counts && first == other.first && sums == other.sums && rates.bits == other.rates.bits &&
               rates.by_log_step == other.rates.by_log_step && rates.by_zone == other.rates.by_zone;
    }
};

struct Case {
    std::vector<float> latent, gradient;
    noworse::grids::Scale scale;
    int finest;
};

Case draw(Random& random) {
    Case found;
    const std::size_t n = 1 + random.below(random.below(2) ? 40 : 3000);
    const float scale = std::ldexp(1.0f, static_cast<int>(random.below(22)) - 8);
    for (std::size_t i = 0; i < n; ++i) {
        const auto unit = [&] { return static_cast<float>(random.below(1 << 20)) / (1 << 19) - 1; };
        found.latent.push_back(random.below(9) ? unit() * unit() * unit() * scale : random.below(2) ? 0.0f : -0.0f);
        found.gradient.push_back(unit());
    }
    found.scale = {0.5f + static_cast<float>(random.below(64)) / 64, 0.3f, static_cast<float>(26 + random.below(230)) / 64};
    found.finest = random.below(2) ? 32 : 1;
    return found;
}

Made run(const Case& given, unsigned simd) {
    const std::size_t n = given.latent.size();
    const auto latent = exact(given.latent), gradient = exact(given.gradient), values = exact(given.latent);
    std::int32_t bits;
    noworse::run_cloned(noworse::grids::Reach{latent.get(), n, &bits}, simd);
    float reach;
    std::memcpy(&reach, &bits, sizeof reach);
    const Cells cells = noworse::grids::lay_out(reach * given.scale.ratio, given.scale.r, given.finest);
    const auto counts = exact(std::vector<std::uint32_t>(cells.size(), 0));
    Made made;
    noworse::run_cloned(noworse::grids::Round{latent.get(), values.get(), n, given.scale, cells, counts.get()}, simd);
    made.rates = noworse::grids::Entropy(counts.get(), cells, given.scale.r, given.finest > 1 ? 0.25 : 0).rates();
    noworse::run_cloned(noworse::grids::Descend{latent.get(), gradient.get(), n, given.scale, 0.7f, &made.sums}, simd);
    const std::size_t groups = (n + 7) / 8;
    const auto first = exact(std::vector<std::uint16_t>(n, 0x3f80));
    const auto second = exact(std::vector<float>(groups, 0.25f));
    const noworse::adam::Rule rule{0.1f, 0.999f, 0.001f, 1e-8f, 0.5f, -0.01f};
    noworse::run_cloned(noworse::adam::Step{latent.get(), gradient.get(), first.get(), second.get(), n, rule}, simd);
    made.values.assign(values.get(), values.get() + n);
    made.gradient.assign(gradient.get(), gradient.get() + n);
    made.moved.assign(latent.get(), latent.get() + n);
    made.counts.assign(counts.get(), counts.get() + cells.size());
    made.first.assign(first.get(), first.get() + n);
    made.second.assign(second.get(), second.get() + groups);
    return made;
}

}  // namespace

int main(int, char** arguments) {
    Random random{std::strtoull(arguments[1], nullptr, 10)};
    const int rounds = std::atoi(arguments[2]);
    for (int i = 0; i < rounds; ++i) {
        const Case given = draw(random);
        const Made plain = run(given, noworse::kPortable);
        std::size_t counted = 0;
        for (const std::uint32_t count : plain.counts) counted += count;
        if (counted != given.latent.size()) fail("weights were not counted once each");
        for (unsigned simd = 1; simd <= noworse::best_simd(); ++simd)
            if (!(run(given, simd) == plain)) fail("instruction sets differ");
    }
    std::printf("%d rounds\n", rounds);
}
