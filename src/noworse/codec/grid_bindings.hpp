// Grids decoded together: the blocks of several streams shared out among threads, with one call from Python.
#pragma once

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "fingerprint.hpp"
#include "stream_bindings.hpp"

namespace noworse {

// A stream of codes, where their values go, and step and edge of the grid. Keeps what it is given alive.
struct GridPart {
    GridPart(const Tables& tables, Bytes data, const Lengths& lengths, Output<float> out, double step, int edge,
             Scales scales)
        : tables(tables), data(data), lengths(lengths), out(out), scale{step / 64, edge}, scales(std::move(scales)) {}
    const Tables& tables;
    Bytes data;
    Lengths lengths;
    Output<float> out;
    GridScale scale;
    Scales scales;
};

class GridJob {
  public:
    GridJob(const GridPart& part, unsigned simd, bool digest)
        : tables_(part.tables),
          out_(part.out.data()),
          count_(part.out.size()),
          simd_(simd),
          blocks_(blocks_of(part.data, part.lengths, count_)),
          sink_(out_, tables_.low(), tables_.high() + 1, part.scale, simd),
          sums_(digest ? blocks_.size() : 0, 0) {
        if (!tables_.constant()) classes_ = class_map(part.scales, tables_.parsed().of, count_);
    }

    std::size_t pieces() const { return tables_.constant() ? 1 : blocks_.size(); }

    // Decodes a piece, and takes its fingerprint while it is still in the cache.
    void run(std::size_t i) {
        if (tables_.constant()) {
            decode_constant(blocks_, count_, sink_);
            for (std::size_t k = 0; k < sums_.size(); ++k) add(k);
            return;
        }
        StreamJob{tables_.parsed().model, tables_.slots(), classes_, blocks_, count_, sink_, simd_}.decode(i);
        if (!sums_.empty()) add(i);
    }

    // 0 where none was asked for.
    std::uint64_t fingerprint() const {
        return std::accumulate(sums_.begin(), sums_.end(), sums_.empty() ? 0 : fingerprint_of_rest(bytes(), size()));
    }

  private:
    static constexpr std::size_t kWords = kBlock * sizeof(float) / 8;
    const std::uint8_t* bytes() const { return reinterpret_cast<const std::uint8_t*>(out_); }
    std::size_t size() const { return count_ * sizeof(float); }
    void add(std::size_t i) {
        sums_[i] = fingerprint_of(bytes(), i * kWords, std::min(size() / 8, (i + 1) * kWords));
    }

    const Tables& tables_;
    float* out_;
    std::size_t count_;
    unsigned simd_;
    Blocks blocks_;
    ClassMap classes_;
    FloatSink sink_;
    std::vector<std::uint64_t> sums_;
};

// Grids being decoded: helpers have begun when it is made, so that the caller can do other work before it asks for the
// results.
class GridDecoding {
  public:
    GridDecoding(const std::vector<const GridPart*>& parts, unsigned threads, unsigned simd, bool digest)
        : jobs_(parts.size()), errors_(parts.size()) {
        nanobind::gil_scoped_release release;
        for (std::size_t j = 0; j < parts.size(); ++j) {
            try {
                jobs_[j].emplace(*parts[j], simd, digest);
                for (std::size_t i = 0; i < jobs_[j]->pieces(); ++i) tasks_.emplace_back(j, i);
            } catch (const std::logic_error& error) {
                errors_[j] = error.what();
            }
        }
        failed_.resize(tasks_.size());
        crew_.emplace(tasks_.size(), threads, [this](std::size_t t) { run(t); });
    }

    // Fingerprints (0 without digest), or what is wrong with a part: the first that was found in it.
    nanobind::list results() {
        {
            nanobind::gil_scoped_release release;
            crew_->finish();
        }
        for (std::size_t t = tasks_.size(); t-- > 0;)
            if (!failed_[t].empty()) errors_[tasks_[t].first] = failed_[t];
        nanobind::list found;
        for (std::size_t j = 0; j < jobs_.size(); ++j)
            if (errors_[j].empty()) found.append(jobs_[j]->fingerprint());
            else found.append(errors_[j]);
        return found;
    }

  private:
    void run(std::size_t t) {
        try {
            jobs_[tasks_[t].first]->run(tasks_[t].second);
        } catch (const std::domain_error& error) {
            failed_[t] = error.what();
        }
    }

    std::vector<std::optional<GridJob>> jobs_;
    std::vector<std::string> errors_;  // of parts
    std::vector<std::pair<std::size_t, std::size_t>> tasks_;  // job and piece
    std::vector<std::string> failed_;  // of tasks
    std::optional<Crew> crew_;  // last, so that its helpers end first
};

inline void bind_grids(nanobind::module_& m) {
    using namespace nanobind::literals;
    const auto scales = nanobind::arg("scales") = nanobind::none();
    nanobind::class_<GridPart>(m, "GridPart")
        .def(nanobind::init<const Tables&, Bytes, const Lengths&, Output<float>, double, int, Scales>(),
             nanobind::keep_alive<1, 2>(), "tables"_a, "data"_a, "lengths"_a, "out"_a.noconvert(), "step"_a, "edge"_a,
             scales);
    nanobind::class_<GridDecoding>(m, "GridDecoding", "Threads that fill the outs of parts with their values.")
        .def(nanobind::init<const std::vector<const GridPart*>&, unsigned, unsigned, bool>(),
             nanobind::keep_alive<1, 2>(), "parts"_a, "threads"_a = 0, "simd"_a = kAvx512, "digest"_a = false)
        .def("results", &GridDecoding::results,
             "Waits; per part its fingerprint (0 without digest) or what is wrong.");
}

}  // namespace noworse
