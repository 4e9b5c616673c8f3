// Tensors decoded together: the blocks of all their streams shared out among threads, with one call from Python.
#pragma once

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "jobs.hpp"

namespace noworse {

// Tensors being decoded: helpers have begun when it is made, so that the caller can do other work before it asks for the
// results.
class Decoding {
  public:
    Decoding(const std::vector<const Part*>& parts, unsigned threads, unsigned simd, bool digest)
        : jobs_(parts.size()), errors_(parts.size()) {
        nanobind::gil_scoped_release release;
        for (std::size_t j = 0; j < parts.size(); ++j) {
            try {
                jobs_[j] = parts[j]->job(simd, digest);
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

    std::vector<std::unique_ptr<Job>> jobs_;
    std::vector<std::string> errors_;  // of parts
    std::vector<std::pair<std::size_t, std::size_t>> tasks_;  // job and piece
    std::vector<std::string> failed_;  // of tasks
    std::optional<Crew> crew_;  // last, so that its helpers end first
};

inline void bind_decoding(nanobind::module_& m) {
    using namespace nanobind::literals;
    const auto scales = nanobind::arg("scales") = nanobind::none();
    nanobind::class_<Part>(m, "Part");
    nanobind::class_<PlanePart>(m, "PlanePart")
        .def("__init__",
             [](PlanePart* part, const Tables* tables, Bytes data, const Lengths& lengths) {
                 new (part) PlanePart{tables, data, lengths};
             },
             nanobind::keep_alive<1, 2>(), "tables"_a.none(), "data"_a, "lengths"_a);
    nanobind::class_<RawPart, Part>(m, "RawPart")
        .def(nanobind::init<const std::vector<Plane>&, Output<std::uint8_t>, bool>(),
             nanobind::keep_alive<1, 2>(), "planes"_a, "out"_a.noconvert(), "rotate"_a);
    nanobind::class_<GridPart, Part>(m, "GridPart")
        .def(nanobind::init<const Tables&, Bytes, const Lengths&, Output<float>, double, int, Scales>(),
             nanobind::keep_alive<1, 2>(), "tables"_a, "data"_a, "lengths"_a, "out"_a.noconvert(), "step"_a, "edge"_a,
             scales);
    nanobind::class_<Decoding>(m, "Decoding", "Threads that fill the outs of parts with their values.")
        .def(nanobind::init<const std::vector<const Part*>&, unsigned, unsigned, bool>(),
             nanobind::keep_alive<1, 2>(), "parts"_a, "threads"_a = 0, "simd"_a = kGather, "digest"_a = false)
        .def("results", &Decoding::results,
             "Waits; per part its fingerprint (0 without digest) or what is wrong.");
}

}  // namespace noworse
