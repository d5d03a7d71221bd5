// Element-wise parts of GRU4Rec's update, and optimisers of tables' rows, each in one pass over the memory.
//
// Compiled on the user's machine by recexp/models/native.py. Plain C++17 loops that a compiler vectorises: no library, no
// threads. All arrays are float32, row by row, without gaps. Matrix products stay with torch.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "native_math.h"

namespace {

// Rows lie anywhere: those some places ahead are fetched, or each waits for the memory in turn.
const std::int64_t ahead = 16;

inline void fetch(const float* row, std::int64_t width) {
    for (std::int64_t j = 0; j < width; j += 16) __builtin_prefetch(row + j, 1);
    __builtin_prefetch(row + width - 1, 1);
}

}  // namespace

extern "C" {

// Gates, candidate and next state of b slots; `mask` may be null. Kept for the way back: gates [b, 2h], candidate and
// difference (state - candidate) [b, h]. `query` is the next state after dropout.
void gru_forward(std::int64_t b, std::int64_t h, const float* __restrict projected, const float* __restrict recurrent,
                 const float* __restrict state, const float* __restrict mask, float* __restrict gates,
                 float* __restrict candidate, float* __restrict difference, float* __restrict query) {
    for (std::int64_t i = 0; i < b; ++i) {
        const float *p = projected + 3 * h * i, *r = recurrent + 3 * h * i, *s = state + h * i;
        float *g = gates + 2 * h * i, *c = candidate + h * i, *d = difference + h * i, *q = query + h * i;
        for (std::int64_t j = 0; j < 2 * h; ++j) g[j] = sigmoid(p[j] + r[j]);
        for (std::int64_t j = 0; j < h; ++j) {
            c[j] = fast_tanh(p[2 * h + j] + g[j] * r[2 * h + j]);
            d[j] = s[j] - c[j];
            q[j] = c[j] + g[h + j] * d[j];
        }
        if (mask != nullptr)
            for (std::int64_t j = 0; j < h; ++j) q[j] *= mask[h * i + j];
    }
}

// Gradients of the gates from that of the next state before dropout, which is d_query times the mask; and of both biases.
void gru_backward(std::int64_t b, std::int64_t h, const float* __restrict d_query, const float* __restrict mask,
                  const float* __restrict gates, const float* __restrict candidate, const float* __restrict difference,
                  const float* __restrict recurrent, float* __restrict d_projected, float* __restrict d_recurrent,
                  float* __restrict d_bias_ih, float* __restrict d_bias_hh) {
    std::memset(d_bias_ih, 0, sizeof(float) * 3 * h);
    std::memset(d_bias_hh, 0, sizeof(float) * 3 * h);
    for (std::int64_t i = 0; i < b; ++i) {
        const float *g = gates + 2 * h * i, *c = candidate + h * i, *e = difference + h * i;
        const float *n = recurrent + 3 * h * i + 2 * h, *dq = d_query + h * i;
        float *dp = d_projected + 3 * h * i, *dr = d_recurrent + 3 * h * i;
        for (std::int64_t j = 0; j < h; ++j) {
            const float reset = g[j], update = g[h + j];
            const float d = mask == nullptr ? dq[j] : dq[j] * mask[h * i + j];
            const float d_candidate = d * (1.0f - update) * (1.0f - c[j] * c[j]);
            const float d_update = d * e[j] * update * (1.0f - update);
            const float d_reset = d_candidate * n[j] * reset * (1.0f - reset);
            dp[j] = dr[j] = d_reset;
            dp[h + j] = dr[h + j] = d_update;
            dp[2 * h + j] = d_candidate;
            dr[2 * h + j] = d_candidate * reset;
        }
        for (std::int64_t j = 0; j < 3 * h; ++j) d_bias_ih[j] += dp[j];
        for (std::int64_t j = 0; j < 3 * h; ++j) d_bias_hh[j] += dr[j];
    }
}

// Softmax of scores [b, u] in place, less 1 at the own column, times scale; its transpose [u, b] and its sums over the
// slots [u]. Returns the sum of -log of the own columns' shares, not scaled.
double softmax_gradient(std::int64_t b, std::int64_t u, const std::int64_t* __restrict own, float scale,
                        float* __restrict scores, float* __restrict transposed, float* __restrict sums) {
    double loss = 0.0;
    std::memset(sums, 0, sizeof(float) * u);
    for (std::int64_t i = 0; i < b; ++i) {
        float* row = scores + u * i;
        float largest = row[0];
        for (std::int64_t j = 1; j < u; ++j) largest = row[j] > largest ? row[j] : largest;
        const float mine = row[own[i]];
        float total = 0.0f;
        for (std::int64_t j = 0; j < u; ++j) {
            row[j] = fast_exp(row[j] - largest);
            total += row[j];
        }
        loss += std::log(static_cast<double>(total)) - (mine - largest);
        const float factor = scale / total;
        for (std::int64_t j = 0; j < u; ++j) row[j] *= factor;
        row[own[i]] -= scale;
        for (std::int64_t j = 0; j < u; ++j) sums[j] += row[j];
    }
    const std::int64_t tile = 16;
    for (std::int64_t j0 = 0; j0 < u; j0 += tile) {
        const std::int64_t j1 = j0 + tile < u ? j0 + tile : u;
        for (std::int64_t j = j0; j < j1; ++j)
            for (std::int64_t i = 0; i < b; ++i) transposed[b * j + i] = scores[u * i + j];
    }
    return loss;
}

// v = momentum v - lr g / sqrt(sum of g^2 + eps); value += v (GRU4Rec's Adagrad).
void adagrad_momentum(std::int64_t n, float lr, float momentum, float eps, const float* __restrict gradient,
                      float* __restrict value, float* __restrict sum, float* __restrict velocity) {
    for (std::int64_t j = 0; j < n; ++j) {
        const float g = gradient[j];
        sum[j] += g * g;
        velocity[j] = momentum * velocity[j] - lr * (g / std::sqrt(sum[j] + eps));
        value[j] += velocity[j];
    }
}

// The same for distinct rows of tables [., width]; gradient [rows, width].
void adagrad_momentum_rows(std::int64_t rows, std::int64_t width, float lr, float momentum, float eps,
                           const std::int64_t* __restrict at, const float* __restrict gradient, float* __restrict value,
                           float* __restrict sum, float* __restrict velocity) {
    const std::int64_t ahead = 8;
    for (std::int64_t i = 0; i < rows; ++i) {
        // The rows lie anywhere: fetch some ahead, or each waits for the memory in turn.
        if (i + ahead < rows) {
            const std::int64_t next = at[i + ahead] * width;
            for (std::int64_t j = 0; j < width; j += 16) {
                __builtin_prefetch(value + next + j, 1);
                __builtin_prefetch(sum + next + j, 1);
                __builtin_prefetch(velocity + next + j, 1);
            }
        }
        adagrad_momentum(width, lr, momentum, eps, gradient + width * i, value + width * at[i], sum + width * at[i],
                         velocity + width * at[i]);
    }
}

// The distinct places of at[rows] in the order of their first, and the sums of their values; returns how many. `slots` is
// room for `size` numbers, a power of two of at least twice the rows.
std::int64_t sum_rows(std::int64_t rows, std::int64_t width, const std::int64_t* __restrict at,
                      const float* __restrict values, std::int64_t size, std::int32_t* __restrict slots,
                      std::int64_t* __restrict places, float* __restrict sums) {
    std::memset(slots, -1, sizeof(std::int32_t) * size);
    const std::uint64_t mask = static_cast<std::uint64_t>(size) - 1;
    std::int64_t distinct = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
        // Multiplied by the golden ratio, neighbours come apart.
        std::uint64_t slot = (static_cast<std::uint64_t>(at[i]) * 0x9E3779B97F4A7C15ull >> 32) & mask;
        while (slots[slot] >= 0 && places[slots[slot]] != at[i]) slot = (slot + 1) & mask;
        const float* given = values + width * i;
        if (slots[slot] < 0) {
            slots[slot] = static_cast<std::int32_t>(distinct);
            places[distinct] = at[i];
            std::memcpy(sums + width * distinct, given, sizeof(float) * width);
            ++distinct;
        } else {
            float* sum = sums + width * slots[slot];
            for (std::int64_t j = 0; j < width; ++j) sum[j] += given[j];
        }
    }
    return distinct;
}

