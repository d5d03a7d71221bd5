// NGNN's update: messages in the graph of each outfit, there and back, and the projections of items by category.
//
// Compiled on the user's machine by recexp/models/native.py; the mathematics are those of recexp/models/outfit_graph.py.
// All arrays are float32, row by row, without gaps. No threads: pieces that do not meet may be computed at once by the
// caller, and nothing depends on how many are.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "native_lanes.h"
#include "native_math.h"

namespace {

// Widths are whole registers: the numbers behind the h of a row are 0 and stay 0.
inline Int padded(Int h) { return (h + lanes - 1) / lanes * lanes; }

// out[R, lanes] += x[R, depth] m[depth, lanes], with x[r, k] at x + r row + k deep: `row` and `deep` swapped, x is
// transposed. Rows of m and out are `width` apart.
template <int R>
[[gnu::always_inline]] inline void tile(Int depth, Int width, const float* x, Int row, Int deep, const float* m, float* out) {
    Lanes sum[R];
    for (int r = 0; r < R; ++r) sum[r] = load(out + r * width);
    for (Int k = 0; k < depth; ++k) {
        const Lanes w = load(m + k * width);
        for (int r = 0; r < R; ++r) sum[r] += x[r * row + k * deep] * w;
    }
    for (int r = 0; r < R; ++r) store(out + r * width, sum[r]);
}

// out[rows, width] += x[rows, depth] m[depth, width].
[[gnu::always_inline]] inline void product(Int rows, Int depth, Int width, const float* x, Int row, Int deep, const float* m, float* out) {
    for (Int c = 0; c < width; c += lanes) {
        Int r = 0;
        for (; r + 6 <= rows; r += 6) tile<6>(depth, width, x + r * row, row, deep, m + c, out + r * width + c);
        for (; r + 2 <= rows; r += 2) tile<2>(depth, width, x + r * row, row, deep, m + c, out + r * width + c);
        if (r < rows) tile<1>(depth, width, x + r * row, row, deep, m + c, out + r * width + c);
    }
}

// One modality of a batch, as the caller lays it out: numbers and addresses of 8 bytes each, in this order.
// B rows, K outfits of each, W nodes, h hidden, C categories, R of them that occur, U items.
struct Graph {
    Int rows, outfits, nodes, hidden, steps, edges, categories, occurring, keep;
    const Int *node, *category;             // [B, W]: item and category
    const std::uint8_t* member;             // [B, K, W]
    const Int* occurs;                      // [R]
    const float* projected;                 // [U, h]
    const float* weight;                    // [C, C], from the first to the second; read where edges == weighted
    const float *out, *message;             // [C, h h]
    const float *gate_kernel, *gate_bias;   // [2h, 2h], [2h]
    const float *own_kernel, *own_bias;     // [2h, h], [h]: the candidate's
    const float *confidence, *score;        // [h]
    float* scores;                          // [B, K]
    const float* d_scores;                  // [B, K]
    float* d_projected;                     // [U, h], added to
    float *d_out, *d_message;               // [R, h h]
    float *d_gate_kernel, *d_gate_bias, *d_own_kernel, *d_own_bias, *d_confidence, *d_score;
    float* room;                            // as many as graph_room says; keeps what the way back needs
};

enum Edges { complete = 0, mean = 1, weighted = 2 };
const Int usual = 12;        // hidden, for which there are loops of their own
const float slope = 0.01f;  // of the leaky ReLU
const Int sections = 6;     // of each step: state, sum of messages, message, reset, update, candidate

// Where things are in the room, and the nodes of one row that take part.
struct Layout {
    Int width, matrix, most, row_size;
    std::vector<std::int32_t> place;
    // Nodes of all outfits of a row, one after the other.
    std::vector<Int> item, category, occurring, begin;
    // Parameters with padded rows; gates and candidate by what they read, message (0) or state (1).
    float *out, *message, *reset[2], *update[2], *own[2], *bias, *read_out, *scratch, *kept;

