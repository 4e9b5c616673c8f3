// Python bindings of the coder. Errors: std::invalid_argument (the caller's) and std::domain_error (the bytes') are
// ValueError on the Python side; rans.py turns the latter into CorruptFile.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "context_bindings.hpp"
#include "decoding_bindings.hpp"
#include "distinct.hpp"
#include "plan.hpp"

using namespace nb::literals;
using noworse::Bytes, noworse::Lengths, noworse::Tables, noworse::Vector;

namespace {

template <class T>
nb::object to_numpy(std::vector<T>&& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    const std::size_t n = owned->size();
    return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {n}, owner));
}

nb::bytes to_bytes(const std::vector<std::uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

template <class Code>
void decode_codes(const Tables& tables, Bytes data, const Lengths& lengths, noworse::Output<Code> out,
                  const noworse::Scales& scales, unsigned threads, unsigned simd) {
    const std::size_t count = out.size();
    nb::gil_scoped_release release;
    const noworse::Blocks blocks = noworse::blocks_of(data, lengths, count);
    noworse::CodeSink<Code> sink(out.data(), tables.low(), tables.high() + 1, simd);
    if (tables.constant()) return noworse::decode_constant(blocks, count, sink);
    const noworse::ClassMap classes = noworse::class_map(scales, tables.parsed().of, count);
    noworse::decode_stream({tables.parsed().model, tables.slots(), classes, blocks, count, sink, simd}, threads);
}

// Table, blocks, and scales of rows and columns (or None).
template <class Code>
nb::tuple encode(Vector<Code> codes, std::size_t columns, unsigned threads, unsigned simd) {
    noworse::Coded found;
    {
        nb::gil_scoped_release release;
        found = noworse::encode_codes(codes.data(), codes.size(), columns, threads, simd);
    }
    nb::list blocks;
    for (const auto& block : found.blocks) blocks.append(to_bytes(block));
    if (!found.scales) return nb::make_tuple(to_bytes(found.table), blocks, nb::none());
    auto& [rows, cols] = *found.scales;
    return nb::make_tuple(to_bytes(found.table), blocks,
                          nb::make_tuple(to_numpy(std::move(rows)), to_numpy(std::move(cols))));
}

// Table and blocks of every stream of `each` bytes, or None where they are to stay as they are.
template <class Fill>
nb::list encode_streams(const std::uint8_t* data, std::size_t n, std::size_t each, unsigned threads, unsigned simd,
                        const Fill& fill) {
    if (each == 0) throw std::invalid_argument("streams have at least one symbol");
    std::vector<std::optional<noworse::Coded>> found;
    {
        nb::gil_scoped_release release;
        found = noworse::encode_bytes(data, n, each, threads, simd, fill);
    }
    nb::list streams;
    for (const auto& coded : found) {
        if (!coded) {
            streams.append(nb::none());
            continue;
        }
        nb::list blocks;
        for (const auto& block : coded->blocks) blocks.append(to_bytes(block));
        streams.append(nb::make_tuple(to_bytes(coded->table), blocks));
    }
    return streams;
}

nb::list encode_bytes(Bytes data, std::size_t each, unsigned threads, unsigned simd) {
    return encode_streams(data.data(), data.size(), each, threads, simd, [](std::size_t, std::size_t) {});
}

// The same of a byte of every element, which are put into `out` first.
nb::list encode_plane(Bytes data, unsigned width, unsigned plane, bool rotate, noworse::Output<std::uint8_t> out,
                      std::size_t each, unsigned threads, unsigned simd) {
    noworse::check_plane(data.size(), width, plane, out.size());
    const std::uint8_t* from = data.data();
    std::uint8_t* to = out.data();
    return encode_streams(to, out.size(), each, threads, simd, [=](std::size_t first, std::size_t count) {
        noworse::take_bytes(from + first * width, count, width, plane, rotate, to + first);
    });
}

// Values in order of first use, or None for more than `most`; the numbers of all words go to out.
template <class Word>
nb::object distinct(Vector<Word> words, std::size_t most, noworse::Output<std::int32_t> out) {
    if (most > noworse::kFew || out.size() != words.size()) throw std::invalid_argument("sizes do not fit");
    std::vector<Word> found;
    {
        nb::gil_scoped_release release;
        found = noworse::distinct(words.data(), words.size(), most, out.data());
    }
    return found.size() > most ? nb::none() : to_numpy(std::move(found));
}

template <class Code>
double estimated_bytes(Vector<Code> codes, std::size_t columns) {
    nb::gil_scoped_release release;
    return noworse::estimated_bytes(codes.data(), codes.size(), columns);
}

nb::object normalise(Vector<std::uint64_t> weights, unsigned bits) {
    if (bits < 1 || bits > 14) throw std::invalid_argument("bits must be in 1..14");
    return to_numpy(noworse::normalise(weights.data(), weights.size(), bits));
}

nb::tuple table_of(const Tables& tables, std::size_t number) {
    if (number >= tables.size()) throw std::invalid_argument("no such table");
    const noworse::Table& t = tables.parsed().model.tables[number];
    return nb::make_tuple(t.lo, to_numpy(std::vector<std::uint16_t>(t.freq)), t.bits, t.golomb, t.single);
}

// Throws what a handler of signals raises: KeyboardInterrupt after Ctrl-C. Called without the GIL, by threads of Python.
void look_for_signals() {
    using Clock = std::chrono::steady_clock;
    thread_local Clock::time_point next{};
    if (Clock::now() < next) return;
    nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    next = Clock::now() + std::chrono::milliseconds(20);
}

std::uint32_t crc32(Bytes data, std::uint32_t before) {
    nb::gil_scoped_release release;
    return noworse::crc32(before, data.data(), data.data() + data.size());
}

std::uint64_t fingerprint(Bytes data, unsigned threads) {
    nb::gil_scoped_release release;
    return noworse::fingerprint(data.data(), data.size(), threads);
}

}  // namespace

