// Python bindings of the coder. Errors: std::invalid_argument (the caller's) and std::domain_error (the bytes') are
// ValueError on the Python side; rans.py turns the latter into CorruptFile.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>

#include "counts.hpp"
#include "rans.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
nb::object to_numpy(std::vector<T>&& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    const std::size_t n = owned->size();
    return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {n}, owner));
}

nb::tuple bounds(Vector<std::int32_t> codes) {
    const std::int32_t* p = codes.data();
    std::int32_t low = 0, high = 0;
    {
        nb::gil_scoped_release release;
        if (codes.size() > 0) low = high = p[0];
        for (std::size_t i = 0; i < codes.size(); ++i) {
            low = std::min(low, p[i]);
            high = std::max(high, p[i]);
        }
    }
    return nb::make_tuple(low, high);
}

nb::tuple histogram(Vector<std::int32_t> codes, std::int64_t lo, std::size_t size) {
    if (size > (std::size_t{1} << 22)) throw std::invalid_argument("a histogram has at most 2**22 bins");
    std::vector<std::uint64_t> counts(size);
    std::uint64_t outside = 0;
    {
        nb::gil_scoped_release release;
        outside = noworse::histogram(codes.data(), codes.size(), lo, size, counts.data());
    }
    return nb::make_tuple(to_numpy(std::move(counts)), outside);
}

nb::object normalise(Vector<std::uint64_t> weights, unsigned bits) {
    if (bits < 1 || bits > 14) throw std::invalid_argument("bits must be in 1..14");
    std::vector<std::uint32_t> wide;
    {
        nb::gil_scoped_release release;
        wide = noworse::normalise(weights.data(), weights.size(), bits);
    }
    return to_numpy(std::vector<std::uint16_t>(wide.begin(), wide.end()));
}

nb::bytes encode_block(Vector<std::int32_t> codes, std::int32_t lo, Vector<std::uint16_t> freqs, unsigned bits,
                       int golomb, bool single) {
    std::vector<std::uint8_t> out;
    {
        nb::gil_scoped_release release;
        out = noworse::encode_block({lo, freqs.data(), freqs.size(), bits, golomb, single}, codes.data(), codes.size());
    }
    return nb::bytes(out.data(), out.size());
}

void decode_block(nb::bytes data, Output out, std::int32_t lo, Vector<std::uint16_t> freqs, unsigned bits, int golomb,
                  bool single) {
    const auto* p = static_cast<const std::uint8_t*>(data.data());
    const std::size_t size = data.size();
    nb::gil_scoped_release release;
    noworse::decode_block({lo, freqs.data(), freqs.size(), bits, golomb, single}, p, size, out.data(), out.size());
}

}  // namespace

void bind_planes(nb::module_& m);  // planes.cpp

// noconvert: nanobind would otherwise pass a converted copy, and decode_block fill that instead of the caller's array
NB_MODULE(_native, m) {
    const auto codes = "codes"_a.noconvert();
    const auto freqs = "freqs"_a.noconvert();
    m.def("bounds", &bounds, codes, "Smallest and largest code; (0, 0) for none.");
    m.def("histogram", &histogram, codes, "lo"_a, "size"_a, "Counts of lo .. lo + size - 1, and of codes outside.");
    m.def("normalise", &normalise, "weights"_a.noconvert(), "bits"_a, "Integer frequencies that sum to 1 << bits.");
    m.def("encode_block", &encode_block, codes, "lo"_a, freqs, "bits"_a, "golomb"_a, "single"_a, "Bytes of one block.");
    m.def("decode_block", &decode_block, "data"_a, "out"_a.noconvert(), "lo"_a, freqs, "bits"_a, "golomb"_a, "single"_a,
          "Fills out with one block.");
    bind_planes(m);
}
