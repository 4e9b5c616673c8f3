// Python bindings of the context coder; see native.cpp for what exceptions mean.
#pragma once

#include <array>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "context.hpp"

namespace noworse::context {

template <class T>
using Array = nanobind::ndarray<T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

// Four numbers per tensor: rows, columns, taps, width; together they cover `count` codes.
inline std::vector<Geometry> geometries(Array<const std::uint64_t> numbers, std::size_t count) {
    std::vector<Geometry> out;
    for (std::size_t i = 0; i + 4 <= numbers.size(); i += 4) {
        std::array<std::size_t, 4> n;
        for (std::size_t k = 0; k < 4; ++k) n[k] = static_cast<std::size_t>(numbers.data()[i + k]);
        if (n[0] == 0 || n[1] == 0 || n[1] > count / n[0] || n[2] == 0 || n[1] % n[2] || n[3] == 0)
            throw std::invalid_argument("a tensor is not rows of channels of taps, or there are too few codes");
        count -= n[0] * n[1];
        out.push_back({n[0], n[1], n[2], n[3]});
    }
    if (count > 0) throw std::invalid_argument("there are more codes than the tensors have");
    return out;
}

inline nanobind::list encode_codes(Array<const std::int32_t> codes, Array<const std::uint64_t> tensors) {
    const auto shapes = geometries(tensors, codes.size());
    std::vector<std::vector<std::uint8_t>> blocks;
    {
        nanobind::gil_scoped_release release;
        in_chunks(codes.size(), [data = codes.data()](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i)
                if (std::abs(std::int64_t{data[i]}) > kMaxMagnitude)
                    throw std::invalid_argument("a code lies beyond +-2**30");
        });
        blocks = encode(shapes, codes.data());
    }
    nanobind::list out;
    for (const auto& block : blocks) out.append(nanobind::bytes(block.data(), block.size()));
    return out;
}

inline void decode_codes(nanobind::tuple blocks, Array<std::int32_t> out, Array<const std::uint64_t> tensors) {
    const auto shapes = geometries(tensors, out.size());
    if (blocks.size() != (out.size() + kBlock - 1) / kBlock)
        throw std::domain_error("the number of blocks does not fit the number of codes");
    std::vector<Bytes> data;
    for (nanobind::handle block : blocks) {
        const auto bytes = nanobind::cast<nanobind::bytes>(block);
        data.push_back({static_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
    }
    nanobind::gil_scoped_release release;
    decode(shapes, data, out.data());
}

inline void bind(nanobind::module_& m) {
    using namespace nanobind::literals;
    const auto tensors = "tensors"_a.noconvert();
    m.def("encode_context", &encode_codes, "codes"_a.noconvert(), tensors, "Context-coded blocks of several tensors.");
    m.def("decode_context", &decode_codes, "blocks"_a, "out"_a.noconvert(), tensors, "Fills out with their codes.");
}

}  // namespace noworse::context
