// The different values among words, as long as they are few.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "patience.hpp"

namespace noworse {

constexpr std::size_t kFew = 256;

// The values in order of first use, and in `out` the number of each word's; what is more than `most` ends it, and `most`
// and one more are returned then.
template <class Word>
std::vector<Word> distinct(const Word* words, std::size_t n, std::size_t most, std::int32_t* out) {
    constexpr unsigned kBits = 10;
    std::array<std::uint16_t, 1 << kBits> numbers{};  // by hash, plus one
    std::vector<Word> found;
    in_chunks(n, [&](std::size_t i, std::size_t end) {
        for (; i < end && found.size() <= most; ++i) {
            std::size_t slot = (std::uint64_t{words[i]} * 0x9E3779B97F4A7C15u) >> (64 - kBits);
            while (numbers[slot] && found[numbers[slot] - 1u] != words[i]) slot = (slot + 1) % numbers.size();
            if (!numbers[slot]) {
                found.push_back(words[i]);
                numbers[slot] = static_cast<std::uint16_t>(found.size());
            }
            out[i] = numbers[slot] - 1;
        }
    });
    return found;
}

}  // namespace noworse
