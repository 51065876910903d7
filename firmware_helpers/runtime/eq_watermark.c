#include "eq_watermark.h"

#include "eq_port.h"

/* Calls made while painting must not run into what is painted. */
#define MARGIN_BYTES 256u

void eq_watermark_paint(uint8_t *memory, size_t size_bytes)
{
    /* volatile: a compiler would otherwise make this a call of memset, which has a frame of its own */
    volatile uint8_t *at = memory;
    for (size_t i = 0; i < size_bytes; ++i) {
        at[i] = EQ_WATERMARK_PAINT;
    }
}

size_t eq_watermark_from_start(const uint8_t *memory, size_t size_bytes)
{
    while (size_bytes > 0u && memory[size_bytes - 1u] == EQ_WATERMARK_PAINT) {
        --size_bytes;
    }
    return size_bytes;
}

size_t eq_watermark_from_end(const uint8_t *memory, size_t size_bytes)
{
    size_t i = 0;
    while (i < size_bytes && memory[i] == EQ_WATERMARK_PAINT) {
        ++i;
    }
    return size_bytes - i;
}

size_t eq_watermark_paint_stack(void)
{
    uint8_t *const limit = eq_port_stack_limit();
    volatile uint8_t here = 0;
    const uintptr_t now = (uintptr_t)&here;
    if (limit == NULL || now < (uintptr_t)limit + MARGIN_BYTES) {
        return 0;
    }
    const size_t free_bytes = (size_t)(now - (uintptr_t)limit) - MARGIN_BYTES;
    eq_watermark_paint(limit, free_bytes);
    return free_bytes;
}

size_t eq_watermark_stack(void)
{
    const uint8_t *const limit = eq_port_stack_limit();
    if (limit == NULL) {
        return 0;
    }
    return eq_watermark_from_end(limit, (size_t)((uintptr_t)eq_port_stack_top() - (uintptr_t)limit));
}
