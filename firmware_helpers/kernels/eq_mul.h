/* MUL of either width. Not for generated code. */
#ifndef EQ_MUL_H
#define EQ_MUL_H

#include "eq_broadcast.h"

EQ_INLINE void mul(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                   uint32_t step_b, int is_wide) {
    const eq_mul_params p = *(const eq_mul_params *)params;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < count; i++, at_a += step_a, at_b += step_b) {
        const int32_t product = (eq_get(a, at_a, is_wide) + p.a_offset) * (eq_get(b, at_b, is_wide) + p.b_offset);
        const int32_t end = eq_rescale(product, p.out_multiplier, p.out_shift) + p.out_offset;
        eq_put(output, i, eq_clamp(end, p.act_min, p.act_max), is_wide);
    }
}

#endif
