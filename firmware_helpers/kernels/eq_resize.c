/* RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR, their coordinates from tables. */
#include "eq_common.h"

void eq_resize_nearest_s8(const eq_resize_nearest_params *p, const int8_t *input, int8_t *output) {
    const uint32_t channels = p->channels, line = (uint32_t)p->in_w * channels;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t y = 0; y < p->out_h; y++) {
            const int8_t *row = input + p->row[y] * line;
            for (uint32_t x = 0; x < p->out_w; x++) {
                memcpy(output, row + p->column[x] * channels, channels);
                output += channels;
            }
        }
        input += p->in_h * line;
    }
}

/* 1024 * 1024 parts, rounded, halves away from zero. */
static int8_t whole(int32_t parts) {
    const int32_t half = 1 << 19;
    return (int8_t)((parts + (parts > 0 ? half : -half)) / (1 << 20));
}

void eq_resize_bilinear_s8(const eq_resize_bilinear_params *p, const int8_t *input, int8_t *output) {
    const uint32_t channels = p->channels, line = (uint32_t)p->in_w * channels;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t y = 0; y < p->out_h; y++) {
            const eq_tap v = p->row[y];
            const int8_t *upper = input + v.lower * line, *lower = input + v.upper * line;
            for (uint32_t x = 0; x < p->out_w; x++) {
                const eq_tap h = p->column[x];
                const uint32_t left = h.lower * channels, right = h.upper * channels;
                for (uint32_t c = 0; c < channels; c++) {
                    const int32_t above = upper[left + c] * (1024 - h.fraction) + upper[right + c] * h.fraction;
                    const int32_t below = lower[left + c] * (1024 - h.fraction) + lower[right + c] * h.fraction;
                    *output++ = whole(above * (1024 - v.fraction) + below * v.fraction);
                }
            }
        }
        input += p->in_h * line;
    }
}
