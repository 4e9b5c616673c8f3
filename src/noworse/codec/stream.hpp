// Whole streams: their blocks are coded by several threads.
#pragma once

#include <string>

#include "crc32.hpp"
#include "crew.hpp"
#include "decode.hpp"
#include "encode.hpp"

namespace noworse {

inline std::string hex(std::uint32_t value) {
    std::string text;
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[value >> shift & 15];
    return text;
}

// The coded bytes of a stream: blocks back to back, each with its checksum where the caller has them.
struct Blocks {
    const std::uint8_t* data;
    std::vector<std::size_t> starts;  // one more than blocks
    std::vector<std::uint32_t> checksums;  // the first one, which covers the tables as well, was verified before

    std::size_t size() const { return starts.size() - 1; }

    // Block i, after its checksum was verified.
    Reader open(std::size_t i) const {
        const std::uint8_t *begin = data + starts[i], *end = data + starts[i + 1];
        if (checksums.empty() || i == 0) return {begin, end};
        const std::uint32_t found = crc32(0, begin, end);
        if (found != checksums[i])
            throw std::domain_error("its crc32 is " + hex(found) + ", expected " + hex(checksums[i]));
        return {begin, end};
    }
};

inline std::string damaged(std::size_t i, std::size_t count, const std::string& what) {
    return "block " + std::to_string(i) + " of " + std::to_string(count) + " is damaged: " + what;
}

// A stream to be decoded, in pieces that may come in any order: blocks, or pairs of them where these take less time.
struct StreamJob {
    const Model& model;
    const Slots& slots;
    const ClassMap& classes;
    const Blocks& blocks;
    std::size_t count;
    Sink& sink;
    unsigned simd;

    std::size_t group() const { return decoding_simd(simd) == kGather && !model.tables[0].single ? 2 : 1; }
    std::size_t pieces() const { return (blocks.size() + group() - 1) / group(); }

    void decode(std::size_t piece) const {
        const std::size_t begin = piece * group(), end = std::min(blocks.size(), begin + group());
#ifdef NOWORSE_AVX2
        if (end - begin == 2 && end * kBlock <= count && decode_pair(begin)) return;
#endif
        for (std::size_t i = begin; i < end; ++i) {
            try {
                const std::size_t first = i * kBlock;
                decode_block(model, slots, classes, blocks.open(i), first, std::min(kBlock, count - first), sink, simd);
            } catch (const std::domain_error& error) {
                throw std::domain_error(damaged(i, blocks.size(), error.what()));
            }
        }
    }

  private:
#ifdef NOWORSE_AVX2
    // False where one of them is damaged: decoded one by one they will tell which.
    bool decode_pair(std::size_t i) const {
        try {
            decode_two(model, slots, classes, {blocks.open(i), blocks.open(i + 1)}, i * kBlock, sink);
            return true;
        } catch (const std::domain_error&) {
            return false;
        }
    }
#endif
};

inline void decode_stream(const StreamJob& job, unsigned threads) {
    parallel(job.pieces(), threads, [&](std::size_t i) { job.decode(i); });
}

template <class Code>
std::vector<std::vector<std::uint8_t>> encode_stream(const Model& m, const ClassMap& classes, const Code* codes,
                                                     std::size_t count, unsigned threads, unsigned simd = kAvx512) {
    const EncodeTables tables(m);
    std::vector<std::vector<std::uint8_t>> blocks((count + kBlock - 1) / kBlock);
    parallel(blocks.size(), threads, [&](std::size_t i) {
        const std::size_t first = i * kBlock;
        blocks[i] = encode_block(m, tables, classes, codes + first, first, std::min(kBlock, count - first), simd);
    });
    return blocks;
}

}  // namespace noworse