    explicit Layout(const Graph& g) : width(padded(g.hidden)), matrix(g.hidden * padded(g.hidden)) {
        most = g.outfits * g.nodes;
        row_size = (g.steps * sections + 1) * most * width;
        place.assign(g.categories, -1);
        for (Int r = 0; r < g.occurring; ++r) place[g.occurs[r]] = static_cast<std::int32_t>(r);
        item.resize(most), category.resize(most), occurring.resize(most), begin.resize(g.outfits + 1);
        float* at = g.room;
        const auto take = [&at](Int size) { return std::exchange(at, at + size); };
        out = take(g.occurring * matrix), message = take(g.occurring * matrix);
        for (int n = 0; n < 2; ++n) reset[n] = take(matrix), update[n] = take(matrix), own[n] = take(matrix);
        bias = take(3 * width), read_out = take(2 * width);
        scratch = take(8 * most * width), kept = at;
    }

    Int size(const Graph& g) const { return (kept - g.room) + row_size * (g.keep ? g.rows : 1); }
    float* of_row(const Graph& g, Int b) const { return kept + (g.keep ? b * row_size : 0); }

    // The nodes of a row that have a neighbour (those that have none end as 0 and tell nobody anything); their number.
    Int list(const Graph& g, Int b) {
        const Int *node = g.node + b * g.nodes, *of = g.category + b * g.nodes;
        Int n = 0;
        for (Int k = 0; k < g.outfits; ++k) {
            const std::uint8_t* member = g.member + (b * g.outfits + k) * g.nodes;
            begin[k] = n;
            for (Int i = 0; i < g.nodes; ++i) {
                bool joined = g.steps == 0;
                for (Int j = 0; member[i] && !joined && j < g.nodes; ++j)
                    joined = member[j] && j != i && (g.edges != weighted || linked(g, of[i], of[j]));
                if (!member[i] || !joined) continue;
                item[n] = node[i], category[n] = of[i], occurring[n] = place[of[i]];
                ++n;
            }
        }
        return begin[g.outfits] = n;
    }