void bind_kernels(nb::module_& m);  // propose/grids/kernels.cpp
void bind_nearest(nb::module_& m);  // nearest.cpp
void bind_planes(nb::module_& m);   // planes.cpp

// noconvert: nanobind would otherwise pass a converted copy, and decoding fill that instead of the caller's array
NB_MODULE(_native, m) {
    noworse::on_look = look_for_signals;
    const auto scales = nb::arg("scales") = nb::none();
    const auto threads = nb::arg("threads") = 0;
    const auto simd = nb::arg("simd") = noworse::kAvx512, decoding = nb::arg("simd") = noworse::kGather;
    const auto out = "out"_a.noconvert();
    const auto codes = "codes"_a.noconvert();

    nb::class_<Lengths>(m, "Lengths")
        .def(nb::init<std::vector<std::size_t>, std::vector<std::uint32_t>>(), "blocks"_a, "checksums"_a);
    nb::class_<Tables>(m, "Tables")
        .def(nb::init<nb::bytes, bool>(), "data"_a, "classes"_a = false)
        .def_prop_ro("constant", &Tables::constant)
        .def_prop_ro("bounds", [](const Tables& t) { return nb::make_tuple(t.low(), t.high()); })
        .def("__len__", &Tables::size)
        .def("table", &table_of, "number"_a = 0, "lo, freqs, bits, golomb, single");
    m.def("decode", &decode_codes<std::int32_t>, "tables"_a, "data"_a, "lengths"_a, out, scales, threads, decoding,
          "Fill out with the symbols of a stream.");
    m.def("decode", &decode_codes<std::uint8_t>, "tables"_a, "data"_a, "lengths"_a, out, scales, threads, decoding);
    m.def("encode", &encode<std::int32_t>, codes, "columns"_a = 0, threads, simd,
          "Table, blocks and scales of a stream of codes.");
    m.def("encode", &encode<std::uint8_t>, codes, "columns"_a = 0, threads, simd);
    m.def("encode", &encode<std::int8_t>, codes, "columns"_a = 0, threads, simd);
    m.def("encode_bytes", &encode_bytes, "data"_a.noconvert(), "each"_a, threads, simd,
          "Table and blocks of every stream of so many bytes, None where coding them gains nothing.");
    m.def("encode_plane", &encode_plane, "data"_a.noconvert(), "width"_a, "plane"_a, "rotate"_a, out, "each"_a, threads,
          simd, "take_plane and encode_bytes in one.");
    m.def("estimated_bytes", &estimated_bytes<std::int32_t>, codes, "columns"_a = 0, "About how many bytes encode takes.");
    m.def("estimated_bytes", &estimated_bytes<std::uint8_t>, codes, "columns"_a = 0);
    m.def("distinct", &distinct<std::uint16_t>, "words"_a.noconvert(), "most"_a, out,
          "The different words in order of first use, their numbers in out; None for more than `most`.");
    m.def("distinct", &distinct<std::uint32_t>, "words"_a.noconvert(), "most"_a, out);
    m.def("distinct", &distinct<std::uint64_t>, "words"_a.noconvert(), "most"_a, out);
    m.def("normalise", &normalise, "weights"_a.noconvert(), "bits"_a, "Integer frequencies that sum to 1 << bits.");
    m.def("crc32", &crc32, "data"_a.noconvert(), "before"_a = 0, "The crc32 of zlib, of what follows on other data.");
    m.def("fingerprint", &fingerprint, "data"_a.noconvert(), threads, "64 bits that depend on every byte.");
    m.def("best_simd", &noworse::best_simd, "0: portable code alone runs here, 1: AVX2 as well, 2: AVX-512 as well.");
    noworse::bind_decoding(m);
    noworse::context::bind(m);
    bind_nearest(m);
    bind_planes(m);
    bind_kernels(m);
}
