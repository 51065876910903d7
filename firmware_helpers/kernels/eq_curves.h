/* Curves of 16-bit values: inputs in Q3.12, outputs in Q0.15. Not for generated code. */
#ifndef EQ_CURVES_H
#define EQ_CURVES_H

#include <stdint.h>

extern const uint16_t eq_sigmoid_table[256];

/* Of x * 3 * 2^12. */
static inline int32_t eq_logistic_of(int32_t scaled) {
    const uint32_t size = (uint32_t)(scaled < 0 ? -scaled : scaled), entry = size >> 9;
    uint32_t y = (uint32_t)0x7fff << 10;
    if (entry < 255) {
        const uint32_t low = eq_sigmoid_table[entry], high = eq_sigmoid_table[entry + 1];
        y = (low << 9) + (size & 0x1ffu) * (high - low);
    }
    y = scaled >= 0 ? y + (1u << 9) : (1u << 25) - y + (1u << 9) - 1u;
    return (int16_t)(uint16_t)(y >> 10);
}

static inline int32_t eq_logistic_q12(int32_t x) {
    return eq_logistic_of(x * 3);
}

/* Of x * 3 * 2^12. */
static inline int32_t eq_tanh_of(int32_t scaled) {
    const uint32_t size = (uint32_t)(scaled < 0 ? -scaled : scaled), entry = size >> 8;
    int32_t y = 0xffff << 8;
    if (entry < 255) {
        const uint32_t low = eq_sigmoid_table[entry], high = eq_sigmoid_table[entry + 1];
        y = (int32_t)((low << 8) + (size & 0xffu) * (high - low));
    }
    y = scaled >= 0 ? y - (1 << 23) + (1 << 7) : -y + (1 << 23) + (1 << 7) - 1;
    return (int16_t)(y >> 8);
}

/* tanh(x / 2^12 * 2^power): power 0 for Q3.12; other cells are shifted there first. */
static inline int32_t eq_tanh_q12(int32_t x, int32_t power) {
    return eq_tanh_of(power >= 0 ? x * (3 * (1 << power)) : (x * 3 + (1 << (-power - 1))) >> -power);
}

#endif
