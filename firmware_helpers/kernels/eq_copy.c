/* Operators that only move bytes. */
#include "eq_common.h"

static void copy_run(const uint8_t *from, int32_t from_step, uint8_t *to, int32_t to_step, uint32_t count,
                     uint32_t size) {
    if (from_step == (int32_t)size && to_step == (int32_t)size) {
        memcpy(to, from, (size_t)count * size);
        return;
    }
    for (; count != 0; count--) {
        for (uint32_t i = 0; i < size; i++) {
            to[i] = from[i];
        }
        /* The last step would leave the tensor: pointers must not. */
        if (count != 1) {
            from += from_step;
            to += to_step;
        }
    }
}

void eq_copy_strided(const eq_copy *p, const void *input, void *output) {
    const int32_t size = p->size;
    const uint32_t runs = p->dims[0] * p->dims[1] * p->dims[2] * p->dims[3];
    uint32_t at[4] = {0, 0, 0, 0};
    if (p->dims[4] == 0) {
        return;
    }
    for (uint32_t run = 0; run < runs; run++) {
        int32_t from = (int32_t)p->in_offset, to = (int32_t)p->out_offset;
        for (int i = 0; i < 4; i++) {
            from += (int32_t)at[i] * p->in_stride[i];
            to += (int32_t)at[i] * p->out_stride[i];
        }
        copy_run((const uint8_t *)input + from * size, p->in_stride[4] * size, (uint8_t *)output + to * size,
                 p->out_stride[4] * size, p->dims[4], p->size);
        for (int i = 3; i >= 0 && ++at[i] == p->dims[i]; i--) {
            at[i] = 0;
        }
    }
}

void eq_fill_s8(int8_t value, int8_t *output, size_t count) {
    memset(output, value, count);
}

void eq_gather(uint32_t outer, uint32_t index_batches, uint32_t axis, uint32_t inner_bytes, uint32_t count,
               const void *input, const int32_t *indices, void *output) {
    const uint8_t *from = input;
    uint8_t *to = output;
    const uint32_t per_batch = outer / index_batches;
    for (uint32_t o = 0; o < outer; o++) {
        const int32_t *list = indices + o / per_batch * count;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t row = list[i] >= 0 && (uint32_t)list[i] < axis ? (uint32_t)list[i] : 0;
            memcpy(to, from + row * inner_bytes, inner_bytes);
            to += inner_bytes;
        }
        from += axis * inner_bytes;
    }
}
