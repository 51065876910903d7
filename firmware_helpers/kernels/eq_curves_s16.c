/* LOGISTIC and TANH of int16. */
#include "eq_curves.h"
#include "eq_kernels.h"

/* x on the grid that the curves' table has. */
static inline int32_t scaled(const eq_curve_params *p, int32_t x) {
    return (x * p->multiplier + p->round) >> p->right_shift;
}

void eq_logistic_s16(const eq_curve_params *p, const int16_t *input, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = (int16_t)eq_logistic_of(scaled(p, *input++));
    }
}

void eq_tanh_s16(const eq_curve_params *p, const int16_t *input, int16_t *output, size_t count) {
    for (; count != 0; count--) {
        *output++ = (int16_t)eq_tanh_of(scaled(p, *input++));
    }
}
