// Tensors that are decoded together: what each of them is given, and its pieces, which threads share.
#pragma once

#include <memory>

#include "fingerprint.hpp"
#include "planes.hpp"
#include "stream_bindings.hpp"

namespace noworse {

// One tensor being decoded, piece by piece in any order.
class Job {
  public:
    virtual ~Job() = default;
    virtual std::size_t pieces() const = 0;
    virtual void run(std::size_t piece) = 0;
    // 0 where none was asked for.
    virtual std::uint64_t fingerprint() const = 0;
};

// What a tensor is decoded from, and where to; keeps what it is given alive.
class Part {
  public:
    virtual ~Part() = default;
    virtual std::unique_ptr<Job> job(unsigned simd, bool digest) const = 0;
};

// The fingerprint of a tensor, block by block while each is still in the cache.
class Digest {
  public:
    Digest(const void* data, std::size_t size, std::size_t blocks, std::size_t block)
        : data_(static_cast<const std::uint8_t*>(data)), size_(size), block_(block), sums_(blocks, 0) {}

    void add(std::size_t i) {
        if (i >= sums_.size()) return;
        const std::size_t begin = i * block_, end = std::min(size_, begin + block_);
        sums_[i] = fingerprint_of_part(data_ + begin, begin, end);
    }
    std::uint64_t value() const { return std::accumulate(sums_.begin(), sums_.end(), std::uint64_t{0}); }

  private:
    const std::uint8_t* data_;
    std::size_t size_, block_;  // bytes
    std::vector<std::uint64_t> sums_;
};

// A stream of codes, where their values go, and step and edge of the grid.
class GridPart final : public Part {
  public:
    GridPart(const Tables& tables, Bytes data, const Lengths& lengths, Output<float> out, double step, int edge,
             Scales scales)
        : tables(tables), data(data), lengths(lengths), out(out), scale{step / 64, edge}, scales(std::move(scales)) {}
    std::unique_ptr<Job> job(unsigned simd, bool digest) const override;

    const Tables& tables;
    Bytes data;
    Lengths lengths;
    Output<float> out;
    GridScale scale;
    Scales scales;
};

class GridJob final : public Job {
  public:
    GridJob(const GridPart& part, unsigned simd, bool digest)
        : tables_(part.tables),
          count_(part.out.size()),
          simd_(simd),
          blocks_(blocks_of(part.data, part.lengths, count_)),
          sink_(part.out.data(), tables_.low(), tables_.high() + 1, part.scale, simd),
          digest_(part.out.data(), count_ * sizeof(float), digest ? blocks_.size() : 0, kBlock * sizeof(float)) {
        if (!tables_.constant()) classes_ = class_map(part.scales, tables_.parsed().of, count_);
    }
    std::size_t pieces() const override { return tables_.constant() ? 1 : stream().pieces(); }
    void run(std::size_t piece) override {
        std::size_t first = 0, count = blocks_.size();
        if (tables_.constant()) {
            decode_constant(blocks_, count_, sink_);
        } else {
            StreamJob job = stream();
            job.decode(piece);
            first = piece * job.group();
            count = std::min(count - first, job.group());
        }
        for (std::size_t k = 0; k < count; ++k) digest_.add(first + k);
    }
    std::uint64_t fingerprint() const override { return digest_.value(); }

  private:
    StreamJob stream() const { return {tables_.parsed().model, tables_.slots(), classes_, blocks_, count_, sink_, simd_}; }

