/* Walks two operands and an output, one inner run at a time. Included by the kernels of two operands. */
#ifndef EQ_BROADCAST_H
#define EQ_BROADCAST_H

#include "eq_common.h"

/* One run along the innermost axis; steps in elements. */
typedef void eq_run(const void *params, const void *a, const void *b, void *output, uint32_t count, uint32_t step_a,
                    uint32_t step_b);

/* `size` is bytes of an element. */
void eq_each_run(const eq_broadcast *s, uint32_t size, const void *a, const void *b, void *output, eq_run *run,
                 const void *params);

#endif
