/* UNIDIRECTIONAL_SEQUENCE_LSTM of int8 with a cell state of int16: no peephole, projection or layer norm. */
#include "eq_common.h"
#include "eq_curves.h"

size_t eq_lstm_s8_get_buffer_size(const eq_lstm_params *p) {
    return (size_t)2 * eq_depth4(p->in_c) + (size_t)2 * eq_depth4(p->cells);
}

static int32_t clamp16(int32_t x) {
    return eq_clamp(x, INT16_MIN, INT16_MAX);
}

/* A gate's sum for one cell in Q3.12, each half rounded and saturated by itself. */
static int32_t gate_sum(const eq_lstm_params *p, const eq_lstm_gate *g, const int32_t *x, const int32_t *h,
                        uint32_t cell) {
    const uint32_t x4 = eq_depth4(p->in_c), h4 = eq_depth4(p->cells);
    const int32_t input = eq_dot_s8(g->input_weights + cell * x4, x, x4, g->bias[cell]);
    const int32_t recurrent = eq_dot_s8(g->recurrent_weights + cell * h4, h, h4, 0);
    return clamp16(clamp16(eq_rescale(input, g->input_multiplier, g->input_shift)) +
                   clamp16(eq_rescale(recurrent, g->recurrent_multiplier, g->recurrent_shift)));
}

static int32_t scaled_product(int32_t a, int32_t b, int32_t multiplier, int32_t shift) {
    return eq_rescale(a * b, multiplier, shift);
}

static void step(const eq_lstm_params *p, const int8_t *input, int8_t *hidden, int16_t *cell, int32_t *x) {
    int32_t *h = x + eq_depth4(p->in_c) / 2;
    eq_widen(x, 1, 0, input, p->in_c, p->in_offset);
    eq_widen(h, 1, 0, hidden, p->cells, p->hidden_offset);
    for (uint32_t c = 0; c < p->cells; c++) {
        const int32_t forget = eq_logistic_q12(gate_sum(p, &p->forget, x, h, c));
        const int32_t admit = eq_logistic_q12(gate_sum(p, &p->input, x, h, c));
        const int32_t fresh = eq_tanh_q12(gate_sum(p, &p->cell, x, h, c), 0);
        const int32_t out = eq_logistic_q12(gate_sum(p, &p->output, x, h, c));
        const int32_t kept = clamp16(scaled_product(forget, cell[c], p->forget_multiplier, p->forget_shift));
        const int32_t added = clamp16(scaled_product(admit, fresh, p->input_multiplier, p->input_shift));
        int32_t state = clamp16(kept + added);
        if (p->cell_clip > 0) {
            state = eq_clamp(state, -p->cell_clip, p->cell_clip);
        }
        cell[c] = (int16_t)state;
        const int32_t shown = scaled_product(eq_tanh_q12(state, p->cell_power), out, p->hidden_multiplier,
                                             p->hidden_shift);
        hidden[c] = (int8_t)eq_clamp(shown - p->hidden_offset, INT8_MIN, INT8_MAX);
    }
}

void eq_lstm_s8(const eq_lstm_params *p, const int8_t *input, int8_t *hidden, int16_t *cell, int8_t *output,
                void *scratch) {
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t t = 0; t < p->steps; t++) {
            const uint32_t at = p->time_major != 0 ? t * p->batches + batch : batch * p->steps + t;
            step(p, input + at * p->in_c, hidden + batch * p->cells, cell + batch * p->cells, scratch);
            memcpy(output + at * p->cells, hidden + batch * p->cells, p->cells);
        }
    }
}
