/* Weight rows times widened pixels: the inner loop of CONV_2D and FULLY_CONNECTED. */
#include "eq_common.h"

#if EQ_DSP

/* Four values of depth are two words, (0, 2) and (1, 3): as SXTB16 takes bytes apart. */
static inline void put_group(int32_t *to, const int8_t *from, int32_t both) {
    const int32_t word = eq_load4(from);
    to[0] = eq_sxtab16(both, word);
    to[1] = eq_sxtab16_odd(both, word);
}

typedef int32_t row_t;
#define EQ_ROW(row) (row)
#define EQ_GROUP 2
#define EQ_OFFSET(offset) eq_pair(offset)

/* acc += four products. */
static inline int32_t dot4(const int8_t *w, int32_t even, int32_t odd, int32_t acc) {
    const int32_t word = eq_load4(w);
    return eq_smlad(eq_sxtb16_odd(word), odd, eq_smlad(eq_sxtb16(word), even, acc));
}

static inline void dot_2x2(const int8_t *w, const row_t *x, int32_t acc[4]) {
    const int32_t word0 = eq_load4(w), word1 = eq_load4(w + 4);
    const int32_t even0 = eq_sxtb16(word0), even1 = eq_sxtb16(word1);
    acc[0] = eq_smlad(even0, x[0], acc[0]);
    acc[1] = eq_smlad(even0, x[2], acc[1]);
    acc[2] = eq_smlad(even1, x[0], acc[2]);
    acc[3] = eq_smlad(even1, x[2], acc[3]);
    const int32_t odd0 = eq_sxtb16_odd(word0), odd1 = eq_sxtb16_odd(word1);
    acc[0] = eq_smlad(odd0, x[1], acc[0]);
    acc[1] = eq_smlad(odd0, x[3], acc[1]);
    acc[2] = eq_smlad(odd1, x[1], acc[2]);
    acc[3] = eq_smlad(odd1, x[3], acc[3]);
}

static inline void dot_4x1(const int8_t *w, const row_t *x, int32_t acc[4]) {
    const int32_t even = x[0], odd = x[1];
    acc[0] = dot4(w, even, odd, acc[0]);
    acc[1] = dot4(w + 4, even, odd, acc[1]);
    acc[2] = dot4(w + 8, even, odd, acc[2]);
    acc[3] = dot4(w + 12, even, odd, acc[3]);
}

static inline int32_t dot_1x1(const int8_t *w, const row_t *x, int32_t acc) {
    return dot4(w, x[0], x[1], acc);
}

#else /* no DSP: 16-bit values in natural order */

static inline void put_group(int32_t *to, const int8_t *from, int32_t offset) {
    int16_t *values = (int16_t *)(void *)to;
    for (int k = 0; k < 4; k++) {
        values[k] = (int16_t)(from[k] + offset);
    }
}

typedef int16_t row_t;
#define EQ_ROW(row) ((const int16_t *)(const void *)(row))
#define EQ_GROUP 4
#define EQ_OFFSET(offset) (offset)

static inline void dot_2x2(const int8_t *w, const row_t *x, int32_t acc[4]) {
    for (int k = 0; k < 4; k++) {
        acc[0] += w[k] * x[k];
        acc[1] += w[k] * x[k + 4];
        acc[2] += w[k + 4] * x[k];
        acc[3] += w[k + 4] * x[k + 4];
    }
}

static inline void dot_4x1(const int8_t *w, const row_t *x, int32_t acc[4]) {
    for (int k = 0; k < 4; k++) {
        acc[0] += w[k] * x[k];
        acc[1] += w[k + 4] * x[k];
        acc[2] += w[k + 8] * x[k];
        acc[3] += w[k + 12] * x[k];
    }
}

static inline int32_t dot_1x1(const int8_t *w, const row_t *x, int32_t acc) {
    for (int k = 0; k < 4; k++) {
        acc += w[k] * x[k];
    }
    return acc;
}

#endif

void eq_widen(int32_t *row, uint32_t pixels, uint32_t position, const int8_t *from, uint32_t count, int32_t offset) {
    const int32_t added = EQ_OFFSET(offset);
    const uint32_t step = 2 * pixels, rest = count & 3u;
    int32_t *to = row + position / 2 * pixels;
    if (from == NULL) {
        for (uint32_t n = (count + 3) / 4; n != 0; n--, to += step) {
            to[0] = 0;
            to[1] = 0;
        }
        return;
    }
    for (uint32_t n = count / 4; n != 0; n--, to += step, from += 4) {
        put_group(to, from, added);
    }
    if (rest != 0) {
        const int8_t last[4] = {from[0], rest > 1 ? from[1] : 0, rest > 2 ? from[2] : 0, 0};
        put_group(to, last, added);
    }
}

