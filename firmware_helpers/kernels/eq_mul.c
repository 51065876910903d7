/* MUL. */
#include "eq_broadcast.h"

static void mul_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                    uint32_t step_a, uint32_t step_b) {
    const eq_mul_params p = *(const eq_mul_params *)params;
    for (; count != 0; count--) {
        const int32_t product = (*a + p.a_offset) * (*b + p.b_offset);
        const int32_t end = eq_rescale(product, p.out_multiplier, p.out_shift) + p.out_offset;
        *output++ = (int8_t)eq_clamp(end, p.act_min, p.act_max);
        a += step_a;
        b += step_b;
    }
}

void eq_mul_s8(const eq_mul_params *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(&p->shape, a, b, output, mul_run, p);
}