// value[at[i]] -= lr gradient[i]; places may repeat.
void sgd_rows(std::int64_t rows, std::int64_t width, float lr, const std::int64_t* __restrict at,
              const float* __restrict gradient, float* __restrict value) {
    for (std::int64_t i = 0; i < rows; ++i) {
        if (i + ahead < rows) fetch(value + width * at[i + ahead], width);
        const float* g = gradient + width * i;
        float* v = value + width * at[i];
        for (std::int64_t j = 0; j < width; ++j) v[j] -= lr * g[j];
    }
}

// sum += g^2; value -= lr g / (sqrt(sum) + eps); distinct places.
void adagrad_rows(std::int64_t rows, std::int64_t width, float lr, float eps, const std::int64_t* __restrict at,
                  const float* __restrict gradient, float* __restrict value, float* __restrict sum) {
    for (std::int64_t i = 0; i < rows; ++i) {
        if (i + ahead < rows) {
            fetch(value + width * at[i + ahead], width);
            fetch(sum + width * at[i + ahead], width);
        }
        const float* g = gradient + width * i;
        float *v = value + width * at[i], *s = sum + width * at[i];
        for (std::int64_t j = 0; j < width; ++j) {
            s[j] += g[j] * g[j];
            v[j] -= lr * g[j] / (std::sqrt(s[j]) + eps);
        }
    }
}

