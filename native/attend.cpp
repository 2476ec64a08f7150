// Attention: softmax(scale Q K^T + mask) V, 16 queries at a time, without what the mask hides.
//
// Texts that are computed together do not see each other: most of a call's mask is minus infinity, and blocks of 32 keys
// that none of the 16 queries sees are left out. Scores, sums and the softmax are float32; Q, K, V and the softmax become
// BF16 as factors of products (cosine 0.99997 and more of a text's vector to that of ggml's float32 path).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ggml.h"
#include "tiles.h"

namespace tiles {

namespace {

constexpr int KEYS = 2 * ROWS;  // of a block: two products of scores, one step of the second product
constexpr uint16_t HIDDEN = 0xfc00;  // minus infinity as a half

// Keys, values and what works on them, of one head at a time.
struct Work {
    int64_t depth, tokens, seen, blocks, wide;  // blocks of 16 queries, of 32 keys
    char *queries, *keys, *values, *weights;
    float * scores;
    int32_t *visible, *counts;  // blocks of keys that a block of queries sees, and how many they are
};

inline __m512 load(const char * from, ggml_type type) {
    return type == GGML_TYPE_F16 ? _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)))
                                 : _mm512_loadu_ps(reinterpret_cast<const float *>(from));
}

Work prepare(const ggml_tensor * q, const ggml_tensor * k, Room & room) {
    Work work;
    work.depth = q->ne[0];
    work.tokens = q->ne[1];
    work.seen = k->ne[1];
    work.blocks = whole(work.tokens, ROWS);
    work.wide = whole(work.seen, KEYS);
    const size_t queries = work.blocks * ROWS * work.depth * 2, keys = work.wide * KEYS * work.depth * 2;
    const size_t scores = ROWS * work.wide * KEYS, lists = work.blocks * work.wide * 4;
    room.open(queries + 2 * keys + Room::padded(scores * 4) + Room::padded(scores * 2) + Room::padded(lists) +
              Room::padded(work.blocks * 4));
    work.queries = room.take(queries);
    work.keys = room.take(keys);
    work.values = room.take(keys);
    work.scores = reinterpret_cast<float *>(room.take(scores * 4));
    work.weights = room.take(scores * 2);
    work.visible = reinterpret_cast<int32_t *>(room.take(lists));
    work.counts = reinterpret_cast<int32_t *>(room.take(work.blocks * 4));
    return work;
}

const char * mask_row(const ggml_tensor * mask, int64_t token) {
    return static_cast<const char *>(mask->data) + token * mask->nb[1];
}

bool sees(const Work & work, const ggml_tensor * mask, int64_t block, int64_t keys) {
    if (mask == nullptr) {
        return true;
    }
    const int64_t last = work.seen - keys * KEYS < KEYS ? work.seen - keys * KEYS : KEYS;
    for (int64_t token = block * ROWS; token < (block + 1) * ROWS && token < work.tokens; token++) {
        const uint16_t * row = reinterpret_cast<const uint16_t *>(mask_row(mask, token)) + keys * KEYS;
        for (int64_t key = 0; key < last; key++) {
            if (row[key] != HIDDEN) {
                return true;
            }
        }
    }
    return false;
}

// All heads have one mask.
void look(const Work & work, const ggml_tensor * mask) {
    for (int64_t block = 0; block < work.blocks; block++) {
        int32_t count = 0;
        for (int64_t keys = 0; keys < work.wide; keys++) {
            if (sees(work, mask, block, keys)) {
                work.visible[block * work.wide + count++] = static_cast<int32_t>(keys);
            }
        }
        work.counts[block] = count;
    }
}

