/* FULLY_CONNECTED of int16: a convolution of one pixel. */
#include "eq_common.h"

size_t eq_fully_connected_s16_get_buffer_size(const eq_fully_connected_params *p) {
    return (size_t)2 * eq_depth4(p->in_c);
}

void eq_fully_connected_s16(const eq_fully_connected_params *p, const int16_t *input, const int8_t *weights,
                            const int64_t *bias, int16_t *output, void *scratch) {
    const uint32_t depth4 = eq_depth4(p->in_c);
    const eq_matrix_s16 m = {weights, bias, p->out.multiplier, p->out.right_shift, &p->out, p->out_c, depth4};
    int16_t *row = scratch;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        memmove(row, input, (size_t)2 * p->in_c); /* scratch may be the row itself */
        for (uint32_t k = p->in_c; k < depth4; k++) {
            row[k] = 0;
        }
        eq_multiply_s16(&m, row, output);
        input += p->in_c;
        output += p->out_c;
    }
}