    const Tables& tables_;
    std::size_t count_;
    unsigned simd_;
    Blocks blocks_;
    ClassMap classes_;
    mutable FloatSink sink_;
    Digest digest_;
};

inline std::unique_ptr<Job> GridPart::job(unsigned simd, bool digest) const {
    return std::make_unique<GridJob>(*this, simd, digest);
}

// One stream of a plane: without tables its bytes are as they are, and the first checksum was not verified yet.
struct PlanePart {
    const Tables* tables;
    Bytes data;
    Lengths lengths;
};

using Plane = std::vector<const PlanePart*>;  // one stream, or one for each block

// The byte planes of a tensor of elements of 2, 4 or 8 bytes, lowest first, and where the elements go.
class RawPart final : public Part {
  public:
    RawPart(const std::vector<Plane>& planes, Output<std::uint8_t> out, bool rotate)
        : planes(planes), out(out), rotate(rotate) {
        const std::size_t width = planes.size();
        if (width != 2 && width != 4 && width != 8) throw std::invalid_argument("elements of 2, 4 or 8 bytes have planes");
        if (out.size() % width) throw std::invalid_argument("sizes do not fit");
    }
    std::unique_ptr<Job> job(unsigned simd, bool digest) const override;

    std::vector<Plane> planes;
    Output<std::uint8_t> out;
    bool rotate;
};

// Takes the bytes of one plane, and puts the elements together as soon as it has some.
class PlaneSink final : public Sink {
  public:
    // `planes` begin at symbol `first`; that of number `own` is what comes.
    PlaneSink(const std::uint8_t* const* planes, unsigned width, unsigned own, bool rotate, std::size_t first,
              std::uint8_t* out, const Tables& tables, unsigned simd)
        : bytes_(buffer_, tables.low(), tables.high() + 1, simd),
          first_(first),
          width_(width),
          own_(own),
          rotate_(rotate),
          out_(out) {
        std::copy_n(planes, width, planes_);
    }
    void put(std::size_t i, const std::uint32_t* k, std::size_t n) override {
        for (std::size_t done = 0; done < n; done += kSome) some(i + done, k + done, std::min(kSome, n - done));
    }
    char* at(std::size_t i) override { return reinterpret_cast<char*>(out_ + i * width_); }
    std::size_t width() const override { return width_; }
    Emission emission(std::uint32_t) const override { return {}; }
    void set(std::size_t i, std::int32_t value) override {
        bytes_.set(0, value);
        const std::uint8_t* one[8];
        for (unsigned p = 0; p < width_; ++p) one[p] = p == own_ ? buffer_ : planes_[p] + (i - first_);
        join_planes(one, 1, width_, rotate_, out_ + i * width_);
    }

  private:
    static constexpr std::size_t kSome = 2048;
    void some(std::size_t i, const std::uint32_t* k, std::size_t n) {
        bytes_.put(0, k, n);
        const std::uint8_t* from[8];
        for (unsigned p = 0; p < width_; ++p) from[p] = p == own_ ? buffer_ : planes_[p] + (i - first_);
        join_planes(from, n, width_, rotate_, out_ + i * width_);
    }

    std::uint8_t buffer_[kSome];
    CodeSink<std::uint8_t> bytes_;
    std::size_t first_;
    unsigned width_, own_;
    bool rotate_;
    std::uint8_t* out_;
    const std::uint8_t* planes_[8];
};

class RawJob final : public Job {
  public:
    RawJob(const RawPart& part, unsigned simd, bool digest)
        : part_(part),
          width_(static_cast<unsigned>(part.planes.size())),
          count_(part.out.size() / width_),
          simd_(simd),
          digest_(part.out.data(), part.out.size(), digest ? pieces() : 0, kBlock * width_) {
        for (const Plane& plane : part.planes) {
            if (plane.size() != 1 && plane.size() != pieces())
                throw std::domain_error("a plane of " + std::to_string(pieces()) + " blocks lies in " +
                                        std::to_string(plane.size()) + " streams, expected one or as many");
            planes_.emplace_back();
            for (std::size_t i = 0; i < plane.size(); ++i)
                add(*plane[i], plane.size() == 1 ? count_ : symbols(i));
        }
    }
    std::size_t pieces() const override { return (count_ + kBlock - 1) / kBlock; }
    void run(std::size_t i) override {
        const std::size_t first = i * kBlock, n = symbols(i);
        const std::uint8_t* planes[8] = {};
        std::vector<std::uint8_t> decoded;
        unsigned last = width_, coded = 0;  // the last coded plane, and how many there are
        for (unsigned p = 0; p < width_; ++p)
            if (at(p, i).tables) last = p, ++coded;
        decoded.resize(coded > 1 ? (coded - 1) * n : 0);
        for (unsigned p = 0, slot = 0; p < width_; ++p) {
            if (p == last) continue;
            if (at(p, i).tables) planes[p] = plane(p, i, n, decoded.data() + n * slot++);
            else planes[p] = plain(p, i);
        }
        std::uint8_t* const out = part_.out.data();
        if (last == width_) {
            join_planes(planes, n, width_, part_.rotate, out + first * width_);
        } else {
            PlaneSink sink(planes, width_, last, part_.rotate, first, out, *at(last, i).tables, simd_);
            decode(last, i, first, n, sink);
        }
        digest_.add(i);
    }
    std::uint64_t fingerprint() const override { return digest_.value(); }

