/* ADD and SUB. */
#include "eq_broadcast.h"

/* Operands are shifted left by this before they are scaled by at most 1/2 and 1: sums stay below 2^29. */
#define EQ_ADD_UNIT (1 << 20)

static void add_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                    uint32_t step_a, uint32_t step_b) {
    const eq_add_params p = *(const eq_add_params *)params;
    for (; count != 0; count--) {
        const int32_t left = eq_rescale_narrow((*a + p.a_offset) * EQ_ADD_UNIT, p.a_multiplier, p.a_shift);
        const int32_t right = eq_rescale_narrow((*b + p.b_offset) * EQ_ADD_UNIT, p.b_multiplier, p.b_shift);
        const int32_t end = eq_rescale_narrow(left + p.sign * right, p.out_multiplier, p.out_shift) + p.out_offset;
        *output++ = (int8_t)eq_clamp(end, p.act_min, p.act_max);
        a += step_a;
        b += step_b;
    }
}

void eq_add_s8(const eq_add_params *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(&p->shape, a, b, output, add_run, p);
}