// sum += mean of the row's g^2; value -= lr g / (sqrt(sum) + eps); distinct places, one sum a row.
void rowwise_adagrad_rows(std::int64_t rows, std::int64_t width, float lr, float eps, const std::int64_t* __restrict at,
                          const float* __restrict gradient, float* __restrict value, float* __restrict sum) {
    for (std::int64_t i = 0; i < rows; ++i) {
        if (i + ahead < rows) {
            fetch(value + width * at[i + ahead], width);
            __builtin_prefetch(sum + at[i + ahead], 1);
        }
        const float* g = gradient + width * i;
        float* v = value + width * at[i];
        float squares = 0.0f;
        for (std::int64_t j = 0; j < width; ++j) squares += g[j] * g[j];
        sum[at[i]] += squares / static_cast<float>(width);
        const float rate = lr / (std::sqrt(sum[at[i]]) + eps);
        for (std::int64_t j = 0; j < width; ++j) v[j] -= rate * g[j];
    }
}

// mean += first (g - mean); square += second (g^2 - square); value -= lr mean / (sqrt(square) + eps); distinct places.
// `first` is 1 - beta1 and `second` 1 - beta2, which float32 could not subtract well; `lr` has both corrections.
void lazy_adam_rows(std::int64_t rows, std::int64_t width, float lr, float first, float second, float eps,
                    const std::int64_t* __restrict at, const float* __restrict gradient, float* __restrict value,
                    float* __restrict mean, float* __restrict square) {
    for (std::int64_t i = 0; i < rows; ++i) {
        if (i + ahead < rows) {
            fetch(value + width * at[i + ahead], width);
            fetch(mean + width * at[i + ahead], width);
            fetch(square + width * at[i + ahead], width);
        }
        const float* g = gradient + width * i;
        float *v = value + width * at[i], *m = mean + width * at[i], *s = square + width * at[i];
        for (std::int64_t j = 0; j < width; ++j) {
            m[j] += first * (g[j] - m[j]);
            s[j] += second * (g[j] * g[j] - s[j]);
            v[j] -= lr * m[j] / (std::sqrt(s[j]) + eps);
        }
    }
}

