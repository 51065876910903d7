/* AVERAGE_POOL_2D and MAX_POOL_2D of either width. Not for generated code. */
#ifndef EQ_POOL_H
#define EQ_POOL_H

#include "eq_common.h"

/* A window's part inside the image, as the index of its first value; one row holds `columns` pixels. */
typedef struct {
    uint32_t first, rows, columns, line, channels;
} eq_area;

static inline uint32_t inside(int32_t at, int32_t kernel, int32_t size, uint32_t *count) {
    const int32_t low = at < 0 ? 0 : at, end = at + kernel < size ? at + kernel : size;
    *count = end > low ? (uint32_t)(end - low) : 0;
    return (uint32_t)low;
}

static inline eq_area area_at(const eq_pool_params *p, uint32_t oy, uint32_t ox) {
    eq_area area = {0, 0, 0, (uint32_t)p->in_w * p->channels, p->channels};
    const uint32_t y = inside((int32_t)(oy * p->stride_h) - p->pad_top, p->kernel_h, p->in_h, &area.rows);
    const uint32_t x = inside((int32_t)(ox * p->stride_w) - p->pad_left, p->kernel_w, p->in_w, &area.columns);
    area.first = y * area.line + x * area.channels;
    return area;
}

EQ_INLINE int32_t sum_of(const void *input, uint32_t from, const eq_area *area, int is_wide) {
    int32_t sum = 0;
    for (uint32_t row = area->rows; row != 0; row--, from += area->line) {
        uint32_t at = from;
        for (uint32_t column = area->columns; column != 0; column--, at += area->channels) {
            sum += eq_get(input, at, is_wide);
        }
    }
    return sum;
}

EQ_INLINE int32_t largest_of(const void *input, uint32_t from, const eq_area *area, int is_wide) {
    int32_t largest = is_wide != 0 ? INT16_MIN : INT8_MIN;
    for (uint32_t row = area->rows; row != 0; row--, from += area->line) {
        uint32_t at = from;
        for (uint32_t column = area->columns; column != 0; column--, at += area->channels) {
            const int32_t value = eq_get(input, at, is_wide);
            largest = value > largest ? value : largest;
        }
    }
    return largest;
}

/* Halves away from zero. */
EQ_INLINE int32_t mean_of(const void *input, uint32_t from, const eq_area *area, int is_wide) {
    const int32_t count = (int32_t)(area->rows * area->columns), sum = sum_of(input, from, area, is_wide);
    return count == 0 ? 0 : (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

EQ_INLINE void pool(const eq_pool_params *p, const void *input, void *output, int is_average, int is_wide) {
    const int32_t low = p->act_min, high = p->act_max;
    uint32_t image = 0, number = 0;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t at = 0; at < (uint32_t)p->out_h * p->out_w; at++) {
            const eq_area area = area_at(p, at / p->out_w, at % p->out_w);
            for (uint32_t c = 0; c < area.channels; c++) {
                const uint32_t from = image + area.first + c;
                const int32_t value = is_average != 0 ? mean_of(input, from, &area, is_wide)
                                                      : largest_of(input, from, &area, is_wide);
                eq_put(output, number++, eq_clamp(value, low, high), is_wide);
            }
        }
        image += (uint32_t)p->in_h * p->in_w * p->channels;
    }
}

#endif