/* One channel of the rest, for the pixel that x points to; `step` from group to group. */
static int32_t rest(const int8_t *w, const row_t *x, uint32_t step, uint32_t depth4, int32_t acc) {
    for (const int8_t *end = w + depth4; w != end; w += 4, x += step) {
        acc = dot_1x1(w, x, acc);
    }
    return acc;
}

int32_t eq_dot_s8(const int8_t *weights, const int32_t *row, uint32_t depth4, int32_t acc) {
    return rest(weights, EQ_ROW(row), EQ_GROUP, depth4, acc);
}

/* Everything that the loops write through `output` could not change is in locals. */
void eq_multiply_two_s8(const eq_matrix *m, const int32_t *row, int8_t *output0, int8_t *output1) {
    const row_t *const x0 = EQ_ROW(row);
    const int32_t *bias = m->bias, *multiplier = m->multiplier;
    const int8_t *right_shift = m->right_shift, *weights = m->weights;
    const eq_output_s8 out = *m->out;
    const uint32_t depth4 = m->depth4, rows = m->rows;
    for (uint32_t c = 0; c + 2 <= (rows & ~3u); c += 2) {
        const int8_t *w = weights;
        const row_t *x = x0, *const end = x0 + depth4 / 8 * 4 * EQ_GROUP;
        int32_t acc[4] = {bias[0], bias[0], bias[1], bias[1]};
        for (; x != end; x += 4 * EQ_GROUP, w += 32) {
            dot_2x2(w, x, acc);
            dot_2x2(w + 16, x + 2 * EQ_GROUP, acc);
        }
        if ((depth4 & 4u) != 0) {
            dot_2x2(w, x, acc);
        }
        const int32_t m0 = *multiplier, s0 = *right_shift;
        multiplier += out.step;
        right_shift += out.step;
        const int32_t m1 = *multiplier, s1 = *right_shift;
        multiplier += out.step;
        right_shift += out.step;
        const int32_t first[2] = {eq_finish(acc[0], m0, s0, out.offset), eq_finish(acc[2], m1, s1, out.offset)};
        const int32_t second[2] = {eq_finish(acc[1], m0, s0, out.offset), eq_finish(acc[3], m1, s1, out.offset)};
        eq_store(first, 2, out.act_min, out.act_max, output0 + c);
        eq_store(second, 2, out.act_min, out.act_max, output1 + c);
        bias += 2;
        weights = (c & 2u) == 0 ? weights + 8 : weights + 4 * depth4 - 8;
    }
    for (uint32_t c = rows & ~3u; c < rows; c++) {
        const int32_t a = rest(weights, x0, 2 * EQ_GROUP, depth4, *bias);
        const int32_t b = rest(weights, x0 + EQ_GROUP, 2 * EQ_GROUP, depth4, *bias);
        const int32_t ends[2] = {eq_finish(a, *multiplier, *right_shift, out.offset),
                                 eq_finish(b, *multiplier, *right_shift, out.offset)};
        eq_store(ends, 1, out.act_min, out.act_max, output0 + c);
        eq_store(ends + 1, 1, out.act_min, out.act_max, output1 + c);
        bias++;
        multiplier += out.step;
        right_shift += out.step;
        weights += depth4;
    }
}

void eq_multiply_s8(const eq_matrix *m, const int32_t *row, int8_t *output) {
    const row_t *const x0 = EQ_ROW(row);
    const int32_t *bias = m->bias, *multiplier = m->multiplier;
    const int8_t *right_shift = m->right_shift, *weights = m->weights;
    const eq_output_s8 out = *m->out;
    const uint32_t depth4 = m->depth4, rows = m->rows;
    for (uint32_t c = 0; c < (rows & ~3u); c += 4) {
        const row_t *x = x0;
        int32_t acc[4] = {bias[0], bias[1], bias[2], bias[3]};
        for (const int8_t *end = weights + 4 * depth4; weights != end; weights += 16, x += EQ_GROUP) {
            dot_4x1(weights, x, acc);
        }
        for (uint32_t i = 0; i < 4; i++) {
            acc[i] = eq_finish(acc[i], *multiplier, *right_shift, out.offset);
            multiplier += out.step;
            right_shift += out.step;
        }
        eq_store(acc, 4, out.act_min, out.act_max, output + c);
        bias += 4;
    }
    for (uint32_t c = rows & ~3u; c < rows; c++) {
        const int32_t end = eq_finish(rest(weights, x0, EQ_GROUP, depth4, *bias), *multiplier, *right_shift,
                                      out.offset);
        eq_store(&end, 1, out.act_min, out.act_max, output + c);
        bias++;
        multiplier += out.step;
        right_shift += out.step;
        weights += depth4;
    }
}
