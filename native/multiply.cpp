// Products of weights and activations.
//
// Weights are the left side, so that they are read from the mapped file as they are: nothing is repacked, no second copy
// of the model is in memory. Activations become BF16 (as ggml does for such weights) in pairs, a piece at a time.
#include "ggml.h"
#include "tiles.h"

namespace tiles {

namespace {

// Tokens of a piece: its tiles stay in the second-level cache while all weights pass by.
constexpr int64_t PIECE = 256;

// Packs up to PIECE tokens: [block of 16 tokens][block of 32 elements][pair][token][2].
void pack(const char * x, size_t stride, int64_t tokens, int64_t deep, char * packed) {
    for (int64_t first = 0; first < tokens; first += ROWS) {
        for (int64_t d = 0; d < deep; d++) {
            __m512i rows[ROWS];
            for (int i = 0; i < ROWS; i++) {
                if (first + i >= tokens) {
                    rows[i] = _mm512_setzero_si512();
                    continue;
                }
                const float * from = reinterpret_cast<const float *>(x + (first + i) * stride) + d * DEPTH;
                rows[i] = halved(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16));
            }
            store_turned(packed, rows);
            packed += TILE;
        }
    }
}

// Writes a product, whose rows are weights, as rows of tokens.
void store(const float * product, char * y, size_t stride, int64_t tokens) {
    __m512i rows[ROWS];
    for (int i = 0; i < ROWS; i++) {
        rows[i] = _mm512_load_si512(product + 16 * i);
    }
    transpose(rows);
    for (int i = 0; i < ROWS && i < tokens; i++) {
        _mm512_storeu_si512(y + i * stride, rows[i]);
    }
}

// One to four products: one or two blocks of 16 weights, one or two of 16 tokens. Four use each tile twice.
template <bool TWO, bool WIDE>
void products(const char * w, size_t stride, const char * packed, int64_t deep, float (*found)[256]) {
    written(packed);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const char * more = w + ROWS * stride;
    for (int64_t d = 0; d < deep; d++) {
        _tile_loadd(LEFT_0, w + 2 * DEPTH * d, stride);
        _tile_loadd(RIGHT_0, packed + TILE * d, 64);
        _tile_dpbf16ps(0, LEFT_0, RIGHT_0);
        if constexpr (WIDE) {
            _tile_loadd(RIGHT_1, packed + TILE * (deep + d), 64);
            _tile_dpbf16ps(1, LEFT_0, RIGHT_1);
        }
        if constexpr (TWO) {
            _tile_loadd(LEFT_1, more + 2 * DEPTH * d, stride);
            _tile_dpbf16ps(2, LEFT_1, RIGHT_0);
        }
        if constexpr (TWO && WIDE) {
            _tile_dpbf16ps(3, LEFT_1, RIGHT_1);
        }
    }
    _tile_stored(0, found[0], 64);
    _tile_stored(1, found[1], 64);
    _tile_stored(2, found[2], 64);
    _tile_stored(3, found[3], 64);
}

void multiply_piece(const ggml_tensor * w, const char * packed, int64_t tokens, char * y, size_t stride) {
    const int64_t deep = w->ne[0] / DEPTH, blocks = whole(tokens, ROWS);
    alignas(64) float found[4][256];
    for (int64_t row = 0; row < w->ne[1]; row += 2 * ROWS) {
        const bool two = row + ROWS < w->ne[1];
        const char * weights = static_cast<const char *>(w->data) + row * w->nb[1];
        for (int64_t block = 0; block < blocks; block += 2) {
            const bool wide = block + 1 < blocks;
            const auto compute = two ? (wide ? products<true, true> : products<true, false>)
                                     : (wide ? products<false, true> : products<false, false>);
            compute(weights, w->nb[1], packed + block * deep * TILE, deep, found);
            for (int i = 0; i < 4; i++) {
                const int64_t token = (block + i % 2) * ROWS;
                if ((i % 2 == 0 || wide) && (i < 2 || two)) {
                    store(found[i], y + token * stride + (row + i / 2 * ROWS) * sizeof(float), stride, tokens - token);
                }
            }
        }
    }
}

}  // namespace

void multiply(const ggml_tensor * w, const ggml_tensor * x, ggml_tensor * y, Room & room) {
    const int64_t tokens = ggml_nrows(x), deep = w->ne[0] / DEPTH;
    room.open(whole(tokens < PIECE ? tokens : PIECE, ROWS) * deep * TILE);
    char * packed = room.take(0);
    for (int64_t begin = 0; begin < tokens; begin += PIECE) {
        const int64_t count = tokens - begin < PIECE ? tokens - begin : PIECE;
        pack(static_cast<const char *>(x->data) + begin * x->nb[1], x->nb[1], count, deep, packed);
        multiply_piece(w, packed, count, static_cast<char *>(y->data) + begin * y->nb[1], y->nb[1]);
    }
}

}  // namespace tiles
