// Interleaved rANS, from bytes to symbols; the byte layout is described in docs/format.md, section 5.
#pragma once

#include <array>

#include "classes.hpp"
#include "gathers.hpp"
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

// What decoding may use of what this processor has.
inline unsigned decoding_simd(unsigned simd) {
#ifdef NOWORSE_AVX2
    if (simd >= kGather && best_simd() == kAvx512 && gathers::are_quick()) return kGather;
#endif
    return std::min(simd, best_simd());
}

// Decodes one block, piece by piece through a buffer that stays in the first-level cache, or two in turns.
template <class Slot>
class BlockDecoder {
  public:
    BlockDecoder(const Model& m, const Slots& s, const Slot* slots, const ClassMap& classes, unsigned simd)
        : model_(m),
          all_(s),
          slots_(slots),
          bits_(Slot::bits(s.bits)),
          classes_(classes),
          escape_(m.escape()),
          simd_(decoding_simd(simd)) {}

    // Symbols `first` .. of the stream; returns where in the block escape symbols stand.
    std::vector<std::size_t> run(Reader& in, std::size_t first, std::size_t count, Sink& sink) {
        const unsigned n = lanes(model_, count);
        begin(in, first, n, sink);
        if (n == 1) single(count);
        else if (n == 16) several<16>(count);
        else several<32>(count);
        return end();
    }

#ifdef NOWORSE_AVX2
    // Two whole blocks of one stream, the second of which `next` decodes from another reader.
    std::pair<std::vector<std::size_t>, std::vector<std::size_t>> run_two(Reader (&in)[2], std::size_t first, Sink& sink,
                                                                          BlockDecoder& next) {
        BlockDecoder* const both[] = {this, &next};
        for (unsigned k = 0; k < 2; ++k) both[k]->begin(in[k], first + k * kBlock, 32, sink);
        const std::size_t main = kBlock - tail(32);
        for (std::size_t i = 0; i < main; i += 32 * kMostRounds) {
            const std::size_t n = std::min(32 * kMostRounds, main - i);
            Rounds r[] = {open<32>(i, n), next.template open<32>(i, n)};
            const std::size_t whole = classes_.empty() ? gathers::rounds<Slot, 32, false>(slots_, bits_, r)
                                                       : gathers::rounds<Slot, 32, true>(slots_, bits_, r);
            for (unsigned k = 0; k < 2; ++k) both[k]->template close<32>(r[k], whole, i, n);
        }
        for (BlockDecoder* decoder : both) decoder->template last<32>(kBlock);
        return {end(), next.end()};
    }
#endif

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

    void begin(Reader& in, std::size_t first, unsigned lanes, Sink& sink) {
        in_ = &in;
        first_ = first;
        sink_ = &sink;
        escaped_.clear();
        if (lanes == 1) return;
        for (unsigned j = 0; j < lanes; ++j) {
            state_[j] = in.take(4);
            expect(state_[j] >= kLow, kBadState);
        }
    }
    std::vector<std::size_t> end() {
        expect(in_->p == in_->end, "a block has bytes after its last symbol");
        return std::move(escaped_);
    }

    void fill_classes(std::size_t i, std::size_t n) {
        if (!classes_.empty()) classes_.fill(first_ + i, piece_classes_.data(), n);
    }
    // The numbers of the symbols i .. of the block, the first `done` of which are in the sink already.
    void pass(std::size_t i, std::size_t done, std::size_t n) {
        if (escape_) note_escapes(i + done, symbols_.data() + done, n - done, all_.escape);
        if (done < n) sink_->put(first_ + i + done, symbols_.data() + done, n - done);
    }
    void note_escapes(std::size_t i, const std::uint32_t* found, std::size_t n, std::uint32_t escape) {
        for (std::size_t j = 0; j < n; j += 32)
            for (std::uint64_t set = matches(found + j, std::min<std::size_t>(32, n - j), escape, simd_), k = 0; set;
                 set >>= 1, ++k)
                if (set & 1) escaped_.push_back(i + j + k);
    }