// Pairs along the depth: [block of 16 keys][block of 32 elements][pair][key][2].
void pack_keys(const Work & work, const ggml_tensor * k, int64_t head) {
    char * to = work.keys;
    for (int64_t first = 0; first < work.wide * KEYS; first += ROWS) {
        for (int64_t d = 0; d < work.depth; d += DEPTH, to += TILE) {
            __m512i rows[ROWS];
            for (int i = 0; i < ROWS; i++) {
                if (first + i >= work.seen) {
                    rows[i] = _mm512_setzero_si512();
                    continue;
                }
                const char * from =
                    static_cast<const char *>(k->data) + head * k->nb[2] + (first + i) * k->nb[1] + d * k->nb[0];
                rows[i] = halved(load(from, k->type), load(from + 16 * k->nb[0], k->type));
            }
            store_turned(to, rows);
        }
    }
}

// Pairs along the keys: [block of 32 keys][block of 16 elements][pair][element][2].
void pack_values(const Work & work, const ggml_tensor * v, int64_t head) {
    const __m512i weave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    char * to = work.values;
    for (int64_t first = 0; first < work.wide * KEYS; first += KEYS) {
        for (int64_t d = 0; d < work.depth; d += 16, to += TILE) {
            for (int pair = 0; pair < ROWS; pair++) {
                const int64_t key = first + 2 * pair;
                const char * from = static_cast<const char *>(v->data) + head * v->nb[2] + key * v->nb[1] + d * v->nb[0];
                const __m512 one = key < work.seen ? load(from, v->type) : _mm512_setzero_ps();
                const __m512 other = key + 1 < work.seen ? load(from + v->nb[1], v->type) : _mm512_setzero_ps();
                _mm512_store_si512(to + 64 * pair, _mm512_permutexvar_epi16(weave, halved(one, other)));
            }
        }
    }
}

void take_queries(const Work & work, const ggml_tensor * q, int64_t head) {
    for (int64_t token = 0; token < work.blocks * ROWS; token++) {
        for (int64_t d = 0; d < work.depth; d += DEPTH) {
            __m512i both = _mm512_setzero_si512();
            if (token < work.tokens) {
                const char * row = static_cast<const char *>(q->data) + head * q->nb[2] + token * q->nb[1];
                const float * from = reinterpret_cast<const float *>(row) + d;
                both = halved(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16));
            }
            _mm512_store_si512(work.queries + (token * work.depth + d) * 2, both);
        }
    }
}

// Scores of a block of queries with the keys that it sees, one visible block beside the other.
void score(const Work & work, int64_t block) {
    const int64_t count = work.counts[block], stride = count * KEYS * sizeof(float), tiles = work.depth / DEPTH;
    const char * queries = work.queries + block * ROWS * work.depth * 2;
    written(queries);
    for (int64_t i = 0; i < count; i++) {
        const char * keys = work.keys + 2 * work.visible[block * work.wide + i] * tiles * TILE;
        _tile_zero(0);
        _tile_zero(1);
        for (int64_t d = 0; d < tiles; d++) {
            _tile_loadd(LEFT_0, queries + 2 * DEPTH * d, work.depth * 2);
            _tile_loadd(RIGHT_0, keys + d * TILE, 64);
            _tile_dpbf16ps(0, LEFT_0, RIGHT_0);
            _tile_loadd(RIGHT_1, keys + (tiles + d) * TILE, 64);
            _tile_dpbf16ps(1, LEFT_0, RIGHT_1);
        }
        _tile_stored(0, work.scores + i * KEYS, stride);
        _tile_stored(1, work.scores + i * KEYS + ROWS, stride);
    }
}

// Scales and masks a query's scores in place and returns the largest that is a number.
float mask_scores(const Work & work, const ggml_tensor * mask, int64_t block, int row, float scale) {
    const int32_t * visible = work.visible + block * work.wide;
    float * scores = work.scores + row * work.counts[block] * KEYS;
    const __m512 none = _mm512_set1_ps(-INFINITY), factor = _mm512_set1_ps(scale);
    __m512 most = none;
    for (int64_t i = 0; i < 2 * work.counts[block]; i++) {
        const int64_t key = visible[i / 2] * KEYS + i % 2 * ROWS, left = work.seen - key;
        const __mmask16 there = left >= 16 ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
        __m512 value = _mm512_mul_ps(_mm512_loadu_ps(scores + i * 16), factor);
        if (mask != nullptr) {
            const uint16_t * hidden = reinterpret_cast<const uint16_t *>(mask_row(mask, block * ROWS + row)) + key;
            value = _mm512_add_ps(value, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, hidden)));
        }
        value = _mm512_mask_mov_ps(none, there, value);
        _mm512_storeu_ps(scores + i * 16, value);
        most = _mm512_max_ps(value, most);  // the second if the first is NaN
    }
    return _mm512_reduce_max_ps(most);
}

