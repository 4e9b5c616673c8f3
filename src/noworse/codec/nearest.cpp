// Python bindings of nearest.hpp. Elements are float32, float64, or uint16 for the bits of bfloat16.
#include "fingerprint.hpp"
#include "nearest.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>

#include <numeric>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
const auto* elements(const In<T>& array) {
    if constexpr (sizeof(T) == 2) return reinterpret_cast<const noworse::Bfloat16*>(array.data());
    else return array.data();
}

void check_sizes(std::size_t a, std::size_t b) {
    if (a != b) throw std::invalid_argument("sizes do not fit");
}

template <class T>
std::size_t nearest(In<T> values, double step, double r, double largest, Out<std::int32_t> out, unsigned threads) {
    check_sizes(values.size(), out.size());
    nb::gil_scoped_release release;
    const auto* from = elements<T>(values);
    const noworse::Lattice lattice{step, r, largest};
    std::vector<std::size_t> far(values.size() / noworse::kPiece + 1, 0);
    noworse::in_pieces(values.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t i) {
        far[i] = noworse::nearest_codes_best(from + begin, end - begin, lattice, out.data() + begin);
    });
    return std::accumulate(far.begin(), far.end(), std::size_t{0});
}

template <class T>
std::tuple<double, std::uint64_t, double, double, double> extent(In<T> values, double most, unsigned threads) {
    nb::gil_scoped_release release;
    const auto* from = elements<T>(values);
    std::vector<noworse::Extent> found(values.size() / noworse::kPiece + 1);
    noworse::in_pieces(values.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t i) {
        found[i] = noworse::extent_of_best(from + begin, end - begin, most);
    });
    noworse::Extent all;
    for (const noworse::Extent& part : found) all.add(part);
    return {all.square, all.count, all.low, all.high, all.smallest};
}

template <class T>
std::pair<double, double> squares(In<T> before, In<T> after, unsigned threads) {
    check_sizes(before.size(), after.size());
    nb::gil_scoped_release release;
    const auto *old = elements<T>(before), *now = elements<T>(after);
    std::vector<std::pair<double, double>> found(before.size() / noworse::kPiece + 1);
    noworse::in_pieces(before.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t i) {
        found[i] = noworse::squares_of_best(old + begin, now + begin, end - begin);
    });
    std::pair<double, double> all{0, 0};
    for (const auto& [error, square] : found) all.first += error, all.second += square;
    return all;
}

void values(In<std::int32_t> codes, double step, int edge, Out<float> out, unsigned threads) {
    check_sizes(codes.size(), out.size());
    nb::gil_scoped_release release;
    const noworse::GridScale scale{step / 64, edge};
    noworse::in_pieces(codes.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t) {
        noworse::values_of_best(codes.data() + begin, end - begin, scale, out.data() + begin);
    });
}

// squares() of what codes stand for, which is never held as a whole.
template <class T>
std::pair<double, double> grid_squares(In<T> before, In<std::int32_t> codes, double step, int edge, unsigned threads) {
    check_sizes(before.size(), codes.size());
    nb::gil_scoped_release release;
    const auto* old = elements<T>(before);
    const noworse::GridScale scale{step / 64, edge};
    std::vector<std::pair<double, double>> found(before.size() / noworse::kPiece + 1);
    noworse::in_pieces(before.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t i) {
        const auto add = [&](std::size_t at, std::size_t n, const float* values) {
            const auto [error, square] = noworse::squares_of_best(old + begin + at, values, n);
            found[i].first += error, found[i].second += square;
        };
        noworse::with_values(codes.data() + begin, end - begin, scale, add);
    });
    std::pair<double, double> all{0, 0};
    for (const auto& [error, square] : found) all.first += error, all.second += square;
    return all;
}

std::uint64_t grid_fingerprint(In<std::int32_t> codes, double step, int edge, unsigned threads) {
    nb::gil_scoped_release release;
    const noworse::GridScale scale{step / 64, edge};
    std::vector<std::uint64_t> found(codes.size() / noworse::kPiece + 1, 0);
    noworse::in_pieces(codes.size(), threads, [&](std::size_t begin, std::size_t end, std::size_t i) {
        noworse::with_values(codes.data() + begin, end - begin, scale,
                             [&](std::size_t at, std::size_t n, const float* values) {
                                 const std::size_t first = (begin + at) * sizeof(float);
                                 const auto* bytes = reinterpret_cast<const std::uint8_t*>(values);
                                 found[i] += noworse::fingerprint_of_part(bytes, first, first + n * sizeof(float));
                             });
    });
    return std::accumulate(found.begin(), found.end(), std::uint64_t{0});
}

void costs(In<double> sample, In<double> steps, In<double> rs, Out<double> bits, Out<double> errors, unsigned threads) {
    for (const std::size_t size : {bits.size(), errors.size()}) check_sizes(steps.size() * rs.size(), size);
    if (sample.size() == 0) throw std::invalid_argument("a sample of no elements");
    nb::gil_scoped_release release;
    noworse::costs_of({sample.data(), sample.size()}, steps.data(), steps.size(), rs.data(), rs.size(), bits.data(),
                      errors.data(), threads);
}

template <class T>
void bind_elements(nb::module_& m) {
    const auto threads = nb::arg("threads") = 0;
    m.def("nearest", &nearest<T>, "values"_a.noconvert(), "step"_a, "r"_a, "largest"_a, "out"_a.noconvert(), threads,
          "Fills out with codes, 0 beyond the largest magnitude, and returns how many elements are beyond.");
    m.def("extent", &extent<T>, "values"_a.noconvert(), "most"_a, threads,
          "Sum of squares, count, least, greatest, least magnitude but 0, of elements of at most this magnitude.");
    m.def("squares", &squares<T>, "before"_a.noconvert(), "after"_a.noconvert(), threads,
          "Sums of squares of the difference and of what was before.");
    m.def("grid_squares", &grid_squares<T>, "before"_a.noconvert(), "codes"_a.noconvert(), "step"_a, "edge"_a, threads,
          "The same where codes on a grid without a form tell what is after.");
}

}  // namespace

void bind_nearest(nb::module_& m) {
    bind_elements<float>(m);
    bind_elements<double>(m);
    bind_elements<std::uint16_t>(m);
    const auto threads = nb::arg("threads") = 0;
    m.def("grid_values", &values, "codes"_a.noconvert(), "step"_a, "edge"_a, "out"_a.noconvert(), threads,
          "Fills out with the values of codes on a grid without a form.");
    m.def("grid_fingerprint", &grid_fingerprint, "codes"_a.noconvert(), "step"_a, "edge"_a, threads,
          "The fingerprint of the float32 values of codes.");
    m.def("costs", &costs, "sample"_a.noconvert(), "steps"_a.noconvert(), "rs"_a.noconvert(), "bits"_a.noconvert(),
          "errors"_a.noconvert(), threads, "Bits and mean squared error per element of a sorted sample.");
}