// square = alpha square + (1 - alpha) g^2; value -= lr g / (sqrt(square) + eps), or with `in_root` / sqrt(square + eps).
// Distinct places, or all rows where `at` is null. `visited` says after which update a row's square was the last time what
// it should be: those since then, in which its gradient was zero, are made good; null where no row is ever left out.
void rmsprop_rows(std::int64_t rows, std::int64_t width, float lr, double alpha, float eps, std::int64_t in_root,
                  std::int64_t step, const std::int64_t* __restrict at, const float* __restrict gradient,
                  float* __restrict value, float* __restrict square, std::int32_t* __restrict visited) {
    const float share = static_cast<float>(1.0 - alpha);
    const bool is_short = width <= 256;  // The processor itself sees far enough ahead in a long row.
    for (std::int64_t i = 0; i < rows; ++i) {
        if (at != nullptr && is_short && i + ahead < rows) {
            fetch(value + width * at[i + ahead], width);
            fetch(square + width * at[i + ahead], width);
            if (visited != nullptr) __builtin_prefetch(visited + at[i + ahead], 1);
        }
        const std::int64_t row = at == nullptr ? i : at[i];
        std::int64_t updates = 1;
        if (visited != nullptr) {
            updates = step - visited[row];
            visited[row] = static_cast<std::int32_t>(step);
        }
        const float decay = static_cast<float>(updates == 1 ? alpha : std::pow(alpha, static_cast<double>(updates)));
        const float* __restrict g = gradient + width * i;
        float *__restrict v = value + width * row, *__restrict s = square + width * row;
        if (in_root != 0) {
            for (std::int64_t j = 0; j < width; ++j) {
                s[j] = decay * s[j] + share * (g[j] * g[j]);
                v[j] -= lr * g[j] / std::sqrt(s[j] + eps);
            }
        } else {
            for (std::int64_t j = 0; j < width; ++j) {
                s[j] = decay * s[j] + share * (g[j] * g[j]);
                v[j] -= lr * g[j] / (std::sqrt(s[j]) + eps);
            }
        }
    }
}

// A factorisation machine of each row: D numbers times rows of their own, then F rows that were gathered; a row is its
// weight and its vector of `dim`. order = sum of weights + sum of products of all pairs of vectors; the vectors times their
// numbers and their sum are kept.
void fm_forward(std::int64_t batch, std::int64_t numbers, std::int64_t fields, std::int64_t dim,
                const float* __restrict value, const float* __restrict own, const float* __restrict gathered,
                float* __restrict order, float* __restrict vectors, float* __restrict sums) {
    for (std::int64_t b = 0; b < batch; ++b) {
        float* sum = sums + dim * b;
        for (std::int64_t j = 0; j < dim; ++j) sum[j] = 0.0f;
        float first = 0.0f, squares = 0.0f, square_of_sum = 0.0f;
        for (std::int64_t n = 0; n < numbers + fields; ++n) {
            const float x = n < numbers ? value[numbers * b + n] : 1.0f;
            const float* row = n < numbers ? own + (1 + dim) * n : gathered + (1 + dim) * (fields * b + n - numbers);
            float* __restrict vector = vectors + dim * ((numbers + fields) * b + n);
            first += x * row[0];
            for (std::int64_t j = 0; j < dim; ++j) {
                const float v = x * row[1 + j];
                vector[j] = v;
                sum[j] += v;
                squares += v * v;
            }
        }
        for (std::int64_t j = 0; j < dim; ++j) square_of_sum += sum[j] * sum[j];
        order[b] = first + 0.5f * (square_of_sum - squares);
    }
}

// Its gradients: `upstream` of order, `of_vectors` of the kept vectors (null: none). Adds to `of_own`.
void fm_backward(std::int64_t batch, std::int64_t numbers, std::int64_t fields, std::int64_t dim,
                 const float* __restrict value, const float* __restrict vectors, const float* __restrict sums,
                 const float* __restrict upstream, const float* __restrict of_vectors, float* __restrict of_own,
                 float* __restrict of_gathered) {
    for (std::int64_t b = 0; b < batch; ++b) {
        const float g = upstream[b];
        const float* sum = sums + dim * b;
        for (std::int64_t n = 0; n < numbers + fields; ++n) {
            const std::int64_t at = dim * ((numbers + fields) * b + n);
            const float *v = vectors + at, *given = of_vectors ? of_vectors + at : nullptr;
            if (n < numbers) {
                const float x = value[numbers * b + n];
                float* row = of_own + (1 + dim) * n;
                row[0] += x * g;
                for (std::int64_t j = 0; j < dim; ++j)
                    row[1 + j] += x * (g * (sum[j] - v[j]) + (given ? given[j] : 0.0f));
            } else {
                float* __restrict row = of_gathered + (1 + dim) * (fields * b + n - numbers);
                row[0] = g;
                if (given)
                    for (std::int64_t j = 0; j < dim; ++j) row[1 + j] = g * (sum[j] - v[j]) + given[j];
                else
                    for (std::int64_t j = 0; j < dim; ++j) row[1 + j] = g * (sum[j] - v[j]);
            }
        }
    }
}

