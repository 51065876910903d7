/* ADD and SUB of int16. */
#include "eq_add.h"

static void add_run_s16(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                        uint32_t step_b) {
    add(params, a, b, output, count, step_a, step_b, 1);
}

void eq_add_s16(const eq_add_params *p, const int16_t *a, const int16_t *b, int16_t *output) {
    eq_each_run(&p->shape, 2, a, b, output, add_run_s16, p);
}