// Writes a query's softmax, not yet divided by its sum, as BF16, and returns what to multiply with instead: NaN if a
// score that it sees is NaN or infinite.
float weigh(const Work & work, const ggml_tensor * mask, int64_t block, int row, float scale) {
    const int64_t count = work.counts[block];
    char * weights = work.weights + row * count * KEYS * 2;
    const float * scores = work.scores + row * count * KEYS;
    const bool there = block * ROWS + row < work.tokens;
    const float most = there ? mask_scores(work, mask, block, row, scale) : -INFINITY;
    if (most == -INFINITY) {  // it sees nothing, and nothing is what it gets, or no number
        memset(weights, 0, count * KEYS * 2);
        const bool nothing = !there || std::all_of(scores, scores + count * KEYS, [](float s) { return s == -INFINITY; });
        return nothing ? 0.0f : NAN;
    }
    const __m512 shift = _mm512_set1_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i++) {
        const __m512 first = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + i * KEYS), shift));
        const __m512 second = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + i * KEYS + 16), shift));
        sum = _mm512_add_ps(sum, _mm512_add_ps(first, second));
        _mm512_storeu_si512(weights + i * KEYS * 2, halved(first, second));
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

// The sums of values by these weights, as rows of tokens with all heads beside each other.
void collect(const Work & work, int64_t block, const float * factors, char * y, size_t stride) {
    const int64_t count = work.counts[block], tiles = work.depth / 16;
    alignas(64) float found[256];
    written(work.weights);
    for (int64_t d = 0; d < tiles; d++) {
        _tile_zero(0);
        for (int64_t i = 0; i < count; i++) {
            _tile_loadd(LEFT_0, work.weights + i * KEYS * 2, count * KEYS * 2);
            _tile_loadd(RIGHT_0, work.values + (work.visible[block * work.wide + i] * tiles + d) * TILE, 64);
            _tile_dpbf16ps(0, LEFT_0, RIGHT_0);
        }
        _tile_stored(0, found, 64);
        for (int row = 0; row < ROWS && block * ROWS + row < work.tokens; row++) {
            const __m512 scaled = _mm512_mul_ps(_mm512_load_ps(found + 16 * row), _mm512_set1_ps(factors[row]));
            _mm512_storeu_ps(y + (block * ROWS + row) * stride + d * 16 * sizeof(float), scaled);
        }
    }
}

}  // namespace

void attend(ggml_tensor * y, Room & room) {
    const ggml_tensor *q = y->src[0], *k = y->src[1], *v = y->src[2], *mask = y->src[3];
    const int64_t heads = q->ne[2], shared = heads / k->ne[2];  // queries' heads that have the same keys
    float scale, factors[ROWS];
    memcpy(&scale, y->op_params, sizeof scale);
    const Work work = prepare(q, k, room);
    look(work, mask);
    for (int64_t head = 0; head < heads; head++) {
        if (head % shared == 0) {
            pack_keys(work, k, head / shared);
            pack_values(work, v, head / shared);
        }
        take_queries(work, q, head);
        for (int64_t block = 0; block < work.blocks; block++) {
            score(work, block);
            for (int row = 0; row < ROWS; row++) {
                factors[row] = weigh(work, mask, block, row, scale);
            }
            collect(work, block, factors, static_cast<char *>(y->data) + head * y->nb[1], heads * y->nb[1]);
        }
    }
}

}  // namespace tiles
