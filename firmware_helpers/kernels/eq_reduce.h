/* MEAN, REDUCE_MAX, ARG_MAX of either width. Not for generated code. */
#ifndef EQ_REDUCE_H
#define EQ_REDUCE_H

#include "eq_common.h"

/* The index of element `number` of axes with these strides; the last axis is the fastest. */
static inline uint32_t index_of(uint32_t number, const uint32_t dims[5], const uint32_t strides[5]) {
    uint32_t index = 0;
    for (int i = 4; i >= 0; i--) {
        index += number % dims[i] * strides[i];
        number /= dims[i];
    }
    return index;
}

static inline uint32_t product_of(const uint32_t dims[5]) {
    return dims[0] * dims[1] * dims[2] * dims[3] * dims[4];
}

EQ_INLINE void mean(const eq_mean_params *p, const void *input, void *output, int is_wide) {
    const eq_reduce *s = &p->shape;
    const uint32_t outputs = product_of(s->kept), runs = product_of(s->gone) / s->gone[4];
    for (uint32_t number = 0; number < outputs; number++) {
        const uint32_t from = index_of(number, s->kept, s->kept_stride);
        int32_t sum = p->in_sum_offset;
        for (uint32_t run = 0; run < runs; run++) {
            uint32_t at = from + index_of(run * s->gone[4], s->gone, s->gone_stride);
            for (uint32_t n = s->gone[4]; n != 0; n--, at += s->gone_stride[4]) {
                sum += eq_get(input, at, is_wide);
            }
        }
        const int32_t end = eq_rescale(sum, p->multiplier, p->right_shift) + p->out_offset;
        const int32_t low = is_wide != 0 ? INT16_MIN : INT8_MIN;
        eq_put(output, number, eq_clamp(end, low, -1 - low), is_wide);
    }
}

EQ_INLINE void largest(const eq_reduce *s, const void *input, void *output, int is_wide) {
    const uint32_t outputs = product_of(s->kept), inputs = product_of(s->gone);
    for (uint32_t number = 0; number < outputs; number++) {
        const uint32_t from = index_of(number, s->kept, s->kept_stride);
        int32_t most = is_wide != 0 ? INT16_MIN : INT8_MIN;
        for (uint32_t i = 0; i < inputs; i++) {
            const int32_t value = eq_get(input, from + index_of(i, s->gone, s->gone_stride), is_wide);
            most = value > most ? value : most;
        }
        eq_put(output, number, most, is_wide);
    }
}

EQ_INLINE void arg_max(uint32_t outer, uint32_t axis, uint32_t inner, const void *input, int32_t *output, int is_wide) {
    for (uint32_t from = 0; outer != 0; outer--, from += axis * inner) {
        for (uint32_t i = 0; i < inner; i++) {
            uint32_t best = 0;
            for (uint32_t a = 1; a < axis; a++) {
                const int32_t value = eq_get(input, from + a * inner + i, is_wide);
                best = value > eq_get(input, from + best * inner + i, is_wide) ? a : best;
            }
            *output++ = (int32_t)best;
        }
    }
}

#endif
