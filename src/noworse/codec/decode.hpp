// Interleaved rANS, from bytes to symbols; the byte layout is described in docs/format.md, section 5.
#pragma once

#include <array>

#include "classes.hpp"
#include "golomb.hpp"
#include "sinks.hpp"

namespace noworse {

struct Reader {
    const std::uint8_t* p;
    const std::uint8_t* end;
    std::size_t left() const { return static_cast<std::size_t>(end - p); }
    std::uint32_t take(unsigned bytes) {
        if (bytes > left()) throw std::domain_error("a block ends before its last symbol");
        std::uint32_t x = 0;
        for (unsigned b = 0; b < bytes; ++b) x |= static_cast<std::uint32_t>(*p++) << (8 * b);
        return x;
    }
};

inline void expect(bool good, const char* what) {
    if (!good) throw std::domain_error(what);
}
constexpr const char* kBadState = "a lane state is out of range";
constexpr const char* kBadEnd = "a block does not end in its initial state";

// Decodes one block, piece by piece through a buffer that stays in the first-level cache.
template <class Slot>
class BlockDecoder {
  public:
    BlockDecoder(const Model& m, const Slots& s, const std::vector<Slot>& slots, const ClassMap& classes, unsigned simd)
        : model_(m),
          all_(s),
          slots_(slots.data()),
          bits_(Slot::bits(s.bits)),
          classes_(classes),
          escape_(m.escape()),
          simd_(std::min(simd, best_simd())) {}

    // Symbols `first` .. of the stream; returns where in the block escape symbols stand.
    std::vector<std::size_t> run(Reader& in, std::size_t first, std::size_t count, Sink& sink) {
        first_ = first;
        escaped_.clear();
        sink_ = &sink;
        const unsigned n = lanes(model_, count);
        if (n == 1) single(in, count);
        else if (n == 16) several<16>(in, count);
        else several<32>(in, count);
        expect(in.p == in.end, "a block has bytes after its last symbol");
        return std::move(escaped_);
    }

  private:
    static constexpr std::size_t kAhead = 512;  // symbols by which cache lines are fetched early
    static constexpr std::size_t kPiece = 32 * kMostRounds;  // at most; a multiple of every number of lanes

    // Takes one symbol off state x, which the caller refills. Loops use copies, which what they write cannot change.
    struct Pop {
        const Slot* slots;
        unsigned bits;
        const std::uint8_t* classes;
        std::uint32_t* out;
        std::uint32_t operator()(std::uint32_t x, std::size_t j) const {
            const Slot slot = slots[(x & ((1u << bits) - 1)) | std::uint32_t{classes[j]} << bits];
            out[j] = slot.symbol();
            return slot.freq() * (x >> bits) + slot.bias();
        }
    };
    Pop pop() { return {slots_, bits_, piece_classes_.data(), symbols_.data()}; }

    // Calls decode(i, n) for pieces of the symbols begin .. end - 1 of the block, each of `piece` but the last. It returns how many it has written
    // to the sink; the numbers of the others, from symbols_ on that place, are passed on to it.
    template <class Decode>
    void pieces(std::size_t begin, std::size_t end, std::size_t piece, Decode decode) {
        for (std::size_t i = begin; i < end; i += piece) {
            const std::size_t n = std::min(piece, end - i);
            if (!classes_.empty()) classes_.fill(first_ + i, piece_classes_.data(), n);
            const std::size_t done = decode(i, n);
            if (escape_) note_escapes(i + done, symbols_.data() + done, n - done, all_.escape);
            if (done < n) sink_->put(first_ + i + done, symbols_.data() + done, n - done);
        }
    }

    void note_escapes(std::size_t i, const std::uint32_t* found, std::size_t n, std::uint32_t escape) {
        for (std::size_t j = 0; j < n; j += 32)
            for (std::uint64_t set = matches(found + j, std::min<std::size_t>(32, n - j), escape, simd_), k = 0; set;
                 set >>= 1, ++k)
                if (set & 1) escaped_.push_back(i + j + k);
    }

    // One lane starts from zero: after the last word its state runs down to zero without refills.
    void single(Reader& in, std::size_t count) {
        const unsigned bytes = in.left() <= 4 ? static_cast<unsigned>(in.left()) : 4 - in.left() % 2;
        std::uint32_t x = in.take(bytes);
        expect(state_bytes(x) == bytes && (in.left() == 0 || x >= kLow), kBadState);
        pieces(0, count, kPiece, [&](std::size_t, std::size_t n) -> std::size_t {
            const Pop take_symbol = pop();
            std::uint32_t state = x;
            const std::uint8_t *p = in.p, *const end = in.end;
            std::size_t j = 0;
            // a branch, where several lanes use arithmetic: guessing it right shortens the only chain of dependencies
            for (; j < n && p != end; ++j) {
                state = take_symbol(state, j);
                if (state < kLow) {
                    state = (state << 16) | p[0] | (static_cast<std::uint32_t>(p[1]) << 8);
                    p += 2;
                }
            }
            for (; j < n; ++j) state = take_symbol(state, j);
            in.p = p;
            x = state;
            return 0;
        });
        expect(x == 0, kBadEnd);
    }

