// Binary arithmetic coding in blocks; the byte layout is described in docs/context.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace noworse::context {

// The interval [low, high] is split in proportion to the probability of a one, in 1/65536.
class BlockEncoder {
  public:
    void next_block() {
        if (!blocks.empty()) finish();
        blocks.emplace_back();
        low_ = 0;
        high_ = 0xFFFFFFFFu;
    }

    bool code(bool bit, std::uint32_t one) {
        const std::uint32_t split = low_ + static_cast<std::uint32_t>((std::uint64_t{high_ - low_} * one) >> 16);
        (bit ? high_ : low_) = bit ? split : split + 1;
        for (; (low_ ^ high_) >> 24 == 0; low_ <<= 8, high_ = high_ << 8 | 255)
            blocks.back().push_back(static_cast<std::uint8_t>(high_ >> 24));
        return bit;
    }

    // The shortest number within the interval; zeros at the end are understood.
    void finish() {
        std::vector<std::uint8_t>& out = blocks.back();
        for (int bytes = low_ == 0 ? 0 : 1; bytes <= 4; ++bytes) {
            const std::uint64_t rest = (std::uint64_t{1} << (32 - 8 * bytes)) - 1;
            const std::uint64_t value = (low_ + rest) & ~rest;
            if (bytes > 0 && value > high_) continue;
            for (int b = 0; b < bytes; ++b) out.push_back(static_cast<std::uint8_t>(value >> (24 - 8 * b)));
            break;
        }
        while (!out.empty() && out.back() == 0) out.pop_back();
    }

    std::vector<std::vector<std::uint8_t>> blocks;

  private:
    std::uint32_t low_ = 0, high_ = 0;
};

struct Bytes {
    const std::uint8_t* data;
    std::size_t size;
};

class BlockDecoder {
  public:
    explicit BlockDecoder(const std::vector<Bytes>& blocks) : blocks_(blocks) {}

    void next_block() {
        if (number_ > 0) finish();
        block_ = blocks_.at(number_++);
        if (block_.size > 0 && block_.data[block_.size - 1] == 0)
            throw std::domain_error("a block ends in a zero byte, which no writer stores");
        low_ = value_ = 0;
        at_ = 0;
        high_ = 0xFFFFFFFFu;
        for (int i = 0; i < 4; ++i) shift_in();
    }

    bool code(bool, std::uint32_t one) {
        const std::uint32_t split = low_ + static_cast<std::uint32_t>((std::uint64_t{high_ - low_} * one) >> 16);
        const bool bit = value_ <= split;
        (bit ? high_ : low_) = bit ? split : split + 1;
        for (; (low_ ^ high_) >> 24 == 0; low_ <<= 8, high_ = high_ << 8 | 255) shift_in();
        return bit;
    }

    void finish() const {
        if (at_ < block_.size) throw std::domain_error("bytes are left after the last symbol of a block");
    }

  private:
    void shift_in() {
        value_ = value_ << 8 | (at_ < block_.size ? block_.data[at_] : 0);
        ++at_;
    }

    const std::vector<Bytes>& blocks_;
    std::size_t number_ = 0, at_ = 0;
    Bytes block_{nullptr, 0};
    std::uint32_t low_ = 0, high_ = 0, value_ = 0;
};

}  // namespace noworse::context
