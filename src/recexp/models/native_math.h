// exp, sigmoid and tanh of float32 as arithmetic that a compiler vectorises; for the loops of native*.cpp.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// exp as Cephes computes it (S. Moshier): exponent by rounding, a polynomial for the rest; about one unit in the last place.
// Below -87 the answer is 0: the next smaller numbers have no exponent of their own and are slow.
inline float fast_exp(float given) {
    const float x = given > 88.0f ? 88.0f : (given < -87.0f ? -87.0f : given);
    const float n = std::floor(x * 1.44269504088896341f + 0.5f);
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return given < -87.0f ? 0.0f : p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

// 1 - 2 / (e^2x + 1) loses digits near 0, where the series is exact enough.
inline float fast_tanh(float x) {
    const float s = x * x;
    const float series = x * (1.0f + s * (-0.333333333f + s * (0.133333333f + s * -0.0539682540f)));
    const float whole = 1.0f - 2.0f / (fast_exp(2.0f * x) + 1.0f);
    return s < 0.01f ? series : whole;
}

}  // namespace
