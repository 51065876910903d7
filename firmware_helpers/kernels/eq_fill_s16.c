/* PAD of int16. */
#include "eq_kernels.h"

void eq_fill_s16(int16_t value, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = value;
    }
}
