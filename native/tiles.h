// What the parts of this library share: tiles of BF16, how they are packed, and memory to work in.
//
// A CPU with AMX multiplies two tiles of 16 rows in one instruction: C[16 x 16] += A[16 x 32] * B[32 x 16], BF16 in,
// float32 out. A is read row by row, so weights and queries are used as they lie in memory. B holds pairs: its row r has,
// for each of 16 columns, elements 2r and 2r + 1 of that column.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>

struct ggml_tensor;

namespace tiles {

constexpr int ROWS = 16;                     // of a tile, and columns of a product
constexpr int DEPTH = 32;                    // BF16 elements of a tile's row
constexpr size_t TILE = ROWS * DEPTH * 2;    // bytes

// Which of the eight tile registers hold what; the first four are products. GCC's intrinsics want digits, so no enum.
#define LEFT_0 4
#define LEFT_1 5
#define RIGHT_0 6
#define RIGHT_1 7

// Memory of one context, which grows to what its largest call needs and stays.
class Room {
public:
    void open(size_t bytes) {
        if (size_ < bytes) {
            data_.reset();  // what was there is worth nothing: never both at a time
            size_ = 0;
            data_.reset(new char[bytes + 64]);
            size_ = bytes;
        }
        at_ = reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(data_.get()) + 63) & ~uintptr_t(63));
    }

    char * take(size_t bytes) {
        char * taken = at_;
        at_ += padded(bytes);
        return taken;
    }

    static size_t padded(size_t bytes) { return (bytes + 63) & ~size_t(63); }

private:
    std::unique_ptr<char[]> data_;
    size_t size_ = 0;
    char * at_ = nullptr;
};

// y = w x: w of BF16 [depth x rows], x of float32 [depth x tokens].
void multiply(const ggml_tensor * w, const ggml_tensor * x, ggml_tensor * y, Room & room);

// ggml's FLASH_ATTN_EXT without sinks, ALiBi and soft cap.
void attend(ggml_tensor * y, Room & room);

// GELU by its tanh formula, as ggml has it; sums whose second part may be a single row.
void gelu(const ggml_tensor * x, ggml_tensor * y);
void add(const ggml_tensor * a, const ggml_tensor * b, ggml_tensor * y);

// To be called between what writes memory and the tiles that load it: GCC's intrinsics do not say that they read any, so
// that stores may be moved behind them or left out.
inline void written(const void * place) { asm volatile("" : : "r"(place) : "memory"); }

inline int64_t whole(int64_t count, int64_t size) { return (count + size - 1) / size; }

// 32 floats as 32 BF16, rounded to nearest even.
inline __m512i halved(__m512 first, __m512 second) { return (__m512i) _mm512_cvtne2ps_pbh(second, first); }

// Turns 16 rows of 16 words into 16 columns.
inline void transpose(__m512i rows[ROWS]) {
    __m512i some[ROWS];
    for (int i = 0; i < 16; i += 2) {
        some[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        some[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(some[i], some[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(some[i], some[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(some[i + 1], some[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(some[i + 1], some[i + 3]);
    }
    for (int i = 0; i < 16; i += 8) {
        for (int j = i; j < i + 4; j++) {
            some[j] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0x88);
            some[j + 4] = _mm512_shuffle_i32x4(rows[j], rows[j + 4], 0xdd);
        }
    }
    for (int j = 0; j < 8; j++) {
        rows[j] = _mm512_shuffle_i32x4(some[j], some[j + 8], 0x88);
        rows[j + 8] = _mm512_shuffle_i32x4(some[j], some[j + 8], 0xdd);
    }
}

// Writes 16 rows of 16 words as columns: what the right side of a product is made of.
inline void store_turned(char * to, __m512i rows[ROWS]) {
    transpose(rows);
    for (int i = 0; i < ROWS; i++) {
        _mm512_store_si512(to + 64 * i, rows[i]);
    }
}

// e^x by the polynomial of Cephes' expf; what is below -87 counts as -87, and from 89 on it is infinite. NaN stays what it
// is: the CPU's minimum and maximum are their second argument then.
inline __m512 exponential(__m512 x) {
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-87.0f), x));
    const __m512 power = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fnmadd_ps(power, _mm512_set1_ps(-2.12194440e-4f), rest);
    __m512 found = _mm512_set1_ps(1.9875691500e-4f);
    for (float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
        found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(next));
    }
    found = _mm512_fmadd_ps(found, _mm512_mul_ps(rest, rest), _mm512_add_ps(rest, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(found, power);
}

}  // namespace tiles
