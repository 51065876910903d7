/* MAXIMUM and MINIMUM of either width. Not for generated code. */
#ifndef EQ_MAXIMUM_MINIMUM_H
#define EQ_MAXIMUM_MINIMUM_H

#include "eq_broadcast.h"

/* `sign` 1 keeps the larger, -1 the smaller. */
EQ_INLINE void keep(const void *a, const void *b, void *output, uint32_t count, const uint32_t steps[2], int sign,
                    int is_wide) {
    for (uint32_t i = 0; i < count; i++) {
        const int32_t x = eq_get(a, i * steps[0], is_wide), y = eq_get(b, i * steps[1], is_wide);
        eq_put(output, i, (sign > 0 ? x > y : x < y) ? x : y, is_wide);
    }
}

#define EQ_EXTREME_RUN(name, sign, is_wide)                                                                            \
    static void name(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,  \
                     uint32_t step_b) {                                                                                \
        const uint32_t steps[2] = {step_a, step_b};                                                                    \
        (void)params;                                                                                                  \
        keep(a, b, output, count, steps, sign, is_wide);                                                               \
    }

#endif
