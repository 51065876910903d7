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

/* Four channels of one pixel; the commonest kernel, three columns wide, without a loop over columns. At most 511 taps, so
 * that 32 bits hold their sum. */
static inline void four(const eq_taps *t, const int16_t *x, const int8_t *w, int32_t acc[4]) {
    const uint32_t step = t->step, line = t->line, columns = t->columns, kernel = 4u * t->kernel_w;
    w += 4u * t->first;
    if (columns == 3) {
        for (uint32_t row = t->rows; row != 0; row--) {
            four_step(x, w, acc);
            four_step(x + step, w + 4, acc);
            four_step(x + 2 * step, w + 8, acc);
            x += line;
            w += kernel;
        }
        return;
    }
    for (uint32_t row = t->rows; row != 0; row--) {
        for (uint32_t column = 0; column < columns; column++) {
            four_step(x + column * step, w + 4u * column, acc);
        }
        x += line;
        w += kernel;
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

static inline void put(const eq_output_s8 *out, int64_t bias, int32_t acc, int32_t multiplier, int32_t shift,
                       int16_t *output) {
    const int32_t value = eq_finish_s16(eq_sum_s16(bias, acc), multiplier, shift);
    *output = (int16_t)eq_clamp(value, out->act_min, out->act_max);
}

/* Everything that the stores through `output` could not change is in locals. */
static EQ_NOINLINE void blocks(const eq_conv2d_params *p, const eq_taps *t, const int8_t *weights, const int64_t *bias,
                               int16_t *output) {
    const eq_output_s8 out = p->out;
    const uint32_t step = 4u * p->kernel_h * p->kernel_w, each = out.step;
    const int32_t *multiplier = out.multiplier;
    const int8_t *shift = out.right_shift;
    const int16_t *image = t->image;
    for (int16_t *end = output + (p->in_c & ~3u); output != end; output += 4) {
        int32_t acc[4] = {0, 0, 0, 0};
        four(t, image, weights, acc);
        put(&out, bias[0], acc[0], multiplier[0], shift[0], output);
        put(&out, bias[1], acc[1], multiplier[each], shift[each], output + 1);
        put(&out, bias[2], acc[2], multiplier[2 * each], shift[2 * each], output + 2);
        put(&out, bias[3], acc[3], multiplier[3 * each], shift[3 * each], output + 3);
        multiplier += 4 * each;
        shift += 4 * each;
        image += 4;
        weights += step;
        bias += 4;
    }
}

/* The last one to three channels. */
static EQ_NOINLINE void rest(const eq_conv2d_params *p, const eq_taps *t, const int8_t *weights, const int64_t *bias,
                             int16_t *output) {
    const uint32_t taps = (uint32_t)p->kernel_h * p->kernel_w;
    for (uint32_t c = p->in_c & ~3u; c < p->in_c; c++) {
        const uint32_t entry = c * p->out.step;
        const int32_t acc = one(t, (const int16_t *)t->image + c, weights + c * taps);
        put(&p->out, bias[c], acc, p->out.multiplier[entry], p->out.right_shift[entry], output + c);
    }
}

void eq_depthwise_conv2d_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights,
                             const int64_t *bias, int16_t *output) {
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t oy = 0; oy < p->out_h; oy++) {
            for (uint32_t ox = 0; ox < p->out_w; ox++) {
                const eq_taps taps = eq_taps_at(p, input, 2, oy, ox);
                blocks(p, &taps, weights, bias, output);
                rest(p, &taps, weights, bias, output);
                output += p->in_c;
            }
        }
        input += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
