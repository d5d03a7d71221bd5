// NGNN's items and pairs: projections by the matrix of each item's category, there and back, and the losses of pairs.
//
// Compiled on the user's machine by recexp/models/native.py. All arrays are float32, row by row, without gaps.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "native_lanes.h"

namespace {

// Rows of the matrix that a register may reach beyond: they are read and written through a copy.
const Int border = lanes;

// Columns from `c` on of one run: p[I, .] = x[I, d] w[d, h]. S sums of every S-th row each, so that none waits for another.
template <int I, int V, int S>
void project(Int d, Int h, Int c, const float* x, const float* w, float* p) {
    Lanes sum[S][I][V] = {};
    const Int safe = std::max<Int>(0, d - border) / S * S;
    for (Int k = 0; k < safe; k += S)
        for (int s = 0; s < S; ++s)
            for (int v = 0; v < V; ++v) {
                const Lanes row = load(w + (k + s) * h + c + v * lanes);
                for (int i = 0; i < I; ++i) sum[s][i][v] += x[i * d + k + s] * row;
            }
    const Int columns = std::min<Int>(V * lanes, h - c);
    float copy[V * lanes] = {};
    for (Int k = safe; k < d; ++k) {
        std::memcpy(copy, w + k * h + c, sizeof(float) * columns);
        for (int v = 0; v < V; ++v)
            for (int i = 0; i < I; ++i) sum[0][i][v] += x[i * d + k] * load(copy + v * lanes);
    }
    for (int i = 0; i < I; ++i) {
        for (int s = 1; s < S; ++s)
            for (int v = 0; v < V; ++v) sum[0][i][v] += sum[s][i][v];
        for (int v = 0; v < V; ++v) store(copy + v * lanes, sum[0][i][v]);
        std::memcpy(p + i * h + c, copy, sizeof(float) * columns);
    }
}

// Columns from `c` on of the gradient of one run's matrix: w[d, h] = or += (`more`) x[I, d]' p[I, h].
template <int I, int V>
void outer(Int d, Int h, Int c, bool more, const float* x, const float* p, float* w) {
    const Int columns = std::min<Int>(V * lanes, h - c), safe = h > V * lanes ? 0 : std::max<Int>(0, d - border);
    float copy[V * lanes] = {};
    Lanes factor[I][V];
    for (int i = 0; i < I; ++i) {
        std::memcpy(copy, p + i * h + c, sizeof(float) * columns);
        for (int v = 0; v < V; ++v) factor[i][v] = load(copy + v * lanes);
    }
    // What is written beyond a row is 0, or what was there, and the next row's turn comes after.
    for (Int k = 0; k < safe; ++k)
        for (int v = 0; v < V; ++v) {
            float* at = w + k * h + v * lanes;
            Lanes sum = more ? load(at) : Lanes{};
            for (int i = 0; i < I; ++i) sum += x[i * d + k] * factor[i][v];
            store(at, sum);
        }
    for (Int k = safe; k < d; ++k) {
        float* at = w + k * h + c;
        if (more) std::memcpy(copy, at, sizeof(float) * columns);
        for (int v = 0; v < V; ++v) {
            Lanes sum = more ? load(copy + v * lanes) : Lanes{};
            for (int i = 0; i < I; ++i) sum += x[i * d + k] * factor[i][v];
            store(copy + v * lanes, sum);
        }
        std::memcpy(at, copy, sizeof(float) * columns);
    }
}

template <int V>
void project_columns(Int items, Int d, Int h, Int c, const float* x, const float* w, float* p) {
    Int i = 0;
    for (; i + 4 <= items; i += 4) project<4, V, 1>(d, h, c, x + i * d, w, p + i * h);
    if (items - i == 3) project<3, V, 1>(d, h, c, x + i * d, w, p + i * h);
    if (items - i == 2) project<2, V, 2>(d, h, c, x + i * d, w, p + i * h);
    if (items - i == 1) project<1, V, 4>(d, h, c, x + i * d, w, p + i * h);
}

template <int V>
void outer_columns(Int items, Int d, Int h, Int c, const float* x, const float* p, float* w) {
    Int i = 0;
    for (; i + 4 <= items; i += 4) outer<4, V>(d, h, c, i > 0, x + i * d, p + i * h, w);
    if (items - i == 3) outer<3, V>(d, h, c, i > 0, x + i * d, p + i * h, w);
    if (items - i == 2) outer<2, V>(d, h, c, i > 0, x + i * d, p + i * h, w);
    if (items - i == 1) outer<1, V>(d, h, c, i > 0, x + i * d, p + i * h, w);
}

}  // namespace

