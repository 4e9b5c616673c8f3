// One loop, compiled for each instruction set and chosen when it runs: plain C++ that compilers vectorise.
//
// Results are the same on all: every operation is rounded on its own (-ffp-contract=off, see CMakeLists.txt), and sums
// are taken over kLanes lanes whatever the registers are. A loop is a function object whose operator() is marked
// NOWORSE_INLINE and works on copies of its members.
#pragma once

#include <algorithm>

#include "rounds.hpp"

namespace noworse {

constexpr std::size_t kLanes = 16;  // of sums

#ifdef NOWORSE_AVX2
template <class Loop>
__attribute__((target("avx2"))) void run_avx2(const Loop& loop) {
    loop();
}
template <class Loop>
__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512"))) void run_avx512(const Loop& loop) {
    loop();
}
#endif

template <class Loop>
void run_cloned(const Loop& loop, unsigned simd) {
#ifdef NOWORSE_AVX2
    static const bool wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    const unsigned set = std::min(simd, best_simd());
    if (set == kAvx512 && wide) return run_avx512(loop);
    if (set >= kAvx2) return run_avx2(loop);
#else
    (void)simd;
#endif
    loop();
}

}  // namespace noworse
