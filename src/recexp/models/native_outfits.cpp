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
// Items of a run that are multiplied at once: as many as there are registers for.
const Int most = 6;

// Columns from `c` on of one run: p[I, .] = x[I, d] w[d, h]. S sums of every S-th row each, so that none waits for another.
template <int I, int S>
void project(Int d, Int h, Int c, const float* x, const float* w, float* p) {
    Lanes sum[S][I] = {};
    const Int safe = std::max<Int>(0, d - border) / S * S, columns = std::min<Int>(lanes, h - c);
    for (Int k = 0; k < safe; k += S)
        for (int s = 0; s < S; ++s) {
            const Lanes row = load(w + (k + s) * h + c);
            for (int i = 0; i < I; ++i) sum[s][i] += x[i * d + k + s] * row;
        }
    float copy[lanes] = {};
    for (Int k = safe; k < d; ++k) {
        std::memcpy(copy, w + k * h + c, sizeof(float) * columns);
        for (int i = 0; i < I; ++i) sum[0][i] += x[i * d + k] * load(copy);
    }
    for (int i = 0; i < I; ++i) {
        for (int s = 1; s < S; ++s) sum[0][i] += sum[s][i];
        store(copy, sum[0][i]);
        std::memcpy(p + i * h + c, copy, sizeof(float) * columns);
    }
}

// Columns from `c` on of the gradient of one run's matrix: w[d, h] = or += (`more`) x[I, d]' p[I, h].
template <int I>
void outer(Int d, Int h, Int c, bool more, const float* x, const float* p, float* w) {
    const Int columns = std::min<Int>(lanes, h - c), safe = h > lanes ? 0 : std::max<Int>(0, d - border);
    float copy[lanes] = {};
    Lanes factor[I], none = {};
    for (int i = 0; i < I; ++i) {
        std::memcpy(copy, p + i * h + c, sizeof(float) * columns);
        factor[i] = load(copy);
    }
    // What is written beyond a row is 0, or what was there, and the next row's turn comes after; that row is read before,
    // because a number that was just written in two parts is slow to read.
    Lanes next = more && safe > 0 ? load(w) : none;
    for (Int k = 0; k < safe; ++k) {
        Lanes sum = next;
        if (more) next = load(w + (k + 1) * h);
        for (int i = 0; i < I; ++i) sum += x[i * d + k] * factor[i];
        store(w + k * h, sum);
    }
    for (Int k = safe; k < d; ++k) {
        float* at = w + k * h + c;
        if (more) std::memcpy(copy, at, sizeof(float) * columns);
        Lanes sum = more ? load(copy) : none;
        for (int i = 0; i < I; ++i) sum += x[i * d + k] * factor[i];
        store(copy, sum);
        std::memcpy(at, copy, sizeof(float) * columns);
    }
}

}  // namespace

extern "C" {

// p[i] = x[i] w[category of i]: items bounds[r]..bounds[r + 1] are of category[r]; w [C, d h].
void project_runs(Int runs, Int d, Int h, const Int* category, const Int* bounds, const float* x, const float* w,
                  float* p) {
    const decltype(&project<1, 1>) some[] = {project<1, 4>, project<2, 2>, project<3, 2>, project<4, 1>,
                                             project<5, 1>, project<6, 1>};
    for (Int r = 0; r < runs; ++r) {
        const Int first = bounds[r], items = bounds[r + 1] - first;
        const float* matrix = w + category[r] * d * h;
        for (Int c = 0; c < h; c += lanes)
            for (Int i = 0; i < items; i += most)
                some[std::min<Int>(most, items - i) - 1](d, h, c, x + (first + i) * d, matrix, p + (first + i) * h);
    }
}

// Gradients of the matrices of the runs, [runs, d h]; `first` is the number of the first one's first item.
void project_runs_backward(Int runs, Int d, Int h, const Int* bounds, const float* x, const float* d_p, float* d_w) {
    const decltype(&outer<1>) some[] = {outer<1>, outer<2>, outer<3>, outer<4>, outer<5>, outer<6>};
    for (Int r = 0; r < runs; ++r) {
        const Int first = bounds[r], items = bounds[r + 1] - first;
        for (Int c = 0; c < h; c += lanes)
            for (Int i = 0; i < items; i += most)
                some[std::min<Int>(most, items - i) - 1](d, h, c, i > 0, x + (first + i) * d, d_p + (first + i) * h,
                                                         d_w + r * d * h);
    }
}

// The row of each word in a table [C words, h], and the sum of the rows of each owner, p [U, h].
void sum_words(Int count, Int items, Int words, Int h, const Int* word, const Int* owner, const Int* category,
               const float* table, Int* row, float* p) {
    const Int ahead = 24;  // Rows lie anywhere: each would wait for the memory in turn.
    std::memset(p, 0, sizeof(float) * items * h);
    for (Int t = 0; t < count + ahead; ++t) {
        if (t < count) {
            row[t] = category[owner[t]] * words + word[t];
            __builtin_prefetch(table + row[t] * h);
            __builtin_prefetch(table + row[t] * h + h - 1);
        }
        if (t < ahead) continue;
        const float* from = table + row[t - ahead] * h;
        float* to = p + owner[t - ahead] * h;
        for (Int c = 0; c < h; ++c) to[c] += from[c];
    }
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
