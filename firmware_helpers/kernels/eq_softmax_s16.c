/* SOFTMAX of int16: the exponential and the reciprocal come from tables of 512 pieces. */
#include "eq_common.h"

/* A table's value between two entries; `x` is a 16-bit value. */
static inline int32_t between(const int16_t table[513], int32_t x) {
    const int32_t entry = 256 + (x >> 7), base = table[entry];
    return base + (((table[entry + 1] - base) * (x & 127) + 64) >> 7);
}

static int32_t clamp16(int32_t x) {
    return eq_clamp(x, INT16_MIN, INT16_MAX);
}

static void softmax_row(const eq_softmax_s16_params *p, const int16_t *input, int16_t *output) {
    int32_t largest = INT16_MIN, sum = 0;
    for (uint32_t c = 0; c < p->depth; c++) {
        largest = input[c] > largest ? input[c] : largest;
    }
    for (uint32_t c = 0; c < p->depth; c++) {
        const int32_t scaled = eq_rescale(input[c] - largest, p->multiplier, p->right_shift);
        const int32_t value = between(p->exponential, clamp16(scaled + INT16_MAX));
        sum += value;
        output[c] = (int16_t)value;
    }
    const int32_t shift = 32 - eq_leading_zeros((uint32_t)sum);                               /* sum < 2^shift */
    const int32_t fraction = (int32_t)((((uint32_t)sum << (31 - shift)) + (1u << 13)) >> 14); /* 1 to 2 in Q16 */
    const int32_t factor = between(p->reciprocal, clamp16(fraction - 3 * (1 << 15)));
    for (uint32_t c = 0; c < p->depth; c++) {
        const int32_t value = (output[c] * factor + (1 << (shift - 2))) >> (shift - 1);
        output[c] = (int16_t)eq_clamp(value, 0, INT16_MAX);
    }
}

void eq_softmax_s16(const eq_softmax_s16_params *p, const int16_t *input, int16_t *output) {
    for (uint32_t row = 0; row < p->rows; row++) {
        softmax_row(p, input, output);
        input += p->depth;
        output += p->depth;
    }
}