    static bool linked(const Graph& g, Int i, Int j) {
        return g.weight[i * g.categories + j] != 0.0f || g.weight[j * g.categories + i] != 0.0f;
    }
};

// [rows, columns] of a matrix of `stride`, with rows of whole registers; and its transpose.
void widen(Int rows, Int columns, Int stride, const float* from, float* to, bool transposed) {
    const Int width = padded(transposed ? rows : columns);
    std::memset(to, 0, sizeof(float) * width * (transposed ? columns : rows));
    for (Int i = 0; i < rows; ++i)
        for (Int j = 0; j < columns; ++j) to[transposed ? j * width + i : i * width + j] = from[i * stride + j];
}

void pack(const Graph& g, const Layout& at, bool transposed) {
    const Int h = g.hidden;
    for (Int r = 0; r < g.occurring; ++r) {
        widen(h, h, h, g.out + g.occurs[r] * h * h, at.out + r * at.matrix, transposed);
        widen(h, h, h, g.message + g.occurs[r] * h * h, at.message + r * at.matrix, transposed);
    }
    for (int n = 0; n < 2; ++n) {
        widen(h, h, 2 * h, g.gate_kernel + n * 2 * h * h, at.reset[n], transposed);
        widen(h, h, 2 * h, g.gate_kernel + n * 2 * h * h + h, at.update[n], transposed);
        widen(h, h, h, g.own_kernel + n * h * h, at.own[n], transposed);
    }
    widen(1, h, h, g.gate_bias, at.bias, false);
    widen(1, h, h, g.gate_bias + h, at.bias + at.width, false);
    widen(1, h, h, g.own_bias, at.bias + 2 * at.width, false);
    widen(1, h, h, g.confidence, at.read_out, false);
    widen(1, h, h, g.score, at.read_out + at.width, false);
}

// to[i] = what node i gets of from[j] by all j of its outfit; `back`: what node i gave, which is the way of a gradient.
void gather(const Graph& g, const Layout& at, Int width, const float* from, float* to, bool back) {
    for (Int k = 0; k < g.outfits; ++k) {
        const Int first = at.begin[k], last = at.begin[k + 1];
        const float share = g.edges == mean ? 1.0f / static_cast<float>(last - first - 1) : 1.0f;
        for (Int c = 0; c < width; c += lanes) {
            Lanes sum = {};
            for (Int i = first; i < last; ++i) sum += load(from + i * width + c);
            for (Int i = first; i < last; ++i) {
                Lanes got = share * (sum - load(from + i * width + c));
                if (g.edges == weighted) {
                    got = Lanes{};
                    for (Int j = first; j < last; ++j) {
                        const Int a = at.category[back ? i : j], b = at.category[back ? j : i];
                        if (i != j) got += g.weight[a * g.categories + b] * load(from + j * width + c);
                    }
                }
                store(to + i * width + c, got);
            }
        }
    }
}

void fill_rows(Int rows, Int width, const float* row, float* to) {
    for (Int i = 0; i < rows; ++i) std::memcpy(to + i * width, row, sizeof(float) * width);
}

// One step of n nodes: from the state in the first section to the next one's behind the sections.
template <Int H>
void step_forward(const Graph& g, const Layout& at, Int n, float* kept) {
    const Int h = H ? H : g.hidden, width = H ? padded(H) : at.width, all = n * width;
    float *state = kept, *sum = kept + all, *message = sum + all,
          *reset = message + all, *update = reset + all, *own = update + all,
          *next = own + all, *said = at.scratch, *gated = said + all;
    std::memset(said, 0, sizeof(float) * all);
    std::memset(message, 0, sizeof(float) * all);
    for (Int i = 0; i < n; ++i)
        product(1, h, width, state + i * width, width, 1, at.out + at.occurring[i] * at.matrix, said + i * width);
    gather(g, at, width, said, sum, false);
    for (Int i = 0; i < n; ++i)
        product(1, h, width, sum + i * width, width, 1, at.message + at.occurring[i] * at.matrix, message + i * width);
    fill_rows(n, width, at.bias, reset);
    fill_rows(n, width, at.bias + width, update);
    fill_rows(n, width, at.bias + 2 * width, own);
    product(n, h, width, message, width, 1, at.reset[0], reset);
    product(n, h, width, state, width, 1, at.reset[1], reset);
    product(n, h, width, message, width, 1, at.update[0], update);
    product(n, h, width, state, width, 1, at.update[1], update);
    for (Int e = 0; e < all; ++e) reset[e] = sigmoid(reset[e]);
    for (Int e = 0; e < all; ++e) update[e] = sigmoid(update[e]);
    for (Int e = 0; e < all; e += lanes) store(gated + e, load(reset + e) * load(state + e));
    product(n, h, width, message, width, 1, at.own[0], own);
    product(n, h, width, gated, width, 1, at.own[1], own);
    for (Int e = 0; e < all; ++e) own[e] = fast_tanh(own[e]);
    for (Int e = 0; e < all; e += lanes) {
        const Lanes c = load(own + e);
        store(next + e, c + load(update + e) * (load(state + e) - c));
    }
}

// Confidence and score of a node before sigmoid and ReLU.
inline void read(const Layout& at, const float* state, float& confidence, float& score) {
    confidence = score = 0.0f;
    for (Int c = 0; c < at.width; ++c) confidence += state[c] * at.read_out[c];
    for (Int c = 0; c < at.width; ++c) score += state[c] * at.read_out[at.width + c];
}

// Sums of gradients with padded rows, as `Layout` has the parameters.
struct Sums {
    std::vector<float> all;
    float *out, *message, *reset[2], *update[2], *own[2], *bias, *read_out;

    Sums(const Graph& g, const Layout& at) : all((2 * g.occurring + 6) * at.matrix + 5 * at.width) {
        out = all.data(), message = out + g.occurring * at.matrix;
        float* next = message + g.occurring * at.matrix;
        for (float** part : {reset, update, own})
            for (int n = 0; n < 2; ++n) part[n] = std::exchange(next, next + at.matrix);
        bias = next, read_out = bias + 3 * at.width;
    }

