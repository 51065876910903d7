/* FULLY_CONNECTED: a convolution of one pixel. */
#include "eq_common.h"

size_t eq_fully_connected_s8_get_buffer_size(const eq_fully_connected_params *p) {
    return (size_t)2 * eq_depth4(p->in_c);
}

void eq_fully_connected_s8(const eq_fully_connected_params *p, const int8_t *input, const int8_t *weights,
                           const int32_t *bias, int8_t *output, void *scratch) {
    const uint32_t depth4 = eq_depth4(p->in_c);
    const eq_matrix m = {weights, bias, p->out.multiplier, p->out.right_shift, &p->out, p->out_c, depth4};
    int32_t *row = scratch;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        eq_widen(row, 1, 0, input, p->in_c, p->in_offset);
        eq_multiply_s8(&m, row, output);
        input += p->in_c;
        output += p->out_c;
    }
}
