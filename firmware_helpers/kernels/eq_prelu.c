/* PRELU. */
#include "eq_broadcast.h"

static void prelu_run(const void *params, const void *inputs, const void *alphas, void *outputs, uint32_t count,
                      uint32_t step_input, uint32_t step_alpha) {
    const eq_prelu_params p = *(const eq_prelu_params *)params;
    const int8_t *input = inputs, *alpha = alphas;
    int8_t *output = outputs;
    for (; count != 0; count--, input += step_input, alpha += step_alpha) {
        const int32_t x = *input + p.in_offset;
        const int32_t y = x >= 0 ? eq_rescale(x, p.positive_multiplier, p.positive_shift)
                                 : eq_rescale(x * (*alpha + p.alpha_offset), p.negative_multiplier, p.negative_shift);
        *output++ = (int8_t)eq_clamp(y + p.out_offset, INT8_MIN, INT8_MAX);
    }
}

void eq_prelu_s8(const eq_prelu_params *p, const int8_t *input, const int8_t *alpha, int8_t *output) {
    eq_each_run(&p->shape, 1, input, alpha, output, prelu_run, p);
}