    template <unsigned L>
    void several(Reader& in, std::size_t count) {
        std::uint32_t state[L];
        for (unsigned j = 0; j < L; ++j) {
            state[j] = in.take(4);
            expect(state[j] >= kLow, kBadState);
        }
        const std::size_t main = count - tail(L);
        pieces(0, main, L * kMostRounds, [&](std::size_t i, std::size_t n) { return main_piece<L>(in, state, i, n); });
        unsigned lane = kTailLanes;  // the next one whose low half is a word
        for (unsigned j = lane; j < L; ++j) expect(state[j] >> 16 == 1, kBadEnd);
        pieces(main, count, kPiece, [&](std::size_t i, std::size_t n) -> std::size_t {
            const Pop take_symbol = pop();
            for (std::size_t j = 0; j < n; ++j) {
                std::uint32_t& x = state[(i + j) % kTailLanes];
                x = take_symbol(x, j);
                if (x < kLow) x = (x << 16) | (lane < L ? state[lane++] & 0xFFFF : in.take(2));
            }
            return 0;
        });
        for (; lane < L; ++lane) expect(state[lane] == kLow, kBadEnd);
        for (unsigned j = 0; j < kTailLanes; ++j) expect(state[j] == kLow, kBadEnd);
    }

    // Whole rounds, straight to the sink where it allows that, then the symbols that may lack words ahead.
    template <unsigned L>
    std::size_t main_piece(Reader& in, std::uint32_t* state, std::size_t i, std::size_t n) {
        const Emission emission = sink_->emission(all_.escape);
        const bool direct = emission.kind != Emit::kNumbers;
        char* const at = sink_->at(first_ + i);
        std::uint32_t* const out = direct ? reinterpret_cast<std::uint32_t*>(at) : symbols_.data();
        const std::uint8_t* const classes = classes_.empty() ? nullptr : piece_classes_.data();
        const std::size_t width = sink_->width();
        Rounds r{state, in.p, in.end, classes, out, n - n % L, at + kAhead * width, width, emission,
                 all_.escape, 0};
        const std::size_t whole = rounds_of<L>(r);
        if (direct && escape_)
            for (std::size_t k = 0; k < whole; k += L)
                if (r.escapes >> (k / L) & 1) note_escapes(i + k, out + k, L, emission.escape);
        in.p = r.p;
        const Pop take_symbol = pop();
        for (std::size_t j = whole; j < n; ++j) {
            const std::uint32_t x = take_symbol(state[j % L], j);
            state[j % L] = x < kLow ? (x << 16) | in.take(2) : x;
        }
        return direct ? whole : 0;
    }

    template <unsigned L>
    std::size_t rounds_of(Rounds& r) const {
#ifdef NOWORSE_AVX2
        if (simd_ != kPortable && all_.few.index() != 0)
            return std::visit([&](const auto& few) { return vectors<L>(few, r); }, all_.few);
        if (simd_ != kPortable) return r.classes ? vectors<L, true>(slots_, r) : vectors<L, false>(slots_, r);
#endif
        return r.classes ? rounds<Slot, L, true>(slots_, bits_, r) : rounds<Slot, L, false>(slots_, bits_, r);
    }
#ifdef NOWORSE_AVX2
    template <unsigned L>
    std::size_t vectors(std::monostate, Rounds&) const { return 0; }
    template <unsigned L, unsigned K>
    std::size_t vectors(const Few<K>& few, Rounds& r) const {
        return vectors<L, false>(&few, r);
    }
    template <unsigned L, bool Classes, class S>
    std::size_t vectors(const S* slots, Rounds& r) const {
        return simd_ == kAvx512 ? avx512::rounds<S, L, Classes>(slots, bits_, r)
                                : avx2::rounds<S, L, Classes>(slots, bits_, r);
    }
#endif

    const Model& model_;
    const Slots& all_;
    const Slot* slots_;
    const unsigned bits_;
    const ClassMap& classes_;
    const bool escape_;
    const unsigned simd_;
    std::size_t first_ = 0;
    Sink* sink_ = nullptr;
    std::vector<std::size_t> escaped_;
    std::array<std::uint32_t, kPiece> symbols_{};
    std::array<std::uint8_t, kPiece> piece_classes_{};
};

// One block of `count` symbols, of which the first is symbol `first` of its stream.
inline void decode_block(const Model& m, const Slots& slots, const ClassMap& classes, Reader in, std::size_t first,
                         std::size_t count, Sink& sink, unsigned simd) {
    Reader side{in.end, in.end};
    if (m.escape()) {
        const std::uint64_t bytes = take_varint(in.p, in.end);
        expect(bytes <= in.left(), "a block is shorter than its list of escaped values");
        in.end -= bytes;
        side.p = in.end;
    }
    const std::vector<std::size_t> escaped =
        slots.wide.empty() ? BlockDecoder<Narrow>(m, slots, slots.narrow, classes, simd).run(in, first, count, sink)
                           : BlockDecoder<Wide>(m, slots, slots.wide, classes, simd).run(in, first, count, sink);
    if (!m.escape()) return;
    BitReader bits{side.p, static_cast<std::uint64_t>(side.left()) * 8};
    for (const std::size_t i : escaped) {
        const Table& t = m.tables[classes.at(first + i)];
        sink.set(first + i, take_escape(bits, t.lo, t.end(), static_cast<unsigned>(t.golomb)));
    }
    bits.finish();
}

}  // namespace noworse