    // Calls decode(i, n), which leaves the numbers of symbols in symbols_, for pieces of begin .. end - 1 of the block.
    template <class Decode>
    void pieces(std::size_t begin, std::size_t end, Decode decode) {
        for (std::size_t i = begin; i < end; i += kPiece) {
            const std::size_t n = std::min(kPiece, end - i);
            fill_classes(i, n);
            decode(i, n);
            pass(i, 0, n);
        }
    }

    // One lane starts from zero: after the last word its state runs down to zero without refills.
    void single(std::size_t count) {
        Reader& in = *in_;
        const unsigned bytes = in.left() <= 4 ? static_cast<unsigned>(in.left()) : 4 - in.left() % 2;
        std::uint32_t x = in.take(bytes);
        expect(state_bytes(x) == bytes && (in.left() == 0 || x >= kLow), kBadState);
        pieces(0, count, [&](std::size_t, std::size_t n) {
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
        });
        expect(x == 0, kBadEnd);
    }

    template <unsigned L>
    void several(std::size_t count) {
        const std::size_t main = count - tail(L);
        for (std::size_t i = 0; i < main; i += L * kMostRounds) {
            const std::size_t n = std::min(L * kMostRounds, main - i);
            Rounds r = open<L>(i, n);
            const std::size_t whole = rounds_of<L>(r);
            close<L>(r, whole, i, n);
        }
        last<L>(count);
    }

    // The whole rounds among n symbols from i on, to go straight to the sink where it allows that.
    template <unsigned L>
    Rounds open(std::size_t i, std::size_t n) {
        fill_classes(i, n);
        const Emission emission = sink_->emission(all_.escape);
        char* const at = sink_->at(first_ + i);
        const bool direct = emission.kind != Emit::kNumbers;
        const std::size_t width = sink_->width();
        return {state_.data(), in_->p, in_->end, classes_.empty() ? nullptr : piece_classes_.data(),
                direct ? reinterpret_cast<std::uint32_t*>(at) : symbols_.data(), n - n % L, at + kAhead * width, width,
                emission, all_.escape, 0};
    }

    // The symbols behind the whole rounds, which may lack words ahead.
    template <unsigned L>
    void close(const Rounds& r, std::size_t whole, std::size_t i, std::size_t n) {
        const bool direct = r.emission.kind != Emit::kNumbers;
        std::size_t k = 0;
        for (std::uint64_t set = direct && escape_ ? r.escapes : 0; set; set >>= 1, k += L)
            if (set & 1) note_escapes(i + k, r.out + k, L, r.emission.escape);
        in_->p = r.p;
        const Pop take_symbol = pop();
        for (std::size_t j = whole; j < n; ++j) {
            std::uint32_t& x = state_[j % L];
            x = take_symbol(x, j);
            if (x < kLow) x = (x << 16) | in_->take(2);
        }
        pass(i, direct ? whole : 0, n);
    }

    // The tail of a block of `count` symbols.
    template <unsigned L>
    void last(std::size_t count) {
        unsigned lane = kTailLanes;  // the next one whose low half is a word
        for (unsigned j = lane; j < L; ++j) expect(state_[j] >> 16 == 1, kBadEnd);
        pieces(count - tail(L), count, [&](std::size_t i, std::size_t n) {
            const Pop take_symbol = pop();
            for (std::size_t j = 0; j < n; ++j) {
                std::uint32_t& x = state_[(i + j) % kTailLanes];
                x = take_symbol(x, j);
                if (x < kLow) x = (x << 16) | (lane < L ? state_[lane++] & 0xFFFF : in_->take(2));
            }
        });
        for (; lane < L; ++lane) expect(state_[lane] == kLow, kBadEnd);
        for (unsigned j = 0; j < kTailLanes; ++j) expect(state_[j] == kLow, kBadEnd);
    }

