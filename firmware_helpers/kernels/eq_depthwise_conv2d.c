/* DEPTHWISE_CONV_2D of depth multiplier 1: four channels at a time, straight from the image. */
#include "eq_taps.h"

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
        const int32_t acc = one(t, (const int8_t *)t->image + c, weights + c * taps, bias[c]);
        const int32_t end = eq_finish(acc, p->out.multiplier[entry], p->out.right_shift[entry], p->out.offset);
        output[c] = (int8_t)eq_clamp(end, p->out.act_min, p->out.act_max);
    }
}

void eq_depthwise_conv2d_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                            int8_t *output) {
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t oy = 0; oy < p->out_h; oy++) {
            for (uint32_t ox = 0; ox < p->out_w; ox++) {
                const eq_taps taps = eq_taps_at(p, input, 1, oy, ox);
                blocks(p, &taps, weights, bias, output);
                rest(p, &taps, weights, bias, output);
                output += p->in_c;
            }
        }
        input += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
