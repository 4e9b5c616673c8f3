// The native coder on its own, to be compiled with sanitizers: `driver self SEED ROUNDS` codes and damages random
// streams; `driver replay FILE` decodes the cases of a file and prints what became of each (see test_sanitized.py).
// A coder that is added to src/noworse/codec gets its round trip in `kinds` and its decoder in `replay`.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "counts.hpp"
#include "golomb.hpp"
#include "rans.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;
using Codes = std::vector<std::int32_t>;

struct Random {  // splitmix64
    std::uint64_t state;
    std::uint64_t next() {
        std::uint64_t z = (state += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "FAILED: %s\n", what);
    std::exit(1);
}

// Arrays of exactly the right size on the heap, so that one step beyond either end is noticed.
template <class T>
std::unique_ptr<T[]> exact(const T* from, std::size_t n) {
    std::unique_ptr<T[]> copy(new T[n]);
    if (n) std::memcpy(copy.get(), from, n * sizeof(T));
    return copy;
}

bool decode(const noworse::Model& m, const Bytes& block, Codes& out) {
    const auto freq = exact(m.freq, m.size);
    const auto data = exact(block.data(), block.size());
    const auto codes = exact(out.data(), out.size());
    noworse::Model copy = m;
    copy.freq = freq.get();
    try {
        noworse::decode_block(copy, data.get(), block.size(), codes.get(), out.size());
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
    static const std::size_t counts[] = {1, 2, 63, 64, 700, 4096, 65535, 65536, 66001, 131072, 131079, 262143, 262144};
    const std::size_t n = counts[random.below(random.below(4) ? 6 : 13)];
    const unsigned scale = static_cast<unsigned>(random.below(12));
    const bool outliers = random.below(2);
    Codes codes(n);
    for (auto& code : codes) {
        unsigned log = 0;
        for (std::uint64_t bits = random.next(); bits & 1; bits >>= 1) ++log;
        code = static_cast<std::int32_t>(random.below((std::size_t{1} << scale) + 1) * log);
        if (random.next() & 1) code = -code;
        if (outliers && random.below(500) == 0)
            code = static_cast<std::int32_t>(random.below(std::size_t{1} << 31)) - noworse::kMaxCode;
    }
    return codes;
}

// A model with the codes' own frequencies; what lies outside of [lo, lo + size) is escaped.
struct Fitted {
    std::vector<std::uint16_t> freq;
    noworse::Model model;
};

bool fit(const Codes& codes, Random& random, Fitted& fitted) {
    const std::size_t size = 1 + random.below(random.below(2) ? 40 : 4000);
    const std::int32_t lo = -static_cast<std::int32_t>(random.below(size + 1));
    std::vector<std::uint64_t> counts(size);
    const std::uint64_t outside = noworse::histogram(codes.data(), codes.size(), lo, size, counts.data());
    const bool escape = outside > 0 || random.below(4) == 0;
    if (escape) counts.push_back(outside + 1);
    std::size_t used = 0;
    for (const std::uint64_t count : counts) used += count > 0;
    if (used < 2) return false;
    const unsigned bits = used > 4096 || random.below(2) ? 14 : 12;
    const auto wide = noworse::normalise(counts.data(), counts.size(), bits);
    fitted.freq.assign(wide.begin(), wide.end());
    const int golomb = escape ? static_cast<int>(random.below(31)) : -1;
    fitted.model = {lo, fitted.freq.data(), fitted.freq.size(), bits, golomb, random.below(8) == 0};
    return true;
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
    Fitted fitted;
    if (!fit(codes, random, fitted)) return;
    const auto given = exact(codes.data(), codes.size());
    const Bytes block = noworse::encode_block(fitted.model, given.get(), codes.size());
    Codes out(codes.size());
    if (!decode(fitted.model, block, out) || out != codes) fail("a round trip");
    for (int i = 0; i < 3; ++i) decode(fitted.model, damaged(block, random), out);
    out.resize(random.below(2 * codes.size() + 2) % 262145);
    decode(fitted.model, block, out);
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
};

// A case: u32 count, i32 lo, i32 bits, i32 golomb, i32 single, u32 size, size times u16, u32 bytes, the block.
int replay(const char* path) {
    std::ifstream file(path, std::ios::binary);
    Source in{Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>())};
    while (in.at < in.data.size()) {
        Codes out(in.take<std::uint32_t>());
        noworse::Model m{};
        m.lo = in.take<std::int32_t>();
        m.bits = static_cast<unsigned>(in.take<std::int32_t>());
        m.golomb = in.take<std::int32_t>();
        m.single = in.take<std::int32_t>() != 0;
        std::vector<std::uint16_t> freq(in.take<std::uint32_t>());
        for (auto& f : freq) f = in.take<std::uint16_t>();
        m.freq = freq.data();
        m.size = freq.size();
        Bytes block(in.take<std::uint32_t>());
        for (auto& byte : block) byte = in.take<std::uint8_t>();
        if (!decode(m, block, out)) {
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
