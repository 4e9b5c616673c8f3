// A whole number as an entropy coder: asymmetric numeral systems (Duda 2013) without renormalisation.
//
// A number x holds a message. Pushing a value that occupies `freq` of `1 << bits` slots, from slot `start` on, makes x
// about (1 << bits) / freq times larger, which is what the value costs:
//
//     x  ->  (x div freq) << bits  +  start  +  x mod freq
//
// Popping reads the slot x mod (1 << bits), finds the value it belongs to, and inverts the step. Last in, first out:
// the writer therefore collects its values and pushes them from the last to the first. The number starts at 0 and is
// stored as little-endian bytes without trailing zeros, so a message wastes about a byte. The work grows with the
// square of the length, which suits messages of a few bytes up to a few thousand: frequency tables.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace noworse {

constexpr std::uint32_t kUnaryLimit = 20;
constexpr std::size_t kMaxNumberBytes = 1 << 14;
constexpr unsigned kMaxLog = 32;

// Collects values in the order in which a NumberReader will return them.
class NumberWriter {
  public:
    // A value in 0 .. 2**bits - 1, at `bits` bits.
    void uniform(std::uint64_t value, unsigned bits) { pushed_.push_back({value, 1, bits}); }

    // A decision of probability t / 16: no owns the slots below 16 - t, yes the t slots above.
    void more(bool yes, unsigned t) { pushed_.push_back(yes ? Slots{16 - t, t, 4} : Slots{0, 16 - t, 4}); }

    // A value >= 0 as exponential Golomb code: m = (value >> order) + 1 costs 2 log2 m + 1 bits.
    void gamma(std::uint64_t value, unsigned order) {
        const std::uint64_t m = (value >> order) + 1;
        unsigned log = 0;
        while (m >> (log + 1)) ++log;
        for (unsigned i = 0; i < log; ++i) more(true, 8);
        more(false, 8);
        uniform(m - (std::uint64_t{1} << log), log);
        uniform(value & ((std::uint64_t{1} << order) - 1), order);
    }

    // A value >= 0 as `value >> order` steps, geometrically distributed, and `order` low bits.
    void unary(std::uint32_t value, unsigned t, unsigned order) {
        const std::uint32_t steps = value >> order;
        for (std::uint32_t i = 0; i < std::min(steps, kUnaryLimit); ++i) more(true, t);
        if (steps < kUnaryLimit) more(false, t);
        else gamma(steps - kUnaryLimit, 0);
        uniform(value & ((1u << order) - 1), order);
    }

    // Length of the number to be.
    double bits() const {
        double sum = 0;
        for (const Slots& s : pushed_) sum += s.bits - (s.freq == 1 ? 0.0 : std::log2(static_cast<double>(s.freq)));
        return sum;
    }

    std::vector<std::uint8_t> bytes() const {
        std::vector<std::uint32_t> x;  // lowest digit first
        for (auto s = pushed_.rbegin(); s != pushed_.rend(); ++s) {
            std::uint64_t rest = 0;
            if (s->freq > 1) {
                for (std::size_t i = x.size(); i-- > 0;) {
                    rest = rest << 32 | x[i];
                    x[i] = static_cast<std::uint32_t>(rest / s->freq);
                    rest %= s->freq;
                }
            }
            shift_in(x, s->bits, s->start + rest);
        }
        std::vector<std::uint8_t> out;
        for (const std::uint32_t digit : x)
            for (unsigned b = 0; b < 32; b += 8) out.push_back(static_cast<std::uint8_t>(digit >> b));
        while (!out.empty() && out.back() == 0) out.pop_back();
        return out;
    }

  private:
    struct Slots {
        std::uint64_t start;
        std::uint32_t freq;
        unsigned bits;
    };

    // x = (x << bits) + low, with low < 1 << bits and bits <= 32
    static void shift_in(std::vector<std::uint32_t>& x, unsigned bits, std::uint64_t low) {
        std::uint64_t carry = low;
        for (std::uint32_t& digit : x) {
            carry |= static_cast<std::uint64_t>(digit) << bits;
            digit = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        if (carry) x.push_back(static_cast<std::uint32_t>(carry));
    }

    std::vector<Slots> pushed_;
};

// Returns the values of a NumberWriter in order; std::domain_error where the bytes hold none.
class NumberReader {
  public:
    NumberReader(const std::uint8_t* data, std::size_t size) {
        if (size > kMaxNumberBytes)
            throw std::domain_error("a frequency table has " + std::to_string(size) + " bytes, expected at most 16384");
        if (size > 0 && data[size - 1] == 0)
            throw std::domain_error("a frequency table ends in a zero byte, which no writer stores");
        x_.assign((size + 3) / 4, 0);
        for (std::size_t i = 0; i < size; ++i) x_[i / 4] |= static_cast<std::uint32_t>(data[i]) << (8 * (i % 4));
    }

    std::uint64_t uniform(unsigned bits) {
        const std::uint64_t value = low() & ((std::uint64_t{1} << bits) - 1);
        multiply(bits, 1, 0);
        return value;
    }

    bool more(unsigned t) {
        const std::uint32_t slot = static_cast<std::uint32_t>(low() & 15);
        const bool yes = slot >= 16 - t;
        multiply(4, yes ? t : 16 - t, yes ? slot - (16 - t) : slot);
        return yes;
    }

    std::uint64_t gamma(unsigned order) {
        unsigned log = 0;
        while (more(8))
            if (++log > kMaxLog) throw std::domain_error("a number in a frequency table has more than 32 bits");
        const std::uint64_t m = (std::uint64_t{1} << log) + uniform(log);
        return ((m - 1) << order) + uniform(order);
    }

    std::uint64_t unary(unsigned t, unsigned order) {
        std::uint64_t steps = 0;
        while (steps < kUnaryLimit && more(t)) ++steps;
        if (steps == kUnaryLimit) steps += gamma(0);
        return (steps << order) + uniform(order);
    }

    void finish() const {
        if (!x_.empty()) throw std::domain_error("a frequency table has bytes left after its last value");
    }

  private:
    std::uint64_t low() const {
        return x_.empty() ? 0 : x_[0] | (x_.size() > 1 ? static_cast<std::uint64_t>(x_[1]) << 32 : 0);
    }

    // x = (x >> shift) * factor + add
    void multiply(unsigned shift, std::uint64_t factor, std::uint64_t add) {
        std::uint64_t carry = add;
        for (std::size_t i = 0; i < x_.size(); ++i) {
            const std::uint64_t both = x_[i] | (i + 1 < x_.size() ? static_cast<std::uint64_t>(x_[i + 1]) << 32 : 0);
            carry += ((both >> shift) & 0xFFFFFFFFu) * factor;
            x_[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        if (carry) x_.push_back(static_cast<std::uint32_t>(carry));
        while (!x_.empty() && x_.back() == 0) x_.pop_back();
    }

    std::vector<std::uint32_t> x_;  // lowest digit first, the highest not zero
};

}  // namespace noworse
