/* MUL of int16. */
#include "eq_mul.h"

static void mul_run_s16(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                        uint32_t step_b) {
    mul(params, a, b, output, count, step_a, step_b, 1);
}

void eq_mul_s16(const eq_mul_params *p, const int16_t *a, const int16_t *b, int16_t *output) {
    eq_each_run(&p->shape, 2, a, b, output, mul_run_s16, p);
}
