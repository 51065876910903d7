/* MAXIMUM and MINIMUM. */
#include "eq_maximum_minimum.h"

EQ_EXTREME_RUN(maximum_run_s8, 1, 0)
EQ_EXTREME_RUN(minimum_run_s8, -1, 0)

void eq_maximum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(p, 1, a, b, output, maximum_run_s8, NULL);
}

void eq_minimum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output) {
    eq_each_run(p, 1, a, b, output, minimum_run_s8, NULL);
}