    template <unsigned L>
    std::size_t rounds_of(Rounds& r) const {
#ifdef NOWORSE_AVX2
        if (simd_ == kAvx2 || simd_ == kAvx512)
            if (all_.few.index() != 0) return std::visit([&](const auto& few) { return vectors<L>(few, r); }, all_.few);
        if (simd_ != kPortable) return r.classes ? vectors<L, true>(slots_, r) : vectors<L, false>(slots_, r);
#endif
        return r.classes ? rounds<Slot, L, true>(slots_, bits_, r) : rounds<Slot, L, false>(slots_, bits_, r);
    }
#ifdef NOWORSE_AVX2
    template <unsigned L>
    std::size_t vectors(std::monostate, Rounds&) const { return 0; }
    template <unsigned L, unsigned K>
    std::size_t vectors(const Few<K>& few, Rounds& r) const {
        return eights<L, false>(&few, r);
    }
    template <unsigned L, bool Classes>
    std::size_t vectors(const Slot* slots, Rounds& r) const {
        if (simd_ != kGather) return eights<L, Classes>(slots, r);
        Rounds only[] = {r};
        const std::size_t whole = gathers::rounds<Slot, L, Classes>(slots, bits_, only);
        r = only[0];
        return whole;
    }
    template <unsigned L, bool Classes, class S>
    std::size_t eights(const S* slots, Rounds& r) const {
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
    Reader* in_ = nullptr;
    std::size_t first_ = 0;
    Sink* sink_ = nullptr;
    std::vector<std::size_t> escaped_;
    std::array<std::uint32_t, 32> state_{};
    std::array<std::uint32_t, kPiece> symbols_{};
    std::array<std::uint8_t, kPiece> piece_classes_{};
};

// A block's bytes without the list of escaped values, which is what `side` becomes.
struct Parts {
    Reader in, side;

    Parts(const Model& m, Reader block) : in(block), side{block.end, block.end} {
        if (!m.escape()) return;
        const std::uint64_t bytes = take_varint(in.p, in.end);
        expect(bytes <= in.left(), "a block is shorter than its list of escaped values");
        in.end -= bytes;
        side.p = in.end;
    }

    // Sets the symbols at these places of the block to the values that escaped.
    void resolve(const Model& m, const ClassMap& classes, const std::vector<std::size_t>& escaped, std::size_t first,
                 Sink& sink) const {
        if (!m.escape()) return;
        BitReader bits{side.p, static_cast<std::uint64_t>(side.left()) * 8};
        for (const std::size_t i : escaped) {
            const Table& t = m.tables[classes.at(first + i)];
            sink.set(first + i, take_escape(bits, t.lo, t.end(), static_cast<unsigned>(t.golomb)));
        }
        bits.finish();
    }
};

// One block of `count` symbols, of which the first is symbol `first` of its stream.
inline void decode_block(const Model& m, const Slots& slots, const ClassMap& classes, Reader block, std::size_t first,
                         std::size_t count, Sink& sink, unsigned simd) {
    Parts parts(m, block);
    const auto run = [&](const auto* own) {
        return BlockDecoder(m, slots, own, classes, simd).run(parts.in, first, count, sink);
    };
    parts.resolve(m, classes, slots.wide ? run(slots.wide.get()) : run(slots.narrow.get()), first, sink);
}

#ifdef NOWORSE_AVX2
// Two whole blocks that follow one another.
inline void decode_two(const Model& m, const Slots& slots, const ClassMap& classes, const Reader (&blocks)[2],
                       std::size_t first, Sink& sink) {
    const Parts parts[] = {{m, blocks[0]}, {m, blocks[1]}};
    const auto run = [&](const auto* own) {
        BlockDecoder one(m, slots, own, classes, kGather), other(m, slots, own, classes, kGather);
        Reader in[] = {parts[0].in, parts[1].in};
        return one.run_two(in, first, sink, other);
    };
    const auto escaped = slots.wide ? run(slots.wide.get()) : run(slots.narrow.get());
    parts[0].resolve(m, classes, escaped.first, first, sink);
    parts[1].resolve(m, classes, escaped.second, first + kBlock, sink);
}
#endif

}  // namespace noworse
