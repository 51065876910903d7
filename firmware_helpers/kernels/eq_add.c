/* ADD and SUB. */
#include "eq_add.h"

static void add_run_s8(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                       uint32_t step_b) {
    add(params, a, b, output, count, step_a, step_b, 0);
}

void eq_add_s8(const eq_add_params *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(&p->shape, 1, a, b, output, add_run_s8, p);
}
