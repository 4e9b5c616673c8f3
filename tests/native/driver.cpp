// The native coder on its own, to be compiled with sanitizers: `driver self SEED ROUNDS` codes and damages random
// streams; `driver replay FILE` decodes the cases of a file and prints what became of each (see test_sanitized.py).
// A coder that is added to src/noworse/codec gets its round trip in `kinds` and its decoder in `replay`.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "plan.hpp"
#include "random.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;
using Codes = std::vector<std::int32_t>;

// Arrays of exactly the right size on the heap, so that one step beyond either end is noticed.
template <class T>
std::unique_ptr<T[]> exact(const std::vector<T>& from) {
    std::unique_ptr<T[]> copy(new T[from.size()]);
    if (!from.empty()) std::memcpy(copy.get(), from.data(), from.size() * sizeof(T));
    return copy;
}

struct Stream {
    Bytes table;
    std::vector<Bytes> blocks;
    bool classes = false;
    Codes rows, columns;  // scales, with classes
};

struct Mode {
    unsigned threads;
    unsigned simd;
};

void decode_all(const Stream& s, std::int32_t* out, std::size_t count, const Mode& mode) {
    const auto table = exact(s.table);
    const noworse::StreamTables found = noworse::read_tables(table.get(), s.table.size(), s.classes);
    if (found.model.tables[0].constant()) throw std::domain_error("a constant stream");  // no blocks to decode
    noworse::check(found.model);
    const noworse::Slots slots(found.model);
    Bytes data;
    noworse::Blocks blocks{nullptr, {0}, {}};
    for (const Bytes& block : s.blocks) {
        data.insert(data.end(), block.begin(), block.end());
        blocks.starts.push_back(data.size());
    }
    const auto whole = exact(data);
    blocks.data = whole.get();
    noworse::ClassMap classes;
    if (s.classes && s.rows.size() * s.columns.size() != count) throw std::domain_error("scales for other symbols");
    if (s.classes) classes = {s.rows.data(), s.rows.size(), s.columns.data(), s.columns.size(), found.of};
    const std::int64_t lo = slots.lo, end = lo + std::int64_t{slots.escape};
    const auto into = [&](noworse::Sink& sink) {
        noworse::decode_stream({found.model, slots, classes, blocks, count, sink, mode.simd}, mode.threads);
    };
    noworse::CodeSink<std::int32_t> codes(out, lo, end, mode.simd);
    into(codes);
    const auto floats = exact(std::vector<float>(count));
    noworse::FloatSink values(floats.get(), lo, end, {0.01 / 64, 40}, mode.simd);
    into(values);
    const auto narrow = exact(std::vector<std::uint8_t>(count));
    try {
        noworse::CodeSink<std::uint8_t> bytes(narrow.get(), lo, end, mode.simd);
        into(bytes);
    } catch (const std::domain_error&) {
        return;  // codes beyond a byte
    }
    for (std::size_t i = 0; i < count; ++i)
        if (narrow[i] != out[i]) fail("bytes differ from codes");
}

bool decode(const Stream& s, Codes& out, const Mode& mode = {1, noworse::kGather}) {
    const auto codes = exact(out);
    try {
        decode_all(s, codes.get(), out.size(), mode);
    } catch (const std::domain_error&) {
        return false;
    } catch (const std::invalid_argument&) {
        return false;
    }
    out.assign(codes.get(), codes.get() + out.size());
    for (const std::int32_t code : out)
        if (code < -noworse::kMaxCode || code > noworse::kMaxCode) fail("a code beyond 2**30");
    return true;
}

Codes random_codes(Random& random) {
    static const std::size_t counts[] = {2, 63, 64, 700, 4096, 16384, 65535, 65536, 66001, 131072, 131079, 262144, 262150,
                                         524288, 524293};
    const std::size_t n = counts[random.below(random.below(8) ? 6 : 15)];
    const unsigned scale = static_cast<unsigned>(random.below(12));
    const bool outliers = random.below(2);
    Codes codes(n);
    for (std::size_t i = 0; i < n; ++i) {
        unsigned log = 0;
        for (std::uint64_t bits = random.next(); bits & 1; bits >>= 1) ++log;
        codes[i] = static_cast<std::int32_t>(random.below((std::size_t{1} << scale) + 1) * log) * (1 + (i / 128) % 3);
        if (random.next() & 1) codes[i] = -codes[i];
        if (outliers && random.below(500) == 0)
            codes[i] = static_cast<std::int32_t>(random.below(std::size_t{1} << 31)) - noworse::kMaxCode;
    }
    return codes;
}

