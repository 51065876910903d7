/* MEAN, REDUCE_MAX, ARG_MAX of int16. */
#include "eq_reduce.h"

void eq_mean_s16(const eq_mean_params *p, const int16_t *input, int16_t *output) {
    mean(p, input, output, 1);
}

void eq_reduce_max_s16(const eq_reduce *s, const int16_t *input, int16_t *output) {
    largest(s, input, output, 1);
}

void eq_arg_max_s16(uint32_t outer, uint32_t axis, uint32_t inner, const int16_t *input, int32_t *output) {
    arg_max(outer, axis, inner, input, output, 1);
}
