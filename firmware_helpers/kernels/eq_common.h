/* What the kernels share: wide loads, DSP instructions or their stand-ins, rounding. Not for generated code. */
#ifndef EQ_COMMON_H
#define EQ_COMMON_H

#include <stdint.h>
#include <string.h>

#include "eq_kernels.h"

#if defined(EQ_EMULATE_DSP)
#define EQ_DSP 1
#include "eq_emulate_dsp.h"
#elif defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#define EQ_DSP 1
#include "eq_dsp.h"
#else
#define EQ_DSP 0
#endif

/* Copies a few bytes: the builtin stays one load or store where -ffreestanding makes memcpy a call. */
#if defined(__GNUC__) || defined(__clang__)
#define EQ_COPY(to, from, bytes) __builtin_memcpy((to), (from), (bytes))
#else
#define EQ_COPY(to, from, bytes) memcpy((to), (from), (bytes))
#endif

/* Keeps a rare path out of a hot function's registers. */
#if defined(__GNUC__) || defined(__clang__)
#define EQ_NOINLINE __attribute__((noinline))
#else
#define EQ_NOINLINE
#endif

/* Kernels of two widths are one function with a constant `is_wide` (int16 or int8), which must be inlined to be two. */
#if defined(__GNUC__) || defined(__clang__)
#define EQ_INLINE static inline __attribute__((always_inline))
#else
#define EQ_INLINE static inline
#endif

/* Value `index` of a tensor. */
EQ_INLINE int32_t eq_get(const void *values, uint32_t index, int is_wide) {
    return is_wide != 0 ? ((const int16_t *)values)[index] : ((const int8_t *)values)[index];
}

EQ_INLINE void eq_put(void *values, uint32_t index, int32_t value, int is_wide) {
    if (is_wide != 0) {
        ((int16_t *)values)[index] = (int16_t)value;
    } else {
        ((int8_t *)values)[index] = (int8_t)value;
    }
}

/* Four bytes from any address. */
static inline int32_t eq_load4(const int8_t *from) {
    int32_t word;
    EQ_COPY(&word, from, sizeof word);
    return word;
}

/* The same 16-bit value in both halves of a word. */
static inline int32_t eq_pair(int32_t value) {
    return (int32_t)(((uint32_t)value & 0xffffu) | ((uint32_t)value << 16));
}

/* round(x * m / 2^31), ties up: what gemmlowp's rounding doubling high multiply amounts to for m >= 0. */
static inline int32_t eq_high_multiply(int32_t x, int32_t m) {
    return (int32_t)(((int64_t)x * m + ((int64_t)1 << 30)) >> 31);
}

/* round(x * m / 2^31) / 2^shift, rounded twice, for |x| < 2^30 and shift 0..31: one spare bit makes an instruction of the
 * product, and rounds halves away from zero without looking at a remainder. */
static inline int32_t eq_rescale_narrow(int32_t x, int32_t m, int32_t shift) {
#if EQ_DSP
    const int32_t y = eq_smmulr(x * 2, m);
#else
    const int32_t y = eq_high_multiply(x, m);
#endif
    return (((y * 2 + (y >> 31)) >> shift) + 1) >> 1;
}

/* y / 2^shift, ties away from zero; shift 0..31. */
static inline int32_t eq_round_shift(int32_t y, int32_t shift) {
    const uint32_t mask = ((uint32_t)1 << shift) - 1u;
    const uint32_t threshold = (mask >> 1) + ((uint32_t)y >> 31);
    return (y >> shift) + (((uint32_t)y & mask) > threshold ? 1 : 0);
}

/* Shifts that may leave the range wrap, as the reference's do on every machine that it runs on. */
static inline int32_t eq_shift_left(int32_t x, int32_t shift) {
    return (int32_t)((uint32_t)x << shift);
}

/* x * multiplier * 2^(-31 - right_shift), rounded twice. */
static inline int32_t eq_rescale(int32_t x, int32_t multiplier, int32_t right_shift) {
    if (right_shift < 0) {
        return eq_high_multiply(eq_shift_left(x, -right_shift), multiplier);
    }
    return eq_round_shift(eq_high_multiply(x, multiplier), right_shift);
}

