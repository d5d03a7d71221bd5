// Several float32 numbers as one value, as GCC and Clang have them for every processor; for the loops of native*.cpp.

#pragma once

#include <cstdint>

namespace {

using Int = std::int64_t;
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
const Int lanes = 16;

inline Lanes load(const float* at) { return *reinterpret_cast<const Lanes*>(at); }
inline void store(float* at, Lanes value) { *reinterpret_cast<Lanes*>(at) = value; }

}  // namespace
