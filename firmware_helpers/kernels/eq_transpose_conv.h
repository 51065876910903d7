/* What TRANSPOSE_CONV of either width shares. Not for generated code. */
#ifndef EQ_TRANSPOSE_CONV_H
#define EQ_TRANSPOSE_CONV_H

#include "eq_common.h"

/* The input coordinate that reaches output `at` through tap k, or -1. */
static inline int32_t eq_source(uint32_t at, uint32_t k, int32_t pad, uint32_t stride, int32_t size) {
    const int32_t spread = (int32_t)at + pad - (int32_t)k;
    if (spread < 0 || spread % (int32_t)stride != 0) {
        return -1;
    }
    const int32_t found = spread / (int32_t)stride;
    return found < size ? found : -1;
}

#endif
