/* The outer axes of a broadcast. */
#include "eq_broadcast.h"

void eq_each_run(const eq_broadcast *s, uint32_t size, const void *a, const void *b, void *output, eq_run *run,
                 const void *params) {
    uint32_t at[4] = {0, 0, 0, 0};
    const uint32_t count = s->dims[0] * s->dims[1] * s->dims[2] * s->dims[3];
    uint8_t *to = output;
    for (uint32_t done = 0; done < count; done++) {
        uint32_t from_a = 0, from_b = 0;
        for (int i = 0; i < 4; i++) {
            from_a += at[i] * s->stride_a[i];
            from_b += at[i] * s->stride_b[i];
        }
        run(params, (const uint8_t *)a + from_a * size, (const uint8_t *)b + from_b * size, to, s->dims[4],
            s->stride_a[4], s->stride_b[4]);
        to += s->dims[4] * size;
        for (int i = 3; i >= 0 && ++at[i] == s->dims[i]; i--) {
            at[i] = 0;
        }
    }
}
