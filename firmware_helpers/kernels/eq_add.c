/* ADD and SUB. */
#include "eq_broadcast.h"

#define EQ_LEFT_SHIFT 20

static inline int32_t scaled(int32_t x, int32_t multiplier, int32_t shift) {
    return eq_round_shift(eq_high_multiply_wide(x * (1 << EQ_LEFT_SHIFT), multiplier), shift);
}

static void add_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                    uint32_t step_a, uint32_t step_b) {
    const eq_add_params p = *(const eq_add_params *)params;
    for (; count != 0; count--) {
        const int32_t left = scaled(*a + p.a_offset, p.a_multiplier, p.a_shift);
        const int32_t right = scaled(*b + p.b_offset, p.b_multiplier, p.b_shift);
        const int32_t sum = left + p.sign * right;
        const int32_t end = eq_round_shift(eq_high_multiply_wide(sum, p.out_multiplier), p.out_shift) + p.out_offset;
        *output++ = (int8_t)eq_clamp(end, p.act_min, p.act_max);
        a += step_a;
        b += step_b;
    }
}

void eq_add_s8(const eq_add_params *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(&p->shape, a, b, output, add_run, p);
}
