// The context coder on its own, to be compiled with sanitizers: `context SEED ROUNDS` codes random tensors, decodes them,
// and decodes damaged and random blocks. It prints a hash of all encoded blocks, the same with every compiler.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "context.hpp"
#include "random.hpp"

namespace {

using namespace noworse::context;

std::vector<Geometry> tensors(Random& random) {
    std::vector<Geometry> found(1 + random.below(4));
    for (Geometry& g : found) {
        const std::size_t taps = random.below(2) ? 1 : 1 + random.below(30);
        g = {1 + random.below(9), (1 + random.below(6)) * taps, taps, 1 + random.below(6)};
    }
    return found;
}

// False where the block is refused. Arrays of exactly the right size, so that one step beyond either end is noticed.
bool decodes(const std::vector<Geometry>& shapes, const std::vector<std::uint8_t>& block, std::vector<std::int32_t>& out) {
    const std::unique_ptr<std::uint8_t[]> data(new std::uint8_t[block.size()]);
    if (!block.empty()) std::memcpy(data.get(), block.data(), block.size());
    try {
        decode(shapes, {{data.get(), block.size()}}, out.data());
    } catch (const std::domain_error&) {
        return false;
    }
    for (const std::int32_t code : out)
        if (code > 1 << 30 || code < -(1 << 30)) fail("a code beyond the limit");
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) fail("expected SEED and ROUNDS");
    Random random{std::strtoull(argv[1], nullptr, 10)};
    std::uint64_t hash = 0;
    for (long left = std::strtol(argv[2], nullptr, 10); left > 0; --left) {
        const std::vector<Geometry> shapes = tensors(random);
        std::size_t count = 0;
        for (const Geometry& g : shapes) count += g.rows * g.columns;
        std::vector<std::int32_t> codes(count), out(count);
        const std::size_t shift = 1 + random.below(31);
        for (std::int32_t& code : codes)
            code = static_cast<std::int32_t>(static_cast<std::int64_t>(random.next()) >> (32 + shift));
        std::vector<std::uint8_t> block = encode(shapes, codes.data()).at(0);
        for (const std::uint8_t byte : block) hash = (hash ^ byte) * 1099511628211u;
        if (!decodes(shapes, block, out) || out != codes) fail("a round trip");
        if (!block.empty()) block[random.below(block.size())] ^= static_cast<std::uint8_t>(1 + random.below(255));
        decodes(shapes, block, out);
        block.resize(random.below(100));
        for (std::uint8_t& byte : block) byte = random.below(2) ? 255 : static_cast<std::uint8_t>(random.next());
        decodes(shapes, block, out);
    }
    std::printf("%016llx\n", static_cast<unsigned long long>(hash));
    return 0;
}