extern "C" {

// p[i] = x[i] w[category of i]: items bounds[r]..bounds[r + 1] are of category[r]; w [C, d h].
void project_runs(Int runs, Int d, Int h, const Int* category, const Int* bounds, const float* x, const float* w,
                  float* p) {
    for (Int r = 0; r < runs; ++r) {
        const Int first = bounds[r], items = bounds[r + 1] - first;
        const float* matrix = w + category[r] * d * h;
        for (Int c = 0; c < h; c += 2 * lanes)
            (h - c > lanes ? project_columns<2> : project_columns<1>)(items, d, h, c, x + first * d, matrix, p + first * h);
    }
}

// Gradients of the matrices of the runs, [runs, d h]; `first` is the number of the first one's first item.
void project_runs_backward(Int runs, Int d, Int h, const Int* bounds, const float* x, const float* d_p, float* d_w) {
    for (Int r = 0; r < runs; ++r) {
        const Int first = bounds[r], items = bounds[r + 1] - first;
        for (Int c = 0; c < h; c += 2 * lanes)
            (h - c > lanes ? outer_columns<2> : outer_columns<1>)(items, d, h, c, x + first * d, d_p + first * h,
                                                                  d_w + r * d * h);
    }
}

// The row of each word in a table [C words, h], and the sum of the rows of each owner, p [U, h].
void sum_words(Int count, Int items, Int words, Int h, const Int* word, const Int* owner, const Int* category,
               const float* table, Int* row, float* p) {
    for (Int t = 0; t < count; ++t) {
        row[t] = category[owner[t]] * words + word[t];
        __builtin_prefetch(table + row[t] * h);
        __builtin_prefetch(table + row[t] * h + h - 1);
    }
    std::memset(p, 0, sizeof(float) * items * h);
    for (Int t = 0; t < count; ++t)
        for (Int c = 0; c < h; ++c) p[owner[t] * h + c] += table[row[t] * h + c];
}

// Loss of B pairs and the gradient of their scores [B, 2] by each modality, whose scores count `share`; null: none.
// `form`: 0 is log(1 + exp(-difference)), 1 is -sigmoid(difference). Returns the sum of the losses times `scale`.
double pair_gradient(Int rows, Int form, float scale, float share, const float* scores, float other_share,
                     const float* other, float* d_scores, float* d_other) {
    double loss = 0.0;
    for (Int b = 0; b < rows; ++b) {
        double x = share * static_cast<double>(scores[2 * b] - scores[2 * b + 1]);
        if (other) x += other_share * static_cast<double>(other[2 * b] - other[2 * b + 1]);
        const double sure = 1.0 / (1.0 + std::exp(-x));
        loss += form == 0 ? std::max(-x, 0.0) + std::log1p(std::exp(-std::fabs(x))) : -sure;
        const double d = scale * (form == 0 ? -1.0 / (1.0 + std::exp(x)) : -sure * (1.0 - sure));
        d_scores[2 * b] = static_cast<float>(share * d), d_scores[2 * b + 1] = -d_scores[2 * b];
        if (!other) continue;
        d_other[2 * b] = static_cast<float>(other_share * d), d_other[2 * b + 1] = -d_other[2 * b];
    }
    return scale * loss;
}

// Adds the gradients of weight / size * (image - text)^2 over the nodes of the first outfit, and returns the sum times
// `scale`; a size of 0 is that of the outfit. `category` null. Otherwise the reference's slip: (image of the first - image of the
// second)^2 by category, where one that an outfit lacks is 0.
double consistency_gradient(Int rows, Int nodes, Int h, float weight, float size, float scale, const Int* node,
                            const Int* category, const std::uint8_t* member, const float* image, const float* text,
                            float* d_image, float* d_text) {
    double loss = 0.0;
    for (Int b = 0; b < rows; ++b) {
        const std::uint8_t *real = member + 2 * b * nodes, *made = real + nodes;
        const Int* item = node + b * nodes;
        Int present = 0;
        for (Int i = 0; i < nodes; ++i) present += real[i];
        const float factor = scale * weight / (size > 0.0f ? size : static_cast<float>(std::max<Int>(present, 1) * h));
        const auto pull = [&](const float* one, const float* other, float* d_one, float* d_other) {
            for (Int c = 0; c < h; ++c) {
                const float apart = one[c] - (other ? other[c] : 0.0f), d = 2.0f * factor * apart;
                loss += static_cast<double>(factor) * apart * apart;
                d_one[c] += d;
                if (other) d_other[c] -= d;
            }
        };
        for (Int i = 0; i < nodes; ++i) {
            const Int own = item[i] * h;
            if (!category) {
                if (real[i]) pull(image + own, text + own, d_image + own, d_text + own);
                continue;
            }
            if (real[i] == made[i]) continue;
            Int twin = -1;
            for (Int j = 0; j < nodes; ++j)
                if (real[j] != made[j] && real[j] != real[i] && category[b * nodes + j] == category[b * nodes + i]) twin = j;
            if (twin < 0)
                pull(image + own, nullptr, d_image + own, nullptr);
            else if (real[i])
                pull(image + own, image + item[twin] * h, d_image + own, d_image + item[twin] * h);
        }
    }
    return loss;
}

}  // extern "C"
