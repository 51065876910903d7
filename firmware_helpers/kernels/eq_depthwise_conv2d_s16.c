/* DEPTHWISE_CONV_2D of int16 and depth multiplier 1: four channels at a time, straight from the image. */
#include "eq_taps.h"

#if EQ_DSP

static inline void four_step(const int16_t *x, const int8_t *w, int32_t acc[4]) {
    int32_t x01, x23;
    EQ_COPY(&x01, x, sizeof x01);
    EQ_COPY(&x23, x + 2, sizeof x23);
    const int32_t word = eq_load4(w), w01 = eq_sxtb16(word), w23 = eq_sxtb16_odd(word);
    acc[0] = eq_smlabb(x01, w01, acc[0]);
    acc[1] = eq_smlatt(x01, w01, acc[1]);
    acc[2] = eq_smlabb(x23, w23, acc[2]);
    acc[3] = eq_smlatt(x23, w23, acc[3]);
}

#else

/* The middle two of four weights are stored the other way round, as SXTB16 wants them. */
static inline void four_step(const int16_t *x, const int8_t *w, int32_t acc[4]) {
    acc[0] += x[0] * w[0];
    acc[1] += x[1] * w[2];
    acc[2] += x[2] * w[1];
    acc[3] += x[3] * w[3];
}

#endif

/* Four channels of one pixel, `x` and `w` at tap 0. At most 511 taps, so that 32 bits hold their sum. */
static inline void four(const eq_taps *t, const int16_t *x, const int8_t *w, int32_t acc[4]) {
    w += 4u * t->first;
    for (uint32_t row = t->rows; row != 0; row--) {
        const int16_t *at = x;
        const int8_t *end = w + 4u * t->columns;
        for (const int8_t *from = w; from != end; from += 4, at += t->step) {
            four_step(at, from, acc);
        }
        x += t->line;
        w += 4u * t->kernel_w;
    }
}

static int32_t one(const eq_taps *t, const int16_t *x, const int8_t *w) {
    int32_t acc = 0;
    w += t->first;
    for (uint32_t row = 0; row < t->rows; row++) {
        for (uint32_t column = 0; column < t->columns; column++) {
            acc += x[column * t->step] * w[column];
        }
        x += t->line;
        w += t->kernel_w;
    }
    return acc;
}

static void put(const eq_conv2d_params *p, uint32_t c, int64_t sum, int16_t *output) {
    const uint32_t entry = c * p->out.step;
    const int32_t end = eq_finish_s16(sum, p->out.multiplier[entry], p->out.right_shift[entry]);
    output[c] = (int16_t)eq_clamp(end, p->out.act_min, p->out.act_max);
}

static void pixel(const eq_conv2d_params *p, const eq_taps *t, const int8_t *weights, const int64_t *bias,
                  int16_t *output) {
    const int16_t *image = t->image;
    const uint32_t taps = (uint32_t)p->kernel_h * p->kernel_w;
    uint32_t c = 0;
    for (; c < (p->in_c & ~3u); c += 4) {
        int32_t acc[4] = {0, 0, 0, 0};
        four(t, image + c, weights + c * taps, acc);
        for (uint32_t i = 0; i < 4; i++) {
            put(p, c + i, eq_sum_s16(bias[c + i], acc[i]), output);
        }
    }
    for (; c < p->in_c; c++) {
        put(p, c, eq_sum_s16(bias[c], one(t, image + c, weights + c * taps)), output);
    }
}

void eq_depthwise_conv2d_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights,
                             const int64_t *bias, int16_t *output) {
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t oy = 0; oy < p->out_h; oy++) {
            for (uint32_t ox = 0; ox < p->out_w; ox++) {
                const eq_taps taps = eq_taps_at(p, input, 2, oy, ox);
                pixel(p, &taps, weights, bias, output);
                output += p->in_c;
            }
        }
        input += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
