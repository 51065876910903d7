/* RELU, RELU6, LEAKY_RELU of int16: straight lines with a bend at 0. */
#include "eq_common.h"

void eq_leaky_relu_s16(const eq_leaky_relu_params *p, const int16_t *input, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        const int32_t x = *input++;
        const int32_t y = x >= 0 ? eq_rescale(x, p->positive_multiplier, p->positive_shift)
                                 : eq_rescale(x, p->negative_multiplier, p->negative_shift);
        *output++ = (int16_t)eq_clamp(y, p->act_min, p->act_max);
    }
}
