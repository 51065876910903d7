/* AVERAGE_POOL_2D and MAX_POOL_2D. */
#include "eq_common.h"

/* A window's part inside the image, as the index of its first value; one row holds `columns` pixels. */
typedef struct {
    uint32_t first, rows, columns, line, channels;
} eq_area;

static uint32_t inside(int32_t at, int32_t kernel, int32_t size, uint32_t *count) {
    const int32_t low = at < 0 ? 0 : at, end = at + kernel < size ? at + kernel : size;
    *count = end > low ? (uint32_t)(end - low) : 0;
    return (uint32_t)low;
}

static eq_area area_at(const eq_pool_params *p, uint32_t oy, uint32_t ox) {
    eq_area area = {0, 0, 0, (uint32_t)p->in_w * p->channels, p->channels};
    const uint32_t y = inside((int32_t)(oy * p->stride_h) - p->pad_top, p->kernel_h, p->in_h, &area.rows);
    const uint32_t x = inside((int32_t)(ox * p->stride_w) - p->pad_left, p->kernel_w, p->in_w, &area.columns);
    area.first = y * area.line + x * area.channels;
    return area;
}

static int32_t sum_of(const int8_t *from, const eq_area *area) {
    int32_t sum = 0;
    for (uint32_t row = area->rows; row != 0; row--, from += area->line) {
        const int8_t *value = from;
        for (uint32_t column = area->columns; column != 0; column--, value += area->channels) {
            sum += *value;
        }
    }
    return sum;
}

static int32_t largest_of(const int8_t *from, const eq_area *area) {
    int32_t largest = INT8_MIN;
    for (uint32_t row = area->rows; row != 0; row--, from += area->line) {
        const int8_t *value = from;
        for (uint32_t column = area->columns; column != 0; column--, value += area->channels) {
            largest = *value > largest ? *value : largest;
        }
    }
    return largest;
}

/* sum / count, halves away from zero. */
static int32_t rounded_mean(int32_t sum, int32_t count) {
    return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

static void pool(const eq_pool_params *p, const int8_t *input, int8_t *output, int is_average) {
    const int32_t low = p->act_min, high = p->act_max;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t at = 0; at < (uint32_t)p->out_h * p->out_w; at++) {
            const eq_area area = area_at(p, at / p->out_w, at % p->out_w);
            const int32_t count = (int32_t)(area.rows * area.columns);
            for (uint32_t c = 0; c < area.channels; c++) {
                const int8_t *from = input + area.first + c;
                const int32_t value = is_average ? (count == 0 ? 0 : rounded_mean(sum_of(from, &area), count))
                                                 : largest_of(from, &area);
                *output++ = (int8_t)eq_clamp(value, low, high);
            }
        }
        input += p->in_h * area_at(p, 0, 0).line;
    }
}

void eq_average_pool_s8(const eq_pool_params *p, const int8_t *input, int8_t *output) {
    pool(p, input, output, 1);
}

void eq_max_pool_s8(const eq_pool_params *p, const int8_t *input, int8_t *output) {
    pool(p, input, output, 0);
}
