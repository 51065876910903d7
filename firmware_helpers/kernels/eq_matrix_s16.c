/* Weight rows times pixels of int16: the inner loop of the 16-bit CONV_2D and FULLY_CONNECTED. */
#include "eq_common.h"

/* Products of this many values fit in 32 bits: 504 * 128 * 32768 < 2^31. Whole groups of eight. */
#define EQ_CHUNK 504u

#if EQ_DSP

static inline int32_t load2(const int16_t *from) {
    int32_t word;
    EQ_COPY(&word, from, sizeof word);
    return word;
}

/* Two channels times two pixels, four values of depth. */
static inline void dot_2x2(const int8_t *w, const int16_t *x, const int16_t *y, int32_t acc[4]) {
    const int32_t word0 = eq_load4(w), word1 = eq_load4(w + 4);
    const int32_t first0 = eq_sxtb16(word0), first1 = eq_sxtb16(word1), x01 = load2(x), y01 = load2(y);
    acc[0] = eq_smlad(first0, x01, acc[0]);
    acc[1] = eq_smlad(first0, y01, acc[1]);
    acc[2] = eq_smlad(first1, x01, acc[2]);
    acc[3] = eq_smlad(first1, y01, acc[3]);
    const int32_t last0 = eq_sxtb16_odd(word0), last1 = eq_sxtb16_odd(word1), x23 = load2(x + 2), y23 = load2(y + 2);
    acc[0] = eq_smlad(last0, x23, acc[0]);
    acc[1] = eq_smlad(last0, y23, acc[1]);
    acc[2] = eq_smlad(last1, x23, acc[2]);
    acc[3] = eq_smlad(last1, y23, acc[3]);
}

static inline int32_t dot_1x1(const int8_t *w, const int16_t *x, int32_t acc) {
    const int32_t word = eq_load4(w);
    return eq_smlad(eq_sxtb16_odd(word), load2(x + 2), eq_smlad(eq_sxtb16(word), load2(x), acc));
}

static inline void dot_4x1(const int8_t *w, const int16_t *x, int32_t acc[4]) {
    const int32_t x01 = load2(x), x23 = load2(x + 2);
    for (int i = 0; i < 4; i++) {
        const int32_t word = eq_load4(w + 4 * i);
        acc[i] = eq_smlad(eq_sxtb16_odd(word), x23, eq_smlad(eq_sxtb16(word), x01, acc[i]));
    }
}

#else

/* The middle two of four weights are stored the other way round, as SXTB16 wants them. */
static inline int32_t dot_1x1(const int8_t *w, const int16_t *x, int32_t acc) {
    return acc + w[0] * x[0] + w[2] * x[1] + w[1] * x[2] + w[3] * x[3];
}

static inline void dot_2x2(const int8_t *w, const int16_t *x, const int16_t *y, int32_t acc[4]) {
    acc[0] = dot_1x1(w, x, acc[0]);
    acc[1] = dot_1x1(w, y, acc[1]);
    acc[2] = dot_1x1(w + 4, x, acc[2]);
    acc[3] = dot_1x1(w + 4, y, acc[3]);
}

static inline void dot_4x1(const int8_t *w, const int16_t *x, int32_t acc[4]) {
    for (int i = 0; i < 4; i++) {
        acc[i] = dot_1x1(w + 4 * i, x, acc[i]);
    }
}

#endif

static inline uint32_t chunk_of(uint32_t left) {
    return left < EQ_CHUNK ? left : EQ_CHUNK;
}

/* Two channels of a block of four times two pixels over one chunk. A function of its own: its loop needs every register. */
static EQ_NOINLINE void chunk_2x2(const int8_t *w, const int16_t *x, const int16_t *y, uint32_t count,
                                  int64_t sums[4]) {
    int32_t acc[4] = {0, 0, 0, 0};
    for (const int16_t *const end = x + (count & ~7u); x != end; x += 8, y += 8, w += 32) {
        dot_2x2(w, x, y, acc);
        dot_2x2(w + 16, x + 4, y + 4, acc);
    }
    if ((count & 4u) != 0) {
        dot_2x2(w, x, y, acc);
    }
    sums[0] = eq_sum_s16(sums[0], acc[0]);
    sums[1] = eq_sum_s16(sums[1], acc[1]);
    sums[2] = eq_sum_s16(sums[2], acc[2]);
    sums[3] = eq_sum_s16(sums[3], acc[3]);
}