static inline int32_t eq_clamp(int32_t x, int32_t low, int32_t high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* An accumulator of a conv, depthwise or dense layer, rescaled and offset: the hot form of eq_rescale. */
static inline int32_t eq_finish(int32_t acc, int32_t multiplier, int32_t right_shift, int32_t offset) {
#ifdef EQ_NARROW_ACCUMULATORS
    return eq_rescale_narrow(acc, multiplier, right_shift) + offset;
#else
    return eq_rescale(acc, multiplier, right_shift) + offset;
#endif
}

/* Clamps `count` finished values (a constant) and writes them; the full range needs one instruction each. */
static inline void eq_store(const int32_t *values, int count, int32_t low, int32_t high, int8_t *to) {
#if EQ_DSP
    if (high - low == 255) {
        for (int i = 0; i < count; i++) {
            to[i] = (int8_t)eq_ssat8(values[i]);
        }
        return;
    }
#endif
    for (int i = 0; i < count; i++) {
        to[i] = (int8_t)eq_clamp(values[i], low, high);
    }
}

/* a + b, which wraps where a bias is at the end of 64 bits. */
static inline int64_t eq_sum_s16(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* The same for shifts of 32 and more, which tiny multipliers have. */
static EQ_NOINLINE int32_t eq_finish_far(uint64_t product, int32_t shift) {
    return (int32_t)(uint32_t)((product + ((uint64_t)1 << (shift - 1))) >> 32) >> (shift - 32);
}

/* acc * multiplier * 2^-shift of a 64-bit accumulator, halves up, before the clamp; shift 8..46. What the reference lets
 * overflow, wraps here too. The usual shifts are taken out of two words by hand: it is a third of what a shift of 64 bits
 * by a variable costs on a 32-bit core. */
static inline int32_t eq_finish_s16(int64_t acc, int32_t multiplier, int32_t shift) {
    uint64_t product = (uint64_t)acc * (uint32_t)multiplier;
    if (shift < 32) {
        product += (uint32_t)1 << (shift - 1);
        return (int32_t)(((uint32_t)product >> shift) | ((uint32_t)(product >> 32) << (32 - shift)));
    }
    return eq_finish_far(product, shift);
}

/* Room for `depth` values of one pixel, in whole groups of four. */
static inline uint32_t eq_depth4(uint32_t depth) {
    return (depth + 3u) & ~3u;
}

/* A scratch row holds one or two pixels as 16-bit values with the input's offset added: groups of four values of depth,
 * those of the second pixel after those of the first. `pixels` 1 or 2; to the second pixel points row + 2.
 *
 * Writes `count` values of one pixel from `position` of its depth on, a multiple of 4; a last group that is not whole is
 * filled up, its weights are zeros. From NULL zeros. */
void eq_widen(int32_t *row, uint32_t pixels, uint32_t position, const int8_t *from, uint32_t count, int32_t offset);

/* How many zeros lead a positive number. */
static inline int32_t eq_leading_zeros(uint32_t x) {
    int32_t count = 0;
    for (; x < 0x80000000u; x <<= 1) {
        count++;
    }
    return count;
}

/* Part of a window's row inside an image of `in_w` columns: `before` columns lie left of it, then come those inside. */
static inline uint32_t eq_inside_of(int32_t x, int32_t width, int32_t in_w, uint32_t *before) {
    const int32_t left = x < 0 ? (-x < width ? -x : width) : 0;
    const int32_t end = x + width > in_w ? (in_w > x ? in_w - x : 0) : width;
    *before = (uint32_t)left;
    return end > left ? (uint32_t)(end - left) : 0;
}

/* The rows of a weight matrix times a scratch row of one or two pixels, through to the outputs. */
typedef struct {
    const int8_t *weights;
    const int32_t *bias;
    const int32_t *multiplier;
    const int8_t *right_shift;
    const eq_output_s8 *out;
    uint32_t rows, depth4;
} eq_matrix;

/* One row of weights (depth4 bytes) times a scratch row of one pixel, added to acc. */
int32_t eq_dot_s8(const int8_t *weights, const int32_t *row, uint32_t depth4, int32_t acc);

/* The same for int16: `row` holds depth4 values as they are, those of a second pixel after those of the first. */
typedef struct {
    const int8_t *weights;
    const int64_t *bias;
    const int32_t *multiplier;
    const int8_t *right_shift;
    const eq_output_s8 *out;
    uint32_t rows, depth4;
} eq_matrix_s16;

void eq_multiply_s16(const eq_matrix_s16 *m, const int16_t *row, int16_t *output);
void eq_multiply_two_s16(const eq_matrix_s16 *m, const int16_t *row, int16_t *output0, int16_t *output1);

void eq_multiply_s8(const eq_matrix *m, const int32_t *row, int8_t *output);
void eq_multiply_two_s8(const eq_matrix *m, const int32_t *row, int8_t *output0, int8_t *output1);

#endif
