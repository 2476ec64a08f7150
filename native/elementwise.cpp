// What stands between products: done here as well, so that a layer is not handed to and fro.
#include "ggml.h"
#include "tiles.h"

namespace tiles {

void gelu(const ggml_tensor * x, ggml_tensor * y) {
    const float * from = static_cast<const float *>(x->data);
    float * to = static_cast<float *>(y->data);
    const int64_t count = ggml_nelements(x);
    // 0.5 x (1 + tanh u) = x / (1 + e^-2u), with u = sqrt(2 / pi) (x + 0.044715 x^3)
    const __m512 linear = _mm512_set1_ps(-1.5957691216f), cubic = _mm512_set1_ps(-0.0713548162726f);
    for (int64_t i = 0; i < count; i += 16) {
        const __mmask16 mask = count - i >= 16 ? 0xffff : (1 << (count - i)) - 1;
        const __m512 value = _mm512_maskz_loadu_ps(mask, from + i);
        const __m512 factor = _mm512_fmadd_ps(_mm512_mul_ps(value, value), cubic, linear);
        const __m512 power = exponential(_mm512_mul_ps(value, factor));
        const __m512 found = _mm512_div_ps(value, _mm512_add_ps(power, _mm512_set1_ps(1.0f)));
        _mm512_mask_storeu_ps(to + i, mask, found);
    }
}

void add(const ggml_tensor * a, const ggml_tensor * b, ggml_tensor * y) {
    const float * first = static_cast<const float *>(a->data);
    const float * second = static_cast<const float *>(b->data);
    float * to = static_cast<float *>(y->data);
    const int64_t width = a->ne[0], rows = ggml_nrows(a), step = ggml_nrows(b) == 1 ? 0 : width;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < width; i++) {
            to[row * width + i] = first[row * width + i] + second[row * step + i];
        }
    }
}

}  // namespace tiles
