// Counting symbols, and turning weights into integer frequencies that sum to a power of two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "patience.hpp"

namespace noworse {

// Adds the occurrences of lo, lo + 1, ... lo + size - 1 to counts[0 .. size) and returns how many codes lie outside.
// Four partial histograms break the store-to-load dependency of runs of one symbol (most codes are zero).
template <class Code>
std::uint64_t histogram(const Code* codes, std::size_t n, std::int64_t lo, std::size_t size, std::uint64_t* counts) {
    std::vector<std::uint64_t> part(4 * (size + 1), 0);
    std::uint64_t* rows[4];
    for (std::size_t j = 0; j < 4; ++j) rows[j] = part.data() + j * (size + 1);
    in_chunks(n, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::uint64_t index = static_cast<std::uint64_t>(static_cast<std::int64_t>(codes[i]) - lo);
            ++rows[i & 3][index < size ? index : size];
        }
    });
    for (std::size_t k = 0; k < size; ++k) counts[k] = rows[0][k] + rows[1][k] + rows[2][k] + rows[3][k];
    return rows[0][size] + rows[1][size] + rows[2][size] + rows[3][size];
}

// Sets counts[0 .. 256) to the occurrences of each byte.
inline void count_bytes(const std::uint8_t* data, std::size_t n, std::uint64_t* counts) {
    std::fill_n(counts, 256, std::uint64_t{0});
    in_chunks(n, [&](std::size_t i, std::size_t end) {
        std::uint32_t part[4][256] = {};
        for (; i + 8 <= end; i += 8) {
            std::uint64_t x;
            std::memcpy(&x, data + i, 8);
            for (unsigned j = 0; j < 8; ++j) ++part[j & 3][x >> 8 * j & 255];
        }
        for (; i < end; ++i) ++part[0][data[i]];
        for (std::size_t k = 0; k < 256; ++k)
            counts[k] += std::uint64_t{part[0][k]} + part[1][k] + part[2][k] + part[3][k];
    });
}

// Frequencies f with sum 1 << bits and f[k] >= 1 where w[k] > 0, close to the f that minimises -sum w log2 f.
// Start: max(1, floor(w 2^bits / W)). Then single units are moved by greatest gain w / (2f + 1), or least loss
// w / (2f - 1) (log((f + 1) / f) to second order); ties go to the lowest index. Part of the file format.
inline std::vector<std::uint16_t> normalise(const std::uint64_t* w, std::size_t n, unsigned bits) {
    constexpr std::uint64_t kMaxWeight = std::uint64_t{1} << 40;
    const std::uint64_t target = std::uint64_t{1} << bits;
    std::uint64_t total = 0, used = 0, sum = 0;
    for (std::size_t k = 0; k < n; ++k) {
        if (w[k] > kMaxWeight) throw std::invalid_argument("a weight exceeds 2**40");
        total += w[k];
        used += w[k] > 0;
    }
    if (used == 0 || used > target) throw std::invalid_argument("number of used symbols must be in 1..1 << bits");
    if (total > kMaxWeight) throw std::invalid_argument("the weights' sum exceeds 2**40");
    std::vector<std::uint32_t> f(n, 0);
    for (std::size_t k = 0; k < n; ++k) {
        if (w[k] > 0) f[k] = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (w[k] << bits) / total));
        sum += f[k];
    }
    const bool grow = sum < target;
    // a heap of symbols by gain or loss of the next unit, compared by cross multiplication (below 2**56: no overflow)
    const auto later = [&](std::size_t a, std::size_t b) {
        const std::uint64_t left = w[a] * (2 * std::uint64_t{f[b]} + (grow ? 1 : -1));
        const std::uint64_t right = w[b] * (2 * std::uint64_t{f[a]} + (grow ? 1 : -1));
        return left == right ? a > b : grow ? left < right : left > right;
    };
    std::vector<std::size_t> heap;
    for (std::size_t k = 0; k < n; ++k)
        if (f[k] > (grow ? 0u : 1u)) heap.push_back(k);
    std::make_heap(heap.begin(), heap.end(), later);
    for (; sum != target; grow ? ++sum : --sum) {
        std::pop_heap(heap.begin(), heap.end(), later);
        f[heap.back()] += grow ? 1 : -1;
        if (!grow && f[heap.back()] == 1) heap.pop_back();
        else std::push_heap(heap.begin(), heap.end(), later);
    }
    return {f.begin(), f.end()};
}

}  // namespace noworse