    void give(const Graph& g, const Layout& at) const {
        const Int h = g.hidden;
        const auto narrow = [&](Int rows, const float* from, float* to, Int stride) {
            for (Int i = 0; i < rows; ++i) std::memcpy(to + i * stride, from + i * at.width, sizeof(float) * h);
        };
        narrow(g.occurring * h, out, g.d_out, h);
        narrow(g.occurring * h, message, g.d_message, h);
        for (int n = 0; n < 2; ++n) {
            narrow(h, reset[n], g.d_gate_kernel + n * 2 * h * h, 2 * h);
            narrow(h, update[n], g.d_gate_kernel + n * 2 * h * h + h, 2 * h);
            narrow(h, own[n], g.d_own_kernel + n * h * h, h);
        }
        narrow(2, bias, g.d_gate_bias, h);
        narrow(1, bias + 2 * at.width, g.d_own_bias, h);
        narrow(1, read_out, g.d_confidence, h);
        narrow(1, read_out + at.width, g.d_score, h);
    }
};

void add_rows(Int n, Int width, const float* rows, float* sum) {
    for (Int c = 0; c < width; c += lanes) {
        Lanes total = load(sum + c);
        for (Int i = 0; i < n; ++i) total += load(rows + i * width + c);
        store(sum + c, total);
    }
}

// The gradient of the state before a step, in `d_state`, where that of the state after it is found.
template <Int H>
void step_backward(const Graph& g, const Layout& at, Int n, const float* kept, float* d_state, Sums& to) {
    const Int h = H ? H : g.hidden, width = H ? padded(H) : at.width, all = n * width;
    const float *state = kept, *sum = kept + all, *message = sum + all,
                *reset = message + all, *update = reset + all, *own = update + all;
    float *d_own = at.scratch, *d_reset = d_own + all, *d_update = d_reset + all,
          *d_message = d_update + all, *gated = d_message + all,
          *d_gated = gated + all, *d_sum = d_gated + all, *d_said = d_sum + all;
    for (Int e = 0; e < all; e += lanes) {
        const Lanes d = load(d_state + e), u = load(update + e), c = load(own + e), h_before = load(state + e);
        store(d_own + e, d * (1.0f - u) * (1.0f - c * c));
        store(d_update + e, d * (h_before - c) * u * (1.0f - u));
        store(d_state + e, d * u);
        store(gated + e, load(reset + e) * h_before);
    }
    std::memset(d_message, 0, sizeof(float) * all);
    std::memset(d_gated, 0, sizeof(float) * all);
    product(n, h, width, d_own, width, 1, at.own[0], d_message);
    product(n, h, width, d_own, width, 1, at.own[1], d_gated);
    for (Int e = 0; e < all; e += lanes) {
        const Lanes d = load(d_gated + e), r = load(reset + e);
        store(d_reset + e, d * load(state + e) * r * (1.0f - r));
        store(d_state + e, load(d_state + e) + d * r);
    }
    product(n, h, width, d_reset, width, 1, at.reset[0], d_message);
    product(n, h, width, d_update, width, 1, at.update[0], d_message);
    product(n, h, width, d_reset, width, 1, at.reset[1], d_state);
    product(n, h, width, d_update, width, 1, at.update[1], d_state);
    product(h, n, width, message, 1, width, d_reset, to.reset[0]);
    product(h, n, width, state, 1, width, d_reset, to.reset[1]);
    product(h, n, width, message, 1, width, d_update, to.update[0]);
    product(h, n, width, state, 1, width, d_update, to.update[1]);
    product(h, n, width, message, 1, width, d_own, to.own[0]);
    product(h, n, width, gated, 1, width, d_own, to.own[1]);
    add_rows(n, width, d_reset, to.bias);
    add_rows(n, width, d_update, to.bias + width);
    add_rows(n, width, d_own, to.bias + 2 * width);
    std::memset(d_sum, 0, sizeof(float) * all);
    for (Int i = 0; i < n; ++i) {
        const Int row = i * width, matrix = at.occurring[i] * at.matrix;
        product(1, h, width, d_message + row, width, 1, at.message + matrix, d_sum + row);
        product(h, 1, width, sum + row, 1, width, d_message + row, to.message + matrix);
    }
    gather(g, at, width, d_sum, d_said, true);
    for (Int i = 0; i < n; ++i) {
        const Int row = i * width, matrix = at.occurring[i] * at.matrix;
        product(1, h, width, d_said + row, width, 1, at.out + matrix, d_state + row);
        product(h, 1, width, state + row, 1, width, d_said + row, to.out + matrix);
    }
}

}  // namespace

