/* MUL. */
#include "eq_mul.h"

static void mul_run_s8(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                       uint32_t step_b) {
    mul(params, a, b, output, count, step_a, step_b, 0);
}

void eq_mul_s8(const eq_mul_params *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(&p->shape, 1, a, b, output, mul_run_s8, p);
}
