/* SVDF with a state of int8 or int16. */
#include "eq_common.h"

static int32_t state_at(const eq_svdf_params *p, const void *values, uint32_t index) {
    return p->is_wide != 0 ? ((const int16_t *)values)[index] : ((const int8_t *)values)[index];
}

static void set_state(const eq_svdf_params *p, void *values, uint32_t index, int32_t value) {
    if (p->is_wide != 0) {
        ((int16_t *)values)[index] = (int16_t)eq_clamp(value, INT16_MIN, INT16_MAX);
    } else {
        ((int8_t *)values)[index] = (int8_t)eq_clamp(value, INT8_MIN, INT8_MAX);
    }
}

/* The newest value of every filter; all older ones move one place to the left. */
static void remember(const eq_svdf_params *p, const int8_t *input, const int8_t *feature_weights, void *state) {
    const uint32_t count = (uint32_t)p->batches * p->filters * p->memory;
    for (uint32_t i = 0; i + 1 < count; i++) {
        set_state(p, state, i, state_at(p, state, i + 1));
    }
    for (uint32_t row = 0; row < (uint32_t)p->batches * p->filters; row++) {
        const int8_t *x = input + row / p->filters * p->in_c, *w = feature_weights + row % p->filters * p->in_c;
        int32_t sum = 0;
        for (uint32_t c = 0; c < p->in_c; c++) {
            sum += w[c] * (x[c] + p->in_offset);
        }
        const int32_t value = eq_rescale(sum, p->feature_multiplier, p->feature_shift) + p->state_zero_point;
        set_state(p, state, (row + 1) * p->memory - 1, value);
    }
}

void eq_svdf_s8(const eq_svdf_params *p, const int8_t *input, const int8_t *feature_weights, const void *time_weights,
                const int32_t *bias, void *state, int8_t *output) {
    const uint32_t units = (uint32_t)(p->filters / p->rank), taps = (uint32_t)p->rank * p->memory;
    remember(p, input, feature_weights, state);
    for (uint32_t unit = 0; unit < p->batches * units; unit++) {
        const uint32_t from = unit * taps, weights = unit % units * taps;
        int32_t sum = bias[unit % units];
        for (uint32_t i = 0; i < taps; i++) {
            sum += state_at(p, time_weights, weights + i) * (state_at(p, state, from + i) - p->state_zero_point);
        }
        const int32_t end = eq_rescale(sum, p->out_multiplier, p->out_shift) + p->out_offset;
        *output++ = (int8_t)eq_clamp(end, INT8_MIN, INT8_MAX);
    }
}
