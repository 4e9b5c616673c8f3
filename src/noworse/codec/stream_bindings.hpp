// What Python passes to the decoders of streams: tables, lengths of blocks, scales.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include "stream.hpp"
#include "tables.hpp"

namespace nb = nanobind;

namespace noworse {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Output = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = Vector<std::uint8_t>;
using Scales = std::optional<std::pair<Vector<std::int32_t>, Vector<std::int32_t>>>;

// The tables of a stream, parsed, with what decoding needs: made once, used for all pieces of the stream.
class Tables {
  public:
    Tables(nb::bytes data, bool classes)
        : parsed_(read_tables(static_cast<const std::uint8_t*>(data.data()), data.size(), classes)) {
        if (!constant()) {
            check(parsed_.model);
            slots_.emplace(parsed_.model);
        }
    }

    bool constant() const { return parsed_.model.tables[0].constant(); }
    const StreamTables& parsed() const { return parsed_; }
    const Slots& slots() const { return *slots_; }
    std::int64_t low() const { return constant() ? parsed_.model.tables[0].lo : slots_->lo; }
    std::int64_t high() const { return constant() ? low() : slots_->lo + std::int64_t{slots_->escape} - 1; }
    std::size_t size() const { return parsed_.model.tables.size(); }

  private:
    StreamTables parsed_;
    std::optional<Slots> slots_;
};

inline ClassMap class_map(const Scales& scales, const std::vector<std::uint8_t>& of, std::size_t count) {
    if (!scales) {
        if (!of.empty()) throw std::invalid_argument("tables with classes need scales of rows and columns");
        return {};
    }
    const auto& [rows, columns] = *scales;
    if (of.empty()) throw std::invalid_argument("scales need tables with classes");
    if (columns.size() == 0 || count % columns.size() != 0 || count / columns.size() != rows.size())
        throw std::invalid_argument("the scales do not fit the number of symbols");
    return {rows.data(), rows.size(), columns.data(), columns.size(), of};
}

// How a caller describes the blocks of a stream: lengths in bytes, and checksums where they are to be verified; the
// first one the caller has verified before reading the tables.
struct Lengths {
    Lengths(std::vector<std::size_t> blocks, std::vector<std::uint32_t> checksums)
        : blocks(std::move(blocks)), checksums(std::move(checksums)) {
        if (!this->checksums.empty() && this->checksums.size() != this->blocks.size())
            throw std::invalid_argument("expected one checksum per block");
    }
    std::vector<std::size_t> blocks;
    std::vector<std::uint32_t> checksums;
};

inline Blocks blocks_of(const Bytes& data, const Lengths& lengths, std::size_t count) {
    const std::size_t expected = count / kBlock + (count % kBlock != 0);
    if (lengths.blocks.size() != expected)
        throw std::domain_error("a stream of " + std::to_string(count) + " symbols has " +
                                std::to_string(lengths.blocks.size()) + " blocks, expected " +
                                std::to_string(expected));
    Blocks blocks{data.data(), {0}, lengths.checksums};
    for (const std::size_t length : lengths.blocks) {
        if (length > data.size() - blocks.starts.back()) throw std::domain_error("the data of a stream end early");
        blocks.starts.push_back(blocks.starts.back() + length);
    }
    if (blocks.starts.back() != data.size()) throw std::domain_error("bytes follow the last block of a stream");
    return blocks;
}

inline void decode_constant(const Blocks& blocks, std::size_t count, Sink& sink) {
    for (std::size_t i = 0; i < blocks.size(); ++i)
        if (blocks.open(i).left() > 0)
            throw std::domain_error("a constant stream has a block with bytes, expected none");
    const std::vector<std::uint32_t> first(4096, 0);  // the alphabet has one symbol
    Patience patience;
    for (std::size_t i = 0; i < count; i += first.size(), patience.spend(first.size()))
        sink.put(i, first.data(), std::min(first.size(), count - i));
}

}  // namespace noworse
