/* DEPTHWISE_CONV_2D of depth multiplier 1: four channels at a time, straight from the image. */
#include "eq_common.h"

/* The taps of one output pixel that lie inside the image. */
typedef struct {
    const int8_t *image; /* first tap, channel 0 */
    uint32_t first;      /* its number in the kernel */
    uint32_t rows, columns;
    uint32_t step, line; /* from tap to tap in the image */
    uint32_t kernel_w;
    int32_t offset;
} eq_taps;

/* Taps of one axis inside 0..size-1: the number of the first and how many. */
static void from_to(int32_t at, int32_t kernel, int32_t dilation, int32_t size, int32_t *first, int32_t *count) {
    int32_t before = at < 0 ? -at : 0, room = at < size ? size - at : 0;
    if (dilation != 1) {
        before = (before + dilation - 1) / dilation;
        room = (room + dilation - 1) / dilation;
    }
    const int32_t end = room < kernel ? room : kernel;
    *first = before;
    *count = end > before ? end - before : 0;
}

static EQ_NOINLINE eq_taps taps_at(const eq_conv2d_params *p, const int8_t *image, uint32_t oy, uint32_t ox) {
    const int32_t y = (int32_t)(oy * p->stride_h) - p->pad_top, x = (int32_t)(ox * p->stride_w) - p->pad_left;
    int32_t top, left, rows, columns;
    from_to(y, p->kernel_h, p->dilation_h, p->in_h, &top, &rows);
    from_to(x, p->kernel_w, p->dilation_w, p->in_w, &left, &columns);
    if (columns > 0 && rows > 0) {
        image += ((y + top * p->dilation_h) * p->in_w + x + left * p->dilation_w) * (int32_t)p->in_c;
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

#if EQ_DSP

static inline void four_step(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc[4]) {
    const int32_t values = eq_load4(x), factors = eq_load4(w);
    const int32_t x02 = eq_sxtab16(offset, values), x13 = eq_sxtab16_odd(offset, values);
    const int32_t w02 = eq_sxtb16(factors), w13 = eq_sxtb16_odd(factors);
    acc[0] = eq_smlabb(x02, w02, acc[0]);
    acc[1] = eq_smlabb(x13, w13, acc[1]);
    acc[2] = eq_smlatt(x02, w02, acc[2]);
    acc[3] = eq_smlatt(x13, w13, acc[3]);
}

#define EQ_OFFSET(offset) eq_pair(offset)

#else

static inline void four_step(const int8_t *x, const int8_t *w, int32_t offset, int32_t acc[4]) {
    for (int i = 0; i < 4; i++) {
        acc[i] += (x[i] + offset) * w[i];
    }
}

#define EQ_OFFSET(offset) (offset)

#endif

/* Four channels of one pixel; the commonest kernel, three columns wide, without a loop over columns. */
static inline void four(const eq_taps *t, const int8_t *x, const int8_t *w, int32_t acc[4]) {
    const uint32_t step = t->step;
    const int32_t offset = EQ_OFFSET(t->offset);
    w += 4u * t->first;
    if (t->columns == 3) {
        for (uint32_t row = t->rows; row != 0; row--) {
            four_step(x, w, offset, acc);
            four_step(x + step, w + 4, offset, acc);
            four_step(x + 2 * step, w + 8, offset, acc);
            x += t->line;
            w += 4u * t->kernel_w;
        }
        return;
    }
    for (uint32_t row = t->rows; row != 0; row--) {
        for (uint32_t column = 0; column < t->columns; column++) {
            four_step(x + column * step, w + 4u * column, offset, acc);
        }
        x += t->line;
        w += 4u * t->kernel_w;
    }
}

static int32_t one(const eq_taps *t, const int8_t *x, const int8_t *w, int32_t acc) {
    w += t->first;
    for (uint32_t row = 0; row < t->rows; row++) {
        for (uint32_t column = 0; column < t->columns; column++) {
            acc += (x[column * t->step] + t->offset) * w[column];
        }
        x += t->line;
        w += t->kernel_w;
    }
    return acc;
}

/* Everything that the stores through `output` could not change is in locals. */
static EQ_NOINLINE void blocks(const eq_conv2d_params *p, const eq_taps *t, const int8_t *weights, const int32_t *bias,
                               int8_t *output) {
    const eq_output_s8 out = p->out;
    const uint32_t step = 4u * p->kernel_h * p->kernel_w;
    const int32_t *multiplier = out.multiplier;
    const int8_t *right_shift = out.right_shift, *image = t->image;
    for (int8_t *end = output + (p->in_c & ~3u); output != end; output += 4) {
        int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
        four(t, image, weights, acc);
        for (uint32_t i = 0; i < 4; i++) {
            acc[i] = eq_finish(acc[i], *multiplier, *right_shift, out.offset);
            multiplier += out.step;
            right_shift += out.step;
        }
        eq_store(acc, 4, out.act_min, out.act_max, output);
        image += 4;
        weights += step;
        bias += 4;
    }
}

/* The last one to three channels. */
static EQ_NOINLINE void rest(const eq_conv2d_params *p, const eq_taps *t, const int8_t *weights, const int32_t *bias,
                             int8_t *output) {
    const uint32_t taps = (uint32_t)p->kernel_h * p->kernel_w;
    for (uint32_t c = p->in_c & ~3u; c < p->in_c; c++) {
        const uint32_t entry = c * p->out.step;
        const int32_t acc = one(t, t->image + c, weights + c * taps, bias[c]);
        const int32_t end = eq_finish(acc, p->out.multiplier[entry], p->out.right_shift[entry], p->out.offset);
        output[c] = (int8_t)eq_clamp(end, p->out.act_min, p->out.act_max);
    }
}

void eq_depthwise_conv2d_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                            int8_t *output) {
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t oy = 0; oy < p->out_h; oy++) {
            for (uint32_t ox = 0; ox < p->out_w; ox++) {
                const eq_taps taps = taps_at(p, input, oy, ox);
                blocks(p, &taps, weights, bias, output);
                rest(p, &taps, weights, bias, output);
                output += p->in_c;
            }
        }
        input += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
