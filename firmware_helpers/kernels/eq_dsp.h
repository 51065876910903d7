/* The DSP extension's instructions (Armv7E-M, Armv8-M with DSP).
 *
 * Inline assembly where compilers do not merge the rotation into the instruction, and to need no vendor's header. */
#ifndef EQ_DSP_H
#define EQ_DSP_H

#include <stdint.h>

/* Bytes 0 and 2, sign extended to 16 bits. */
static inline int32_t eq_sxtb16(int32_t x) {
    int32_t out;
    __asm__("sxtb16 %0, %1" : "=r"(out) : "r"(x));
    return out;
}

/* Bytes 1 and 3. */
static inline int32_t eq_sxtb16_odd(int32_t x) {
    int32_t out;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(out) : "r"(x));
    return out;
}

/* Bytes 0 and 2 plus the two 16-bit halves of `to`. */
static inline int32_t eq_sxtab16(int32_t to, int32_t x) {
    int32_t out;
    __asm__("sxtab16 %0, %1, %2" : "=r"(out) : "r"(to), "r"(x));
    return out;
}

static inline int32_t eq_sxtab16_odd(int32_t to, int32_t x) {
    int32_t out;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(out) : "r"(to), "r"(x));
    return out;
}

/* acc + low * low + high * high. */
static inline int32_t eq_smlad(int32_t a, int32_t b, int32_t acc) {
    int32_t out;
    __asm__("smlad %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(acc));
    return out;
}

/* acc + low * low. */
static inline int32_t eq_smlabb(int32_t a, int32_t b, int32_t acc) {
    int32_t out;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(acc));
    return out;
}

/* acc + high * high. */
static inline int32_t eq_smlatt(int32_t a, int32_t b, int32_t acc) {
    int32_t out;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(acc));
    return out;
}

/* (a * b + 2^31) >> 32. */
static inline int32_t eq_smmulr(int32_t a, int32_t b) {
    int32_t out;
    __asm__("smmulr %0, %1, %2" : "=r"(out) : "r"(a), "r"(b));
    return out;
}

/* Clamped to -128..127. */
static inline int32_t eq_ssat8(int32_t x) {
    int32_t out;
    __asm__("ssat %0, #8, %1" : "=r"(out) : "r"(x));
    return out;
}

#endif
