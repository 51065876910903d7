/* AVERAGE_POOL_2D and MAX_POOL_2D of int16. */
#include "eq_pool.h"

/* Once for both kinds: the window's walk is most of it. */
static EQ_NOINLINE void either(const eq_pool_params *p, const int16_t *input, int16_t *output, int is_average) {
    pool(p, input, output, is_average, 1);
}

void eq_average_pool_s16(const eq_pool_params *p, const int16_t *input, int16_t *output) {
    either(p, input, output, 1);
}

void eq_max_pool_s16(const eq_pool_params *p, const int16_t *input, int16_t *output) {
    either(p, input, output, 0);
}
