/* MEAN, REDUCE_MAX, ARG_MAX. */
#include "eq_reduce.h"

void eq_mean_s8(const eq_mean_params *p, const int8_t *input, int8_t *output) {
    mean(p, input, output, 0);
}

void eq_reduce_max_s8(const eq_reduce *s, const int8_t *input, int8_t *output) {
    largest(s, input, output, 0);
}

void eq_arg_max_s8(uint32_t outer, uint32_t axis, uint32_t inner, const int8_t *input, int32_t *output) {
    arg_max(outer, axis, inner, input, output, 0);
}
