// Predicting one binary decision: adaptive probabilities mixed in the logistic domain; the method is described in
// docs/context.md. Integers only, so that every platform predicts the same.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace noworse::context {

static_assert((std::int64_t{-3} >> 1) == -2, "right shifts of negative numbers must round down");

constexpr int kReach = 3071;  // logits lie in [-kReach, kReach], in units of about 1/256: odds up to e^12

// Logits to probabilities in 1/65536 and back.
struct Logistic {
    std::array<std::uint16_t, 2 * kReach + 1> squash_;
    std::array<std::int16_t, 65536> stretch_;

    Logistic() {
        const std::uint64_t one = std::uint64_t{1} << 30;
        std::uint64_t odds = one;  // against: they fall by 1/256 per unit
        for (int x = 0; x <= kReach; ++x) {
            const std::uint64_t p = std::min<std::uint64_t>((one << 16) / (one + odds), 65535);
            squash_[static_cast<std::size_t>(kReach + x)] = static_cast<std::uint16_t>(p);
            squash_[static_cast<std::size_t>(kReach - x)] = static_cast<std::uint16_t>(65536 - p);
            odds -= odds >> 8;
        }
        int x = -kReach;
        for (int p = 0; p < 65536; ++p) {
            while (x < kReach && squash(x) < p) ++x;
            stretch_[static_cast<std::size_t>(p)] = static_cast<std::int16_t>(x);
        }
    }

    int squash(int x) const { return squash_[static_cast<std::size_t>(x + kReach)]; }
    int stretch(std::uint32_t p) const { return stretch_[p]; }
};

inline const Logistic& logistic() {
    static const Logistic tables;
    return tables;
}

// A probability in 1/2^22 above a count of its updates in the low 10 bits.
constexpr std::uint32_t kFreshCounter = 1u << 31;

// What a predictor is made of: how many rows of counters each context has, how fast it learns.
template <std::size_t Contexts>
struct Plan {
    std::array<std::uint32_t, Contexts> rows;
    std::uint32_t decisions;  // counters per row
    std::uint32_t sets;       // of weights
    std::uint32_t curves;     // of the final correction
    std::int32_t weight;      // of each context at the start, in 1/65536
    int first, last;          // learning rates of weights, as right shifts
    std::uint32_t limit;      // of counts
};

template <std::size_t Contexts, std::size_t Features>
class Predictor {
  public:
    std::array<std::uint32_t, Contexts> context{};  // row of counters per context
    std::array<std::int32_t, Features> feature{};   // logits

    explicit Predictor(const Plan<Contexts>& plan)
        : plan_(plan), weights_(plan.sets * kInputs), seen_(plan.sets), curves_(plan.curves * kKnots) {
        std::size_t size = 0;
        for (std::size_t i = 0; i < Contexts; ++i) {
            base_[i] = size;
            size += std::size_t{plan.rows[i]} * plan.decisions;
        }
        counters_.assign(size, kFreshCounter);
        for (std::size_t i = 0; i < weights_.size(); ++i) weights_[i] = i % kInputs < Contexts ? plan.weight : 0;
        for (std::size_t i = 0; i < curves_.size(); ++i) {
            const int x = (static_cast<int>(i % kKnots) - 16) * kKnotStep;
            curves_[i] = static_cast<std::uint16_t>(logistic().squash(std::clamp(x, -kReach, kReach)));
        }
        for (std::uint32_t n = 0; n < 1024; ++n) rate_[n] = 131072 / (2 * n + 3);
    }

    // Codes a bit (a decoder's coder ignores the argument) and learns from it.
    template <class Coder>
    bool code(Coder& coder, bool bit, std::uint32_t decision, std::uint32_t set, std::uint32_t curve) {
        std::array<std::int32_t, kInputs> input;
        std::array<std::uint32_t*, Contexts> counter;
        for (std::size_t i = 0; i < Contexts; ++i) {
            counter[i] = &counters_[base_[i] + std::size_t{context[i]} * plan_.decisions + decision];
            input[i] = logistic_.stretch(*counter[i] >> 16);
        }
        for (std::size_t i = 0; i < Features; ++i) input[Contexts + i] = feature[i];
        input[kInputs - 1] = 256;
        std::int32_t* const weight = &weights_[set * kInputs];
        std::int64_t dot = 0;
        for (std::size_t i = 0; i < kInputs; ++i) dot += std::int64_t{input[i]} * weight[i];
        const int x = static_cast<int>(std::clamp<std::int64_t>(dot >> 16, -kReach, kReach));
        const int mixed = logistic_.squash(x);
        const int at = x + 16 * kKnotStep, part = at % kKnotStep;
        std::uint16_t* const knot = &curves_[curve * kKnots + static_cast<std::size_t>(at / kKnotStep)];
        const int corrected = (knot[0] * (kKnotStep - part) + knot[1] * part) / kKnotStep;
        bit = coder.code(bit, static_cast<std::uint32_t>(std::clamp((mixed + corrected + 1) / 2, 1, 65535)));
        learn(bit, input, weight, set, mixed);
        std::uint16_t& nearer = knot[part >= kKnotStep / 2];
        nearer = static_cast<std::uint16_t>(nearer + (((bit ? 65535 : 0) - nearer) >> 7));
        for (std::uint32_t* c : counter) count(*c, bit);
        return bit;
    }

  private:
    static constexpr std::size_t kInputs = Contexts + Features + 1, kKnots = 33;
    static constexpr int kKnotStep = 192;
    static constexpr std::int32_t kMaxWeight = 1 << 20;

    void learn(bool bit, const std::array<std::int32_t, kInputs>& input, std::int32_t* weight, std::uint32_t set,
               int mixed) {
        const std::int64_t error = (bit ? 65536 : 0) - mixed;
        int shift = plan_.first;
        for (std::uint32_t n = seen_[set] >> 8; n && shift < plan_.last; n >>= 1) ++shift;
        seen_[set] += seen_[set] < (1u << 31);
        const std::int64_t half = std::int64_t{1} << (shift - 1);
        for (std::size_t i = 0; i < kInputs; ++i) {
            const std::int64_t moved = weight[i] + ((input[i] * error + half) >> shift);
            weight[i] = static_cast<std::int32_t>(std::clamp<std::int64_t>(moved, -kMaxWeight, kMaxWeight));
        }
    }

    void count(std::uint32_t& counter, bool bit) const {
        const std::uint32_t n = counter & 1023;
        const std::int64_t p = counter >> 10, target = bit ? (1 << 22) - 1 : 0;
        const std::int64_t moved = p + (((target - p) * rate_[n]) >> 16);
        counter = static_cast<std::uint32_t>(moved) << 10 | (n < plan_.limit ? n + 1 : n);
    }

    const Logistic& logistic_ = logistic();
    Plan<Contexts> plan_;
    std::array<std::size_t, Contexts> base_{};
    std::array<std::uint32_t, 1024> rate_{};
    std::vector<std::uint32_t> counters_;
    std::vector<std::int32_t> weights_;
    std::vector<std::uint32_t> seen_;
    std::vector<std::uint16_t> curves_;
};

}  // namespace noworse::context
