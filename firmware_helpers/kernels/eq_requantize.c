/* QUANTIZE from int16. */
#include "eq_common.h"

static inline int32_t requantized(const eq_requantize_params *p, int32_t x, int32_t low, int32_t high) {
    const int32_t y = eq_rescale(x - p->in_zero_point, p->multiplier, p->right_shift) + p->out_zero_point;
    return eq_clamp(y, low, high);
}

void eq_requantize_s16_s8(const eq_requantize_params *p, const int16_t *input, int8_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = (int8_t)requantized(p, *input++, INT8_MIN, INT8_MAX);
    }
}

void eq_requantize_s16(const eq_requantize_params *p, const int16_t *input, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = (int16_t)requantized(p, *input++, INT16_MIN, INT16_MAX);
    }
}