Bytes damaged(Bytes block, Random& random) {
    for (std::size_t changes = 1 + random.below(3); changes; --changes) {
        const std::size_t at = random.below(block.size() + 1);
        const auto place = block.begin() + static_cast<std::ptrdiff_t>(at);
        const std::size_t rest = block.size() - at;
        switch (random.below(5)) {
            case 0: if (rest) block[at] ^= static_cast<std::uint8_t>(1u << random.below(8)); break;
            case 1: block.insert(place, static_cast<std::uint8_t>(random.next())); break;
            case 2: if (rest) block.erase(place); break;
            case 3: block.resize(at); break;
            default: for (std::size_t i = 0; i < 4 && i < rest; ++i) block[at + i] = 0xFF;
        }
    }
    return block;
}

void round_trip(Random& random) {
    const Codes codes = random_codes(random);
    const auto [low, high] = std::minmax_element(codes.begin(), codes.end());
    if (*low == *high) return;
    const auto given = exact(codes);
    const std::size_t columns = codes.size() % 128 == 0 ? 128 : 0;
    noworse::Coded coded = noworse::encode_codes(given.get(), codes.size(), columns, 2, noworse::kAvx512);
    const noworse::Coded plain = noworse::encode_codes(given.get(), codes.size(), columns, 1, noworse::kPortable);
    if (coded.table != plain.table || coded.blocks != plain.blocks) fail("AVX2 and portable code encode differently");
    Stream stream{coded.table, coded.blocks, coded.scales.has_value(), {}, {}};
    if (coded.scales) std::tie(stream.rows, stream.columns) = *coded.scales;
    for (const Mode& mode : {Mode{1, noworse::kGather}, Mode{1, noworse::kAvx512}, Mode{2, noworse::kAvx2}, Mode{1, noworse::kPortable}}) {
        Codes out(codes.size());
        if (!decode(stream, out, mode) || out != codes) fail("a round trip");
    }
    for (int i = 0; i < 4; ++i) {
        Stream other = stream;
        Bytes& changed = i % 2 ? other.table : other.blocks[random.below(other.blocks.size())];
        changed = damaged(changed, random);
        if (other.classes && i == 2) other.rows[random.below(other.rows.size())] = static_cast<std::int32_t>(random.below(40));
        Codes fast(codes.size()), slow(codes.size());
        const bool good = decode(other, fast);
        for (const unsigned simd : {noworse::kPortable, noworse::kAvx2, noworse::kAvx512})
            if (decode(other, slow, {1, simd}) != good || (good && fast != slow)) fail("instruction sets disagree");
    }
}

using Kind = void (*)(Random&);
constexpr Kind kinds[] = {round_trip};

int self(std::uint64_t seed, long rounds) {
    Random random{seed};
    for (long i = 0; i < rounds; ++i)
        for (const Kind kind : kinds) kind(random);
    std::printf("%ld rounds\n", rounds);
    return 0;
}

struct Source {
    Bytes data;
    std::size_t at = 0;
    template <class T>
    T take() {
        T value;
        if (data.size() - at < sizeof(T)) fail("a short file of cases");
        std::memcpy(&value, data.data() + at, sizeof(T));
        at += sizeof(T);
        return value;
    }
    template <class T>
    std::vector<T> list() {
        std::vector<T> values(take<std::uint32_t>());
        for (T& value : values) value = take<T>();
        return values;
    }
};

// A case: u32 count, u32 classes (0 or 1), then lists, each a u32 length and its elements: the bytes of the tables, the
// bytes of the only block, and i32 scales of rows and of columns.
int replay(const char* path) {
    std::ifstream file(path, std::ios::binary);
    Source in{Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>())};
    while (in.at < in.data.size()) {
        Codes out(in.take<std::uint32_t>());
        Stream stream;
        stream.classes = in.take<std::uint32_t>() != 0;
        stream.table = in.list<std::uint8_t>();
        stream.blocks.push_back(in.list<std::uint8_t>());
        stream.rows = in.list<std::int32_t>();
        stream.columns = in.list<std::int32_t>();
        if (!decode(stream, out)) {
            std::puts("refused");
            continue;
        }
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < out.size(); ++i) sum += (i + 1) * static_cast<std::uint64_t>(std::int64_t{out[i]});
        std::printf("%llu\n", static_cast<unsigned long long>(sum));
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 4 && std::string(argv[1]) == "self") return self(std::strtoull(argv[2], nullptr, 10), std::atol(argv[3]));
    if (argc == 3 && std::string(argv[1]) == "replay") return replay(argv[2]);
    std::fprintf(stderr, "usage: driver self SEED ROUNDS | driver replay FILE\n");
    return 2;
}