extern "C" {

// Numbers of room that a graph needs.
Int graph_room(const Graph* g) { return Layout(*g).size(*g); }

// Scores of all outfits; what the way back needs stays in the room where `keep` is set.
void graph_forward(const Graph* given) {
    const Graph& g = *given;
    Layout at(g);
    pack(g, at, false);
    for (Int b = 0; b < g.rows; ++b) {
        const Int n = at.list(g, b), all = n * at.width;
        float* kept = at.of_row(g, b);
        for (Int i = 0; i < n; ++i) {
            const float* p = g.projected + at.item[i] * g.hidden;
            for (Int c = 0; c < at.width; ++c) kept[i * at.width + c] = c < g.hidden ? p[c] : 0.0f;
        }
        for (Int e = 0; e < all; ++e) kept[e] = fast_tanh(kept[e]);
        for (Int t = 0; t < g.steps; ++t)
            (g.hidden == usual ? step_forward<usual> : step_forward<0>)(g, at, n, kept + t * sections * all);
        const float* last = kept + g.steps * sections * all;
        for (Int k = 0; k < g.outfits; ++k) {
            float total = 0.0f, confidence, score;
            for (Int i = at.begin[k]; i < at.begin[k + 1]; ++i) {
                read(at, last + i * at.width, confidence, score);
                total += sigmoid(confidence) * (score > 0.0f ? score : slope * score);
            }
            g.scores[b * g.outfits + k] = total;
        }
    }
}

// Gradients of all parameters and, added, of the projected items, after graph_forward in the same room.
void graph_backward(const Graph* given) {
    const Graph& g = *given;
    Layout at(g);
    pack(g, at, true);
    Sums sums(g, at);
    std::vector<float> d_state(at.most * at.width);
    for (Int b = 0; b < g.rows; ++b) {
        const Int n = at.list(g, b), width = at.width, all = n * width;
        const float *kept = at.of_row(g, b), *last = kept + g.steps * sections * all;
        for (Int k = 0; k < g.outfits; ++k) {
            const float d = g.d_scores[b * g.outfits + k];
            for (Int i = at.begin[k]; i < at.begin[k + 1]; ++i) {
                float confidence, score;
                read(at, last + i * width, confidence, score);
                const float sure = sigmoid(confidence), bend = score > 0.0f ? 1.0f : slope;
                const float d_confidence = d * bend * score * sure * (1.0f - sure), d_score = d * sure * bend;
                for (Int c = 0; c < width; c += lanes) {
                    const Lanes state = load(last + i * width + c);
                    store(d_state.data() + i * width + c,
                          d_confidence * load(at.read_out + c) + d_score * load(at.read_out + width + c));
                    store(sums.read_out + c, load(sums.read_out + c) + d_confidence * state);
                    store(sums.read_out + width + c, load(sums.read_out + width + c) + d_score * state);
                }
            }
        }
        for (Int t = g.steps - 1; t >= 0; --t)
            (g.hidden == usual ? step_backward<usual> : step_backward<0>)(g, at, n, kept + t * sections * all, d_state.data(), sums);
        for (Int i = 0; i < n; ++i) {
            float* to = g.d_projected + at.item[i] * g.hidden;
            const float *state = kept + i * width, *d = d_state.data() + i * width;
            for (Int c = 0; c < g.hidden; ++c) to[c] += d[c] * (1.0f - state[c] * state[c]);
        }
    }
    sums.give(g, at);
}

}  // extern "C"
