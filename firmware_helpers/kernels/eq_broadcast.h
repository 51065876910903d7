/* Walks two operands and an output, one inner run at a time. Included by the kernels of two operands. */
#ifndef EQ_BROADCAST_H
#define EQ_BROADCAST_H

#include "eq_common.h"

/* One run along the innermost axis. */
typedef void eq_run(const void *params, const int8_t *a, const int8_t *b, int8_t *output, uint32_t count,
                    uint32_t step_a, uint32_t step_b);

void eq_each_run(const eq_broadcast *s, const int8_t *a, const int8_t *b, int8_t *output, eq_run *run,
                 const void *params);

#endif
