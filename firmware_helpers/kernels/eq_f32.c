/* QUANTIZE from, and DEQUANTIZE to, IEEE 754 binary32, by its bits: the core needs no unit for such numbers. */
#include "eq_common.h"

/* x / scale as the division of two binary32 numbers rounds it, then to whole numbers, halves away from zero; at most
 * 2^17 in size, NaN is 0. */
static int32_t quotient(const eq_f32_params *p, uint32_t bits) {
    const int32_t biased = (int32_t)(bits >> 23 & 0xffu), power = biased - 150 - p->exponent;
    const uint32_t fraction = bits & 0x7fffffu;
    uint32_t whole = 0;
    if (biased == 255 ? fraction == 0 : power > 17) {
        whole = (uint32_t)1 << 17;
    } else if (biased != 255 && power >= -2) {
        const uint64_t dividend = (uint64_t)(fraction | 0x800000u) << 25;
        const uint32_t ratio = (uint32_t)(dividend / p->mantissa); /* 2^24 to 2^26, times 2^(power - 25) */
        const uint32_t drop = ratio >= (uint32_t)1 << 25 ? 2 : 1, half = drop, shift = (uint32_t)(25 - power) - drop;
        const uint32_t low = ratio & (2 * half - 1), odd = ratio >> drop & 1u;
        const uint32_t is_more = odd | (dividend % p->mantissa != 0 ? 1u : 0u);
        const uint32_t nearest = (ratio >> drop) + (low > half || (low == half && is_more != 0) ? 1u : 0u);
        whole = (nearest + ((uint32_t)1 << (shift - 1))) >> shift;
    }
    return bits >> 31 != 0 ? -(int32_t)whole : (int32_t)whole;
}

EQ_INLINE void quantize(const eq_f32_params *p, const uint8_t *input, void *output, size_t count, int is_wide) {
    const int32_t low = is_wide != 0 ? INT16_MIN : INT8_MIN;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        EQ_COPY(&bits, input + (size_t)4 * i, sizeof bits);
        eq_put(output, i, eq_clamp(quotient(p, bits) + p->zero_point, low, -1 - low), is_wide);
    }
}

void eq_quantize_f32_s8(const eq_f32_params *p, const void *input, int8_t *output, size_t count) {
    quantize(p, input, output, count, 0);
}

void eq_quantize_f32_s16(const eq_f32_params *p, const void *input, int16_t *output, size_t count) {
    quantize(p, input, output, count, 1);
}

/* value * scale, rounded to the nearest, ties to even. */
static uint32_t product(const eq_f32_params *p, int32_t value) {
    const uint64_t exact = (uint64_t)p->mantissa * (uint32_t)(value < 0 ? -value : value);
    if (value == 0) {
        return 0;
    }
    uint32_t shift = 0;
    while (exact >> shift > 0xffffffu) {
        shift++;
    }
    uint32_t kept = (uint32_t)(exact >> shift);
    const uint64_t rest = exact - ((uint64_t)kept << shift), half = shift == 0 ? 1 : (uint64_t)1 << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1u) != 0) ? 1u : 0u;
    /* 2^24 carries into the exponent, as it should. */
    const uint32_t biased = (uint32_t)(p->exponent + (int32_t)shift + 150) - 1u;
    return (biased << 23) + kept + (value < 0 ? 0x80000000u : 0u);
}

void eq_dequantize_s16_f32(const eq_f32_params *p, const int16_t *input, void *output, size_t count) {
    uint8_t *to = output;
    for (; count != 0; count--, to += 4) {
        const uint32_t bits = product(p, *input++ - p->zero_point);
        EQ_COPY(to, &bits, sizeof bits);
    }
}