/* Channels 0 and 1 of a block of four from `w` on, times two pixels; depth4 values of the second follow the first's. */
static inline void sums_2x2(const int8_t *w, const int16_t *x, uint32_t depth4, int64_t sums[4]) {
    for (uint32_t left = depth4, now = 0; left != 0; left -= now, x += now, w += 4 * now) {
        now = chunk_of(left);
        chunk_2x2(w, x, x + depth4, now, sums);
    }
}

static inline void sums_4x1(const int8_t *w, const int16_t *x, uint32_t depth4, int64_t sums[4]) {
    for (uint32_t left = depth4, now = 0; left != 0; left -= now) {
        int32_t acc[4] = {0, 0, 0, 0};
        now = chunk_of(left);
        for (const int16_t *const end = x + now; x != end; x += 4, w += 16) {
            dot_4x1(w, x, acc);
        }
        for (int i = 0; i < 4; i++) {
            sums[i] = eq_sum_s16(sums[i], acc[i]);
        }
    }
}

/* One channel of the rest. */
static int64_t sum_1x1(const int8_t *w, const int16_t *x, uint32_t depth4, int64_t sum) {
    for (uint32_t left = depth4, now = 0; left != 0; left -= now) {
        int32_t acc = 0;
        now = chunk_of(left);
        for (const int16_t *const end = x + now; x != end; x += 4, w += 4) {
            acc = dot_1x1(w, x, acc);
        }
        sum = eq_sum_s16(sum, acc);
    }
    return sum;
}

static inline int16_t finished(int64_t sum, int32_t multiplier, int32_t shift, const eq_output_s8 *out) {
    return (int16_t)eq_clamp(eq_finish_s16(sum, multiplier, shift), out->act_min, out->act_max);
}

void eq_multiply_two_s16(const eq_matrix_s16 *m, const int16_t *row, int16_t *output0, int16_t *output1) {
    const int8_t *weights = m->weights, *shift = m->right_shift;
    const int32_t *multiplier = m->multiplier;
    const eq_output_s8 out = *m->out;
    const uint32_t depth4 = m->depth4, rows = m->rows, step = out.step;
    for (uint32_t c = 0; c + 2 <= (rows & ~3u); c += 2) {
        int64_t sums[4] = {m->bias[c], m->bias[c], m->bias[c + 1], m->bias[c + 1]};
        sums_2x2(weights, row, depth4, sums);
        output0[c] = finished(sums[0], *multiplier, *shift, &out);
        output1[c] = finished(sums[1], *multiplier, *shift, &out);
        output0[c + 1] = finished(sums[2], multiplier[step], shift[step], &out);
        output1[c + 1] = finished(sums[3], multiplier[step], shift[step], &out);
        multiplier += 2 * step;
        shift += 2 * step;
        weights = (c & 2u) == 0 ? weights + 8 : weights + 4 * depth4 - 8;
    }
    for (uint32_t c = rows & ~3u; c < rows; c++) {
        output0[c] = finished(sum_1x1(weights, row, depth4, m->bias[c]), *multiplier, *shift, &out);
        output1[c] = finished(sum_1x1(weights, row + depth4, depth4, m->bias[c]), *multiplier, *shift, &out);
        multiplier += step;
        shift += step;
        weights += depth4;
    }
}

void eq_multiply_s16(const eq_matrix_s16 *m, const int16_t *row, int16_t *output) {
    const int8_t *weights = m->weights, *shift = m->right_shift;
    const int32_t *multiplier = m->multiplier;
    const eq_output_s8 out = *m->out;
    const uint32_t depth4 = m->depth4, rows = m->rows, step = out.step;
    for (uint32_t c = 0; c < (rows & ~3u); c += 4) {
        int64_t sums[4] = {m->bias[c], m->bias[c + 1], m->bias[c + 2], m->bias[c + 3]};
        sums_4x1(weights, row, depth4, sums);
        for (uint32_t i = 0; i < 4; i++) {
            output[c + i] = finished(sums[i], *multiplier, *shift, &out);
            multiplier += step;
            shift += step;
        }
        weights += 4 * depth4;
    }
    for (uint32_t c = rows & ~3u; c < rows; c++) {
        output[c] = finished(sum_1x1(weights, row, depth4, m->bias[c]), *multiplier, *shift, &out);
        multiplier += step;
        shift += step;
        weights += depth4;
    }
}
