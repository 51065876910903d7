/* ADD and SUB of either width. Not for generated code. */
#ifndef EQ_ADD_H
#define EQ_ADD_H

#include "eq_broadcast.h"

/* Operands are shifted left so far before they are scaled by at most 1/2 and 1: sums stay at or below 2^30. */
#define EQ_ADD_UNIT_S8 (1 << 20)
#define EQ_ADD_UNIT_S16 (1 << 15)

EQ_INLINE void add(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                   uint32_t step_b, int is_wide) {
    const eq_add_params p = *(const eq_add_params *)params;
    const int32_t unit = is_wide != 0 ? EQ_ADD_UNIT_S16 : EQ_ADD_UNIT_S8;
    for (uint32_t i = 0, at_a = 0, at_b = 0; i < count; i++, at_a += step_a, at_b += step_b) {
        const int32_t x = (eq_get(a, at_a, is_wide) + p.a_offset) * unit;
        const int32_t y = (eq_get(b, at_b, is_wide) + p.b_offset) * unit;
        const int32_t left = eq_rescale_narrow(x, p.a_multiplier, p.a_shift);
        const int32_t right = eq_rescale_narrow(y, p.b_multiplier, p.b_shift);
        const int32_t end = eq_rescale_narrow(left + p.sign * right, p.out_multiplier, p.out_shift) + p.out_offset;
        eq_put(output, i, eq_clamp(end, p.act_min, p.act_max), is_wide);
    }
}

#endif
