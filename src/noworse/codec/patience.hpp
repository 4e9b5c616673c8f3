// Long work looks around now and then, so that whoever waits for it may end it by an exception.
#pragma once

#include <algorithm>
#include <cstddef>

namespace noworse {

inline void (*on_look)() = [] {};        // what the bindings do then; may throw (native.cpp looks for signals)
inline thread_local bool helps = false;  // whether others wait for this thread, which then looks for nothing

inline void look_around() {
    if (!helps) on_look();
}

// Calls work(begin, end) for chunks of 0 .. count - 1 that take milliseconds, and looks around before each.
template <class Work>
void in_chunks(std::size_t count, const Work& work) {
    constexpr std::size_t kChunk = std::size_t{1} << 20;
    for (std::size_t begin = 0; begin < count; begin += kChunk) {
        look_around();
        work(begin, std::min(count, begin + kChunk));
    }
}

// Looks around after every so many steps of work that comes in small pieces.
class Patience {
  public:
    void spend(std::size_t steps) {
        if ((spent_ += steps) < kMost) return;
        spent_ = 0;
        look_around();
    }

  private:
    static constexpr std::size_t kMost = std::size_t{1} << 20;
    std::size_t spent_ = 0;
};

}  // namespace noworse