  private:
    struct Stream {
        const Tables* tables;
        Blocks blocks;
    };

    std::size_t symbols(std::size_t i) const { return std::min(kBlock, count_ - i * kBlock); }
    // The stream that holds block i of plane p, and the number of the block in it.
    const Stream& at(unsigned p, std::size_t i) const { return planes_[p][planes_[p].size() == 1 ? 0 : i]; }
    std::size_t within(unsigned p, std::size_t i) const { return planes_[p].size() == 1 ? i : 0; }

    void add(const PlanePart& part, std::size_t count) {
        const Blocks blocks = blocks_of(part.data, part.lengths, count);
        for (std::size_t i = 0; !part.tables && i < blocks.size(); ++i)
            if (blocks.starts[i + 1] - blocks.starts[i] != std::min(kBlock, count - i * kBlock))
                throw std::domain_error("a block of plain bytes has another length than it has symbols");
        if (part.tables) CodeSink<std::uint8_t>(nullptr, part.tables->low(), part.tables->high() + 1, simd_);
        planes_.back().push_back({part.tables, blocks});
    }
    const std::uint8_t* plain(unsigned p, std::size_t i) const {
        const Blocks& blocks = at(p, i).blocks;
        const std::size_t k = within(p, i);
        const std::uint8_t *begin = blocks.data + blocks.starts[k], *end = blocks.data + blocks.starts[k + 1];
        if (blocks.checksums.empty()) return begin;
        const std::uint32_t found = crc32(0, begin, end), expected = blocks.checksums[k];
        if (found != expected)
            throw std::domain_error(
                damaged(k, blocks.size(), "its crc32 is " + hex(found) + ", expected " + hex(expected)));
        return begin;
    }
    const std::uint8_t* plane(unsigned p, std::size_t i, std::size_t n, std::uint8_t* out) const {
        const Tables& tables = *at(p, i).tables;
        CodeSink<std::uint8_t> sink(out, tables.low(), tables.high() + 1, simd_);
        decode(p, i, 0, n, sink);
        return out;
    }
    // Block i of plane p to elements `first` .. of a sink.
    void decode(unsigned p, std::size_t i, std::size_t first, std::size_t n, Sink& sink) const {
        const auto& [tables, blocks] = at(p, i);
        try {
            const Reader in = blocks.open(within(p, i));
            if (!tables->constant())
                return decode_block(tables->parsed().model, tables->slots(), ClassMap(), in, first, n, sink, simd_);
            expect(in.left() == 0, "a constant stream has a block with bytes, expected none");
            const std::vector<std::uint32_t> none(std::min<std::size_t>(n, 4096), 0);  // the alphabet has one symbol
            for (std::size_t k = 0; k < n; k += none.size()) sink.put(first + k, none.data(), std::min(none.size(), n - k));
        } catch (const std::domain_error& error) {
            throw std::domain_error(damaged(within(p, i), blocks.size(), error.what()));
        }
    }

    const RawPart& part_;
    unsigned width_;
    std::size_t count_;
    unsigned simd_;
    std::vector<std::vector<Stream>> planes_;
    Digest digest_;
};

inline std::unique_ptr<Job> RawPart::job(unsigned simd, bool digest) const {
    return std::make_unique<RawJob>(*this, simd, digest);
}

}  // namespace noworse
