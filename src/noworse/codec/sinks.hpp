// Where decoded symbols go: codes, bytes, or straight to the float32 values of a grid.
#pragma once

#include <cstring>
#include <string>

#include "rounds.hpp"

namespace noworse {

class Sink {
  public:
    virtual ~Sink() = default;
    // Symbols lo + k[0] .. lo + k[n - 1] to elements i .. i + n - 1; k may be end - lo where an escape symbol is.
    virtual void put(std::size_t i, const std::uint32_t* k, std::size_t n) = 0;
    // Where element i goes, and how many bytes one takes.
    virtual char* at(std::size_t i) = 0;
    virtual std::size_t width() const = 0;
    // How the loops can write to `at` themselves, which saves a pass; numbers where they cannot.
    virtual Emission emission(std::uint32_t escape) const = 0;
    virtual void set(std::size_t i, std::int32_t value) = 0;
};

// Which of up to 32 numbers are `value`, a bit for each.
inline std::uint32_t matches(const std::uint32_t* k, std::size_t n, std::uint32_t value) {
    std::uint32_t set = 0;
    for (std::size_t j = 0; j < n; ++j) set |= static_cast<std::uint32_t>(k[j] == value) << j;
    return set;
}

template <class Code>
NOWORSE_INLINE void add_low(Code* out, const std::uint32_t* k, std::size_t n, std::uint32_t lo) {
    for (std::size_t j = 0; j < n; ++j) out[j] = static_cast<Code>(lo + k[j]);
}

// The same bodies for two instruction sets: the compiler turns the loops into vectors of either.
#ifdef NOWORSE_AVX2
__attribute__((target("avx2"))) inline std::uint32_t matches_avx2(const std::uint32_t* k, std::uint32_t value) {
    const __m256i wanted = _mm256_set1_epi32(static_cast<int>(value));
    std::uint32_t set = 0;
    for (unsigned v = 0; v < 4; ++v) {
        const __m256i equal = _mm256_cmpeq_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(k) + v), wanted);
        set |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(equal))) << (8 * v);
    }
    return set;
}
template <class Code>
__attribute__((target("avx2"))) void add_low_avx2(Code* out, const std::uint32_t* k, std::size_t n, std::uint32_t lo) {
    add_low(out, k, n, lo);
}
#endif

inline std::uint32_t matches(const std::uint32_t* k, std::size_t n, std::uint32_t value, [[maybe_unused]] bool simd) {
#ifdef NOWORSE_AVX2
    if (simd && n == 32) return matches_avx2(k, value);
#endif
    return matches(k, n, value);
}

template <class Code>
class CodeSink final : public Sink {
  public:
    CodeSink(Code* out, std::int64_t lo, std::int64_t end, unsigned simd)
        : out_(out), lo_(static_cast<std::uint32_t>(lo)), simd_(simd && has_avx2()) {
        if (static_cast<Code>(lo) != lo || static_cast<Code>(end - 1) != end - 1)
            throw std::domain_error("a stream of bytes has symbols from " + std::to_string(lo) + " to " +
                                    std::to_string(end - 1));
    }
    void put(std::size_t i, const std::uint32_t* k, std::size_t n) override {
#ifdef NOWORSE_AVX2
        if (simd_) return add_low_avx2(out_ + i, k, n, lo_);
#endif
        add_low(out_ + i, k, n, lo_);
    }
    char* at(std::size_t i) override { return reinterpret_cast<char*>(out_ + i); }
    std::size_t width() const override { return sizeof(*out_); }
    Emission emission(std::uint32_t escape) const override {
        if (!simd_ || sizeof(Code) != 4) return {};
        return {Emit::kCodes, static_cast<std::int32_t>(lo_), 0, 0, lo_ + escape};
    }
    void set(std::size_t i, std::int32_t value) override {
        if (static_cast<Code>(value) != value)
            throw std::domain_error("a stream of bytes has the symbol " + std::to_string(value));
        out_[i] = static_cast<Code>(value);
    }

  private:
    Code* out_;
    std::uint32_t lo_;
    bool simd_;
};

// value(0) = 0, value(k) = sign(k) (edge + 64 |k| - 32) scale: the product is exact in float64 and rounded once.
struct GridScale {
    double scale;  // step / 64
    int edge;

    float value(std::int64_t k) const {
        const double units = static_cast<double>(k == 0 ? 0 : k > 0 ? 64 * k + edge - 32 : 64 * k - edge + 32);
        return static_cast<float>(units * scale);
    }
    // Whether products of integers and scale in float32 are rounded once as well (both factors are exact there) and all
    // different, that is, neither denormal nor infinite.
    bool fits(std::int64_t lo, std::int64_t end) const {
        const auto exact = [](double x) { return static_cast<double>(static_cast<float>(x)) == x; };
        return lo > -(1 << 17) && end < (1 << 17) && scale >= 1e-30 && scale <= 1e30 && exact(scale) &&
               exact((edge - 32) * scale);
    }
};

class FloatSink final : public Sink {
  public:
    FloatSink(float* out, std::int64_t lo, std::int64_t end, const GridScale& grid, unsigned simd)
        : out_(out),
          lo_(static_cast<std::int32_t>(lo)),
          grid_(grid),
          fits_(grid.fits(lo, end)),
          simd_(simd && has_avx2()) {}

    void put(std::size_t i, const std::uint32_t* k, std::size_t n) override {
        if (!fits_) {
            for (std::size_t j = 0; j < n; ++j) out_[i + j] = grid_.value(std::int64_t{lo_} + k[j]);
            return;
        }
#ifdef NOWORSE_AVX2
        if (simd_) return put_avx2(i, k, n);
#endif
        put_small(out_ + i, k, n);
    }
    char* at(std::size_t i) override { return reinterpret_cast<char*>(out_ + i); }
    std::size_t width() const override { return sizeof(*out_); }
    Emission emission(std::uint32_t escape) const override {
        if (!simd_ || !fits_) return {};
        const float value = grid_.value(std::int64_t{lo_} + escape);  // differs from those of all codes in use
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        return {Emit::kValues, lo_, grid_.edge - 32, static_cast<float>(grid_.scale), bits};
    }
    void set(std::size_t i, std::int32_t value) override { out_[i] = grid_.value(value); }

  private:
    NOWORSE_INLINE void put_small(float* out, const std::uint32_t* k, std::size_t n) const {
        const std::int32_t lo = lo_, zone = grid_.edge - 32;
        const float scale = static_cast<float>(grid_.scale);
        for (std::size_t j = 0; j < n; ++j) {
            const std::int32_t code = lo + static_cast<std::int32_t>(k[j]);
            const std::int32_t units = 64 * code + (code > 0 ? zone : code < 0 ? -zone : 0);
            out[j] = static_cast<float>(units) * scale;
        }
    }
#ifdef NOWORSE_AVX2
    __attribute__((target("avx2"))) void put_avx2(std::size_t i, const std::uint32_t* k, std::size_t n) const {
        put_small(out_ + i, k, n);
    }
#endif

    float* out_;
    std::int32_t lo_;
    GridScale grid_;
    bool fits_, simd_;
};

}  // namespace noworse
