/* The taps of a depthwise convolution's pixel that lie inside the image. Not for generated code. */
#ifndef EQ_TAPS_H
#define EQ_TAPS_H

#include "eq_common.h"

/* The taps of one output pixel that lie inside the image. */
typedef struct {
    const void *image; /* first tap, channel 0 */
    uint32_t first;    /* its number in the kernel */
    uint32_t rows, columns;
    uint32_t step, line; /* from tap to tap in the image */
    uint32_t kernel_w;
    int32_t offset;
} eq_taps;

/* Taps of one axis inside 0..size-1: the number of the first and how many. */
static inline void eq_from_to(int32_t at, int32_t kernel, int32_t dilation, int32_t size, int32_t *first,
                              int32_t *count) {
    int32_t before = at < 0 ? -at : 0, room = at < size ? size - at : 0;
    if (dilation != 1) {
        before = (before + dilation - 1) / dilation;
        room = (room + dilation - 1) / dilation;
    }
    const int32_t end = room < kernel ? room : kernel;
    *first = before;
    *count = end > before ? end - before : 0;
}

/* `size` is bytes of a value. */
static EQ_NOINLINE eq_taps eq_taps_at(const eq_conv2d_params *p, const void *input, int32_t size, uint32_t oy,
                                      uint32_t ox) {
    const uint8_t *image = input;
    const int32_t y = (int32_t)(oy * p->stride_h) - p->pad_top, x = (int32_t)(ox * p->stride_w) - p->pad_left;
    int32_t top, left, rows, columns;
    eq_from_to(y, p->kernel_h, p->dilation_h, p->in_h, &top, &rows);
    eq_from_to(x, p->kernel_w, p->dilation_w, p->in_w, &left, &columns);
    if (columns > 0 && rows > 0) {
        image += ((y + top * p->dilation_h) * p->in_w + x + left * p->dilation_w) * (int32_t)p->in_c * size;
    } else {
        rows = 0;
    }
    const eq_taps taps = {image,
                          (uint32_t)(top * p->kernel_w + left),
                          (uint32_t)rows,
                          (uint32_t)columns,
                          (uint32_t)p->dilation_w * p->in_c,
                          (uint32_t)p->dilation_h * p->in_w * p->in_c,
                          p->kernel_w,
                          p->in_offset};
    return taps;
}

#endif
