// Work shared out among threads, whose number leaves no trace in the result.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "patience.hpp"

namespace noworse {

// Calls work(0) .. work(count - 1), each once and in any order. Helpers begin at once: one less than ``threads`` (0: one
// per processor), since whoever calls finish() works from then on. Without finish() what has not begun is left undone.
class Crew {
  public:
    using Work = std::function<void(std::size_t)>;

    Crew(std::size_t count, unsigned threads, Work work) : count_(count), work_(std::move(work)), failed_(count) {
        const std::size_t most = threads ? threads : std::max(1u, std::thread::hardware_concurrency());
        for (std::size_t i = 1; i < std::min(most, count); ++i) {
            try {
                helpers_.emplace_back([this] { helps = true, run(); });
            } catch (const std::system_error&) {
                break;  // no more threads to be had: the others do the work
            }
        }
    }
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;
    ~Crew() { stop(); }

    // Returns when all is done; the exception of the lowest piece that has thrown one is thrown again. What is thrown
    // by looking around ends the work at once, and for good.
    void finish() {
        if (stopped_) throw std::logic_error("work that was interrupted has no results");
        try {
            run();
        } catch (...) {
            stop();
            throw;
        }
        join();
        for (const std::exception_ptr& error : failed_)
            if (error) std::rethrow_exception(error);
    }

  private:
    void run() {
        for (std::size_t i = next_++; i < count_; i = next_++) {
            look_around();
            try {
                work_(i);
            } catch (...) {
                failed_[i] = std::current_exception();
            }
        }
    }
    void stop() {
        stopped_ = true;
        next_ = count_;
        join();
    }
    void join() {
        for (std::thread& helper : helpers_) helper.join();
        helpers_.clear();
    }

    std::size_t count_;
    Work work_;
    std::vector<std::exception_ptr> failed_;
    std::atomic<std::size_t> next_{0};
    bool stopped_ = false;
    std::vector<std::thread> helpers_;
};

// All of it, before this returns.
template <class Work>
void parallel(std::size_t count, unsigned threads, const Work& work) {
    Crew(count, threads, std::cref(work)).finish();
}

}  // namespace noworse
