// Python bindings of the coder. Errors: std::invalid_argument (the caller's) and std::domain_error (the bytes') are
// ValueError on the Python side; rans.py turns the latter into CorruptFile.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include "context_bindings.hpp"
#include "fingerprint.hpp"
#include "plan.hpp"
#include "stream.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Output = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = Vector<std::uint8_t>;
using Scales = std::optional<std::pair<Vector<std::int32_t>, Vector<std::int32_t>>>;

template <class T>
nb::object to_numpy(std::vector<T>&& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    const std::size_t n = owned->size();
    return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {n}, owner));
}

nb::bytes to_bytes(const std::vector<std::uint8_t>& data) { return nb::bytes(data.data(), data.size()); }

// The tables of a stream, parsed, with what decoding needs: made once, used for all pieces of the stream.
class Tables {
  public:
    Tables(nb::bytes data, bool classes)
        : parsed_(noworse::read_tables(static_cast<const std::uint8_t*>(data.data()), data.size(), classes)) {
        if (!constant()) {
            noworse::check(parsed_.model);
            slots_.emplace(parsed_.model);
        }
    }

    bool constant() const { return parsed_.model.tables[0].constant(); }
    const noworse::StreamTables& parsed() const { return parsed_; }
    const noworse::Slots& slots() const { return *slots_; }
    std::int64_t low() const { return constant() ? parsed_.model.tables[0].lo : slots_->lo; }
    std::int64_t high() const { return constant() ? low() : slots_->lo + std::int64_t{slots_->escape} - 1; }
    std::size_t size() const { return parsed_.model.tables.size(); }

  private:
    noworse::StreamTables parsed_;
    std::optional<noworse::Slots> slots_;
};

