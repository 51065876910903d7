/* SOFTMAX in fixed point, as gemmlowp's exponential and reciprocal compute it. */
#include "eq_common.h"

#define EQ_SCALED_INTEGER_BITS 5
#define EQ_SUM_INTEGER_BITS 12

/* Fractions of one (Q0.31). */
static int32_t product(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* exp(a) for a in [-1/4, 0), both Q0.31: a polynomial around -1/8. */
static int32_t exp_of_quarter(int32_t a) {
    const int32_t at = 1895147668, third = 715827883; /* exp(-1/8), 1/3 */
    const int32_t x = a + (1 << 28);
    const int32_t x2 = product(x, x), x3 = product(x2, x), x4 = product(x2, x2);
    const int32_t tail = eq_round_shift(product(eq_round_shift(x4, 2) + x3, third) + x2, 1);
    return at + product(at, x + tail);
}

/* exp(a) for a <= 0 in Q5.26, as Q0.31. */
static int32_t exp_of_negative(int32_t a) {
    static const int32_t factors[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t fraction_bits = 31 - EQ_SCALED_INTEGER_BITS;
    const int32_t quarter = 1 << (fraction_bits - 2);
    const int32_t rest = (a & (quarter - 1)) - quarter;
    int32_t result = exp_of_quarter(rest * (1 << EQ_SCALED_INTEGER_BITS));
    const uint32_t whole = (uint32_t)(rest - a);
    for (int i = 0; i < 7; i++) {
        if ((whole >> (fraction_bits - 2 + i) & 1u) != 0) {
            result = product(result, factors[i]);
        }
    }
    return a == 0 ? INT32_MAX : result;
}

/* x * 2^shift, saturating. */
static int32_t saturating_left(int32_t x, int shift) {
    const int64_t wide = (int64_t)x * ((int64_t)1 << shift);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* 1 / (1 + a) for a in [0, 1), Q0.31: three Newton steps from 48/17 - 32/17 d. */
static int32_t one_over_one_plus(int32_t a) {
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    const int32_t first = 1515870810, slope = -1010580540; /* 48/17 and -32/17 in Q2.29 */
    int32_t x = first + product(half, slope);
    for (int i = 0; i < 3; i++) {
        const int32_t error = (1 << 29) - product(half, x);
        x += saturating_left(product(x, error), 2);
    }
    return saturating_left(x, 1);
}

static void softmax_row(const eq_softmax_params *p, const int8_t *input, int8_t *output) {
    int32_t largest = INT8_MIN, sum = 0;
    for (uint32_t c = 0; c < p->depth; c++) {
        largest = input[c] > largest ? input[c] : largest;
    }
    for (uint32_t c = 0; c < p->depth; c++) {
        const int32_t diff = input[c] - largest;
        if (diff >= p->diff_min) {
            const int32_t scaled = eq_high_multiply(eq_shift_left(diff, p->left_shift), p->multiplier);
            sum += eq_round_shift(exp_of_negative(scaled), EQ_SUM_INTEGER_BITS);
        }
    }
    const int32_t zeros = eq_leading_zeros((uint32_t)sum);
    const int32_t reciprocal = one_over_one_plus((int32_t)(((uint32_t)sum << zeros) - 0x80000000u));
    const int32_t exponent = EQ_SUM_INTEGER_BITS - zeros + 31 - 8;
    for (uint32_t c = 0; c < p->depth; c++) {
        const int32_t diff = input[c] - largest;
        int32_t value = INT8_MIN;
        if (diff >= p->diff_min) {
            const int32_t scaled = eq_high_multiply(eq_shift_left(diff, p->left_shift), p->multiplier);
            value += eq_round_shift(product(reciprocal, exp_of_negative(scaled)), exponent);
        }
        output[c] = (int8_t)eq_clamp(value, INT8_MIN, INT8_MAX);
    }
}

void eq_softmax_s8(const eq_softmax_params *p, const int8_t *input, int8_t *output) {
    for (uint32_t row = 0; row < p->rows; row++) {
        softmax_row(p, input, output);
        input += p->depth;
        output += p->depth;
    }
}