// Inner products of all pairs (1,0), (2,0), (2,1), ... among a row's vectors, behind the dense vector, which is the first of
// them where there is one (`dense` is null else). `room` is for dim + 1 rows of `stride` numbers, at least the vectors.
void dots_forward(std::int64_t batch, std::int64_t fields, std::int64_t dim, std::int64_t itself, std::int64_t stride,
                  const float* __restrict dense, const float* __restrict field, float* __restrict room,
                  float* __restrict features) {
    const std::int64_t lead = dense ? 1 : 0, count = fields + lead;
    float* __restrict sums = room + dim * stride;
    std::memset(room, 0, sizeof(float) * (dim + 1) * stride);
    for (std::int64_t b = 0; b < batch; ++b) {
        const float *first = dense + (dense ? dim * b : 0), *rest = field + dim * fields * b;
        for (std::int64_t i = 0; i < count; ++i) {
            const float* vector = i < lead ? first : rest + dim * (i - lead);
            for (std::int64_t k = 0; k < dim; ++k) room[k * stride + i] = vector[k];
        }
        if (dense) {
            std::memcpy(features, first, sizeof(float) * dim);
            features += dim;
        }
        for (std::int64_t i = itself ? 0 : 1; i < count; ++i) {
            const float* vector = i < lead ? first : rest + dim * (i - lead);
            for (std::int64_t j = 0; j < stride; ++j) sums[j] = 0.0f;
            for (std::int64_t k = 0; k < dim; ++k) {
                const float x = vector[k];
                const float* __restrict other = room + k * stride;
                for (std::int64_t j = 0; j < stride; ++j) sums[j] += x * other[j];
            }
            std::memcpy(features, sums, sizeof(float) * (i + itself));
            features += i + itself;
        }
    }
}

// Its gradients. `room` is for the square of the number of vectors.
void dots_backward(std::int64_t batch, std::int64_t fields, std::int64_t dim, std::int64_t itself,
                   const float* __restrict dense, const float* __restrict field, const float* __restrict upstream,
                   float* __restrict room, float* __restrict of_dense, float* __restrict of_field) {
    const std::int64_t lead = dense ? 1 : 0, count = fields + lead;
    for (std::int64_t b = 0; b < batch; ++b) {
        const float *first = dense + (dense ? dim * b : 0), *rest = field + dim * fields * b, *direct = upstream;
        if (dense) upstream += dim;
        for (std::int64_t i = 0; i < count; ++i) {
            // A vector meets itself on both sides.
            room[i * count + i] = itself ? 2.0f * upstream[i] : 0.0f;
            for (std::int64_t j = 0; j < i; ++j) room[i * count + j] = room[j * count + i] = upstream[j];
            upstream += i + itself;
        }
        for (std::int64_t i = 0; i < count; ++i) {
            float* __restrict found = i < lead ? of_dense + dim * b : of_field + dim * (fields * b + i - lead);
            for (std::int64_t k = 0; k < dim; ++k) found[k] = i < lead ? direct[k] : 0.0f;
            for (std::int64_t j = 0; j < count; ++j) {
                const float g = room[i * count + j];
                const float* other = j < lead ? first : rest + dim * (j - lead);
                for (std::int64_t k = 0; k < dim; ++k) found[k] += g * other[k];
            }
        }
    }
}

}  // extern "C"