noworse::ClassMap class_map(const Scales& scales, const std::vector<std::uint8_t>& of, std::size_t count) {
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

noworse::Blocks blocks_of(const Bytes& data, const Lengths& lengths, std::size_t count) {
    const std::size_t expected = count / noworse::kBlock + (count % noworse::kBlock != 0);
    if (lengths.blocks.size() != expected)
        throw std::domain_error("a stream of " + std::to_string(count) + " symbols has " +
                                std::to_string(lengths.blocks.size()) + " blocks, expected " +
                                std::to_string(expected));
    noworse::Blocks blocks{data.data(), {0}, lengths.checksums};
    for (const std::size_t length : lengths.blocks) {
        if (length > data.size() - blocks.starts.back()) throw std::domain_error("the data of a stream end early");
        blocks.starts.push_back(blocks.starts.back() + length);
    }
    if (blocks.starts.back() != data.size()) throw std::domain_error("bytes follow the last block of a stream");
    return blocks;
}

void decode_constant(const noworse::Blocks& blocks, std::size_t count, noworse::Sink& sink) {
    for (std::size_t i = 0; i < blocks.size(); ++i)
        if (blocks.open(i).left() > 0)
            throw std::domain_error("a constant stream has a block with bytes, expected none");
    const std::vector<std::uint32_t> first(4096, 0);  // the alphabet has one symbol
    for (std::size_t i = 0; i < count; i += first.size()) sink.put(i, first.data(), std::min(first.size(), count - i));
}

struct Options {
    unsigned threads;
    unsigned simd;
};

template <class T, class MakeSink, class Done>
void decode(const Tables& tables, const Bytes& data, const Lengths& lengths, const Scales& scales, const Output<T>& out,
            const Options& options, const MakeSink& make, const Done& done) {
    const std::size_t count = out.size();
    nb::gil_scoped_release release;
    const noworse::Blocks blocks = blocks_of(data, lengths, count);
    auto sink = make(tables.low(), tables.high() + 1);
    if (tables.constant()) {
        decode_constant(blocks, count, sink);
        for (std::size_t i = 0; i < blocks.size(); ++i) done(i);
        return;
    }
    const noworse::ClassMap classes = class_map(scales, tables.parsed().of, count);
    noworse::decode_stream(tables.parsed().model, tables.slots(), classes, blocks, count, sink, options.threads,
                           options.simd, done);
}

template <class Code>
void decode_codes(const Tables& tables, Bytes data, const Lengths& lengths, Output<Code> out, const Scales& scales,
                  unsigned threads, unsigned simd) {
    const auto make = [&](std::int64_t lo, std::int64_t end) {
        return noworse::CodeSink<Code>(out.data(), lo, end, simd);
    };
    decode<Code>(tables, data, lengths, scales, out, {threads, simd}, make, [](std::size_t) {});
}

// Returns the fingerprint of what it decoded where `digest` asks for it, otherwise 0.
std::uint64_t decode_grid(const Tables& tables, Bytes data, const Lengths& lengths, Output<float> out, double step,
                          int edge, const Scales& scales, unsigned threads, unsigned simd, bool digest) {
    const auto make = [&](std::int64_t lo, std::int64_t end) {
        return noworse::FloatSink(out.data(), lo, end, {step / 64, edge}, simd);
    };
    constexpr std::size_t kWords = noworse::kBlock * sizeof(float) / 8;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(out.data());
    const std::size_t size = out.size() * sizeof(float);
    std::vector<std::uint64_t> sums(digest ? lengths.blocks.size() : 0, 0);
    decode<float>(tables, data, lengths, scales, out, {threads, simd}, make, [&](std::size_t i) {
        if (digest) sums[i] = noworse::fingerprint_of(bytes, i * kWords, std::min(size / 8, (i + 1) * kWords));
    });
    return digest ? std::accumulate(sums.begin(), sums.end(), noworse::fingerprint_of_rest(bytes, size)) : 0;
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

nb::object normalise(Vector<std::uint64_t> weights, unsigned bits) {
    if (bits < 1 || bits > 14) throw std::invalid_argument("bits must be in 1..14");
    return to_numpy(noworse::normalise(weights.data(), weights.size(), bits));
}

nb::tuple table_of(const Tables& tables, std::size_t number) {
    if (number >= tables.size()) throw std::invalid_argument("no such table");
    const noworse::Table& t = tables.parsed().model.tables[number];
    return nb::make_tuple(t.lo, to_numpy(std::vector<std::uint16_t>(t.freq)), t.bits, t.golomb, t.single);
}

std::uint32_t crc32(Bytes data) {
    nb::gil_scoped_release release;
    return noworse::crc32(0, data.data(), data.data() + data.size());
}

std::uint64_t fingerprint(Bytes data, unsigned threads) {
    nb::gil_scoped_release release;
    return noworse::fingerprint(data.data(), data.size(), threads);
}

}  // namespace

void bind_planes(nb::module_& m);  // planes.cpp

// noconvert: nanobind would otherwise pass a converted copy, and decoding fill that instead of the caller's array
NB_MODULE(_native, m) {
    const auto scales = nb::arg("scales") = nb::none();
    const auto threads = nb::arg("threads") = 0;
    const auto simd = nb::arg("simd") = noworse::kAvx512;
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
    m.def("decode", &decode_codes<std::int32_t>, "tables"_a, "data"_a, "lengths"_a, out, scales, threads, simd,
          "Fill out with the symbols of a stream.");
    m.def("decode", &decode_codes<std::uint8_t>, "tables"_a, "data"_a, "lengths"_a, out, scales, threads, simd);
    m.def("decode_grid", &decode_grid, "tables"_a, "data"_a, "lengths"_a, out, "step"_a, "edge"_a, scales, threads,
          simd, "digest"_a = false,
          "Fill out with the values of a grid, and return its fingerprint (0 without digest).");
    m.def("encode", &encode<std::int32_t>, codes, "columns"_a = 0, threads, simd,
          "Table, blocks and scales of a stream of codes.");
    m.def("encode", &encode<std::uint8_t>, codes, "columns"_a = 0, threads, simd);
    m.def("encode", &encode<std::int8_t>, codes, "columns"_a = 0, threads, simd);
    m.def("normalise", &normalise, "weights"_a.noconvert(), "bits"_a, "Integer frequencies that sum to 1 << bits.");
    m.def("crc32", &crc32, "data"_a.noconvert(), "The crc32 of zlib.");
    m.def("fingerprint", &fingerprint, "data"_a.noconvert(), threads, "64 bits that depend on every byte.");
    m.def("best_simd", &noworse::best_simd, "0: portable code alone runs here, 1: AVX2 as well, 2: AVX-512 as well.");
    noworse::context::bind(m);
    bind_planes(m);
}
