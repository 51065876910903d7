/* TRANSPOSE_CONV, from the output's side: every output gathers the inputs that reach it, so no sums are kept. */
#include "eq_transpose_conv.h"

static int32_t dot(const int8_t *x, const int8_t *w, int32_t offset, uint32_t depth) {
    int32_t sum = 0;
    for (; depth != 0; depth--) {
        sum += (*x++ + offset) * *w++;
    }
    return sum;
}

static int32_t sum_at(const eq_conv2d_params *p, const int8_t *input, const int8_t *w, uint32_t oy, uint32_t ox) {
    int32_t sum = 0;
    for (uint32_t ky = 0; ky < p->kernel_h; ky++) {
        const int32_t y = eq_source(oy, ky, p->pad_top, p->stride_h, p->in_h);
        for (uint32_t kx = 0; kx < p->kernel_w; kx++, w += p->in_c) {
            const int32_t x = eq_source(ox, kx, p->pad_left, p->stride_w, p->in_w);
            if (y >= 0 && x >= 0) {
                sum += dot(input + (uint32_t)(y * p->in_w + x) * p->in_c, w, p->in_offset, p->in_c);
            }
        }
    }
    return sum;
}

void eq_transpose_conv_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                          int8_t *output) {
    const uint32_t filter = (uint32_t)p->kernel_h * p->kernel_w * p->in_c;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t at = 0; at < (uint32_t)p->out_h * p->out_w; at++) {
            for (uint32_t c = 0; c < p->out_c; c++) {
                const int32_t sum = sum_at(p, input, weights + c * filter, at / p->out_w, at % p->out_w) + bias[c];
                const uint32_t entry = c * p->out.step;
                const int32_t end = eq_finish(sum, p->out.multiplier[entry], p->out.right_shift[entry], p->out.offset);
                *output++ = (int8_t)eq_clamp(end, p->out.act_min, p->out.act_max);
            }
        }
        input += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
