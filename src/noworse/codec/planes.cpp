// Python bindings of the byte planes; see planes.hpp and representation/raw.py.
#include "patience.hpp"
#include "planes.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void take_plane(Bytes data, unsigned width, unsigned plane, bool rotate, Output out) {
    noworse::check_plane(data.size(), width, plane, out.size());
    const std::uint8_t* from = data.data();
    std::uint8_t* to = out.data();
    const std::size_t count = out.size();
    nb::gil_scoped_release release;
    noworse::in_chunks(count, [&](std::size_t begin, std::size_t end) {
        noworse::take_bytes(from + begin * width, end - begin, width, plane, rotate, to + begin);
    });
}

void put_planes(const std::vector<Bytes>& planes, bool rotate, Output out) {
    const std::size_t width = planes.size();
    noworse::check_width(width);
    const std::uint8_t* from[8];
    for (std::size_t p = 0; p < width; ++p) {
        if (out.size() / width != planes[p].size() || out.size() % width)
            throw std::invalid_argument("sizes do not fit");
        from[p] = planes[p].data();
    }
    std::uint8_t* to = out.data();
    const std::size_t count = out.size() / width;
    nb::gil_scoped_release release;
    noworse::in_chunks(count, [&](std::size_t begin, std::size_t end) {
        const std::uint8_t* part[8];
        for (std::size_t p = 0; p < width; ++p) part[p] = from[p] + begin;
        noworse::join_planes(part, end - begin, width, rotate, to + begin * width);
    });
}

}  // namespace

void bind_planes(nb::module_& m) {
    m.def("take_plane", &take_plane, "data"_a.noconvert(), "width"_a, "plane"_a, "rotate"_a, "out"_a.noconvert(),
          "Fills out with one byte of every element.");
    m.def("put_planes", &put_planes, "planes"_a.noconvert(), "rotate"_a, "out"_a.noconvert(),
          "Fills out with elements, the inverse of take_plane for all planes.");
}
