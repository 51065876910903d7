/* Operators of one operand as tables. */
#include "eq_kernels.h"

void eq_lookup_s8(const int8_t table[256], const int8_t *input, int8_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = table[*input++ + 128];
    }
}

void eq_lookup_s8_s16(const int16_t table[256], const int8_t *input, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = table[*input++ + 128];
    }
}

void eq_lookup_s8_s32(const int32_t table[256], const int8_t *input, int32_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = table[*input++ + 128];
    }
}
