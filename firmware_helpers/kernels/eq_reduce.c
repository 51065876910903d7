/* MEAN, REDUCE_MAX, ARG_MAX. */
#include "eq_common.h"

/* The index of element `number` of axes with these strides; the last axis is the fastest. */
static uint32_t index_of(uint32_t number, const uint32_t dims[5], const uint32_t strides[5]) {
    uint32_t index = 0;
    for (int i = 4; i >= 0; i--) {
        index += number % dims[i] * strides[i];
        number /= dims[i];
    }
    return index;
}

static uint32_t product_of(const uint32_t dims[5]) {
    return dims[0] * dims[1] * dims[2] * dims[3] * dims[4];
}

void eq_mean_s8(const eq_mean_params *p, const int8_t *input, int8_t *output) {
    const eq_reduce *s = &p->shape;
    const uint32_t outputs = product_of(s->kept), runs = product_of(s->gone) / s->gone[4];
    for (uint32_t number = 0; number < outputs; number++) {
        const int8_t *from = input + index_of(number, s->kept, s->kept_stride);
        int32_t sum = p->in_sum_offset;
        for (uint32_t run = 0; run < runs; run++) {
            const int8_t *value = from + index_of(run * s->gone[4], s->gone, s->gone_stride);
            for (uint32_t n = s->gone[4]; n != 0; n--, value += s->gone_stride[4]) {
                sum += *value;
            }
        }
        const int32_t end = eq_rescale(sum, p->multiplier, p->right_shift) + p->out_offset;
        *output++ = (int8_t)eq_clamp(end, INT8_MIN, INT8_MAX);
    }
}

void eq_reduce_max_s8(const eq_reduce *s, const int8_t *input, int8_t *output) {
    const uint32_t outputs = product_of(s->kept), inputs = product_of(s->gone);
    for (uint32_t number = 0; number < outputs; number++) {
        const int8_t *from = input + index_of(number, s->kept, s->kept_stride);
        int8_t largest = INT8_MIN;
        for (uint32_t i = 0; i < inputs; i++) {
            const int8_t value = from[index_of(i, s->gone, s->gone_stride)];
            largest = value > largest ? value : largest;
        }
        *output++ = largest;
    }
}

void eq_arg_max_s8(uint32_t outer, uint32_t axis, uint32_t inner, const int8_t *input, int32_t *output) {
    for (uint32_t o = 0; o < outer; o++) {
        for (uint32_t i = 0; i < inner; i++) {
            uint32_t best = 0;
            for (uint32_t a = 1; a < axis; a++) {
                best = input[a * inner + i] > input[best * inner + i] ? a : best;
            }
            *output++ = (int32_t)best;
        }
        input += axis * inner;
    }
}
