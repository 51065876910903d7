/* MAXIMUM and MINIMUM. */
#include "eq_broadcast.h"

static void maximum_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                        uint32_t step_a, uint32_t step_b) {
    (void)params;
    for (; count != 0; count--, a += step_a, b += step_b) {
        *output++ = *a > *b ? *a : *b;
    }
}

static void minimum_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                        uint32_t step_a, uint32_t step_b) {
    (void)params;
    for (; count != 0; count--, a += step_a, b += step_b) {
        *output++ = *a < *b ? *a : *b;
    }
}

void eq_maximum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(p, a, b, output, maximum_run, NULL);
}

void eq_minimum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(p, a, b, output, minimum_run, NULL);
}
