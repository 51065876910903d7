/* Stand-ins for the DSP instructions, so that the DSP paths run and are tested on any host. */
#ifndef EQ_EMULATE_DSP_H
#define EQ_EMULATE_DSP_H

#include <stdint.h>

static inline int32_t eq_emulate_half(int32_t x, int high) {
    return (int16_t)(uint16_t)((uint32_t)x >> (high ? 16 : 0));
}

static inline int32_t eq_emulate_pair(int32_t low, int32_t high) {
    return (int32_t)(((uint32_t)low & 0xffffu) | ((uint32_t)high << 16));
}

static inline int32_t eq_emulate_byte(int32_t x, int number) {
    return (int8_t)(uint8_t)((uint32_t)x >> (8 * number));
}

static inline int32_t eq_sxtb16(int32_t x) {
    return eq_emulate_pair(eq_emulate_byte(x, 0), eq_emulate_byte(x, 2));
}

static inline int32_t eq_sxtb16_odd(int32_t x) {
    return eq_emulate_pair(eq_emulate_byte(x, 1), eq_emulate_byte(x, 3));
}

static inline int32_t eq_sxtab16(int32_t to, int32_t x) {
    return eq_emulate_pair(eq_emulate_half(to, 0) + eq_emulate_byte(x, 0),
                           eq_emulate_half(to, 1) + eq_emulate_byte(x, 2));
}

static inline int32_t eq_sxtab16_odd(int32_t to, int32_t x) {
    return eq_emulate_pair(eq_emulate_half(to, 0) + eq_emulate_byte(x, 1),
                           eq_emulate_half(to, 1) + eq_emulate_byte(x, 3));
}

/* Accumulators wrap, as the instructions' do. */
static inline int32_t eq_emulate_add(int32_t acc, int64_t term) {
    return (int32_t)(uint32_t)((uint64_t)(int64_t)acc + (uint64_t)term);
}

static inline int32_t eq_smlad(int32_t a, int32_t b, int32_t acc) {
    return eq_emulate_add(acc, (int64_t)eq_emulate_half(a, 0) * eq_emulate_half(b, 0) +
                                   (int64_t)eq_emulate_half(a, 1) * eq_emulate_half(b, 1));
}

static inline int32_t eq_smlabb(int32_t a, int32_t b, int32_t acc) {
    return eq_emulate_add(acc, (int64_t)eq_emulate_half(a, 0) * eq_emulate_half(b, 0));
}

static inline int32_t eq_smlatt(int32_t a, int32_t b, int32_t acc) {
    return eq_emulate_add(acc, (int64_t)eq_emulate_half(a, 1) * eq_emulate_half(b, 1));
}

static inline int32_t eq_smmulr(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
}

static inline int32_t eq_ssat8(int32_t x) {
    return x < -128 ? -128 : x > 127 ? 127 : x;
}

#endif
