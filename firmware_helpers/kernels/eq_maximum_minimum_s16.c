/* MAXIMUM and MINIMUM of int16. */
#include "eq_maximum_minimum.h"

EQ_EXTREME_RUN(maximum_run_s16, 1, 1)
EQ_EXTREME_RUN(minimum_run_s16, -1, 1)

void eq_maximum_s16(const eq_broadcast *p, const int16_t *a, const int16_t *b, int16_t *output) {
    eq_each_run(p, 2, a, b, output, maximum_run_s16, NULL);
}

void eq_minimum_s16(const eq_broadcast *p, const int16_t *a, const int16_t *b, int16_t *output) {
    eq_each_run(p, 2, a, b, output, minimum_run_s16, NULL);
}
