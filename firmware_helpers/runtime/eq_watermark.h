/* How far memory was used: paint it, run, look which bytes are no longer the paint.
 *
 * A byte that happens to be written with the paint's own value does not count, so that a mark can be a few bytes low.
 */
#ifndef EQ_WATERMARK_H
#define EQ_WATERMARK_H

#include <stddef.h>
#include <stdint.h>

#define EQ_WATERMARK_PAINT 0xa5u

void eq_watermark_paint(uint8_t *memory, size_t size_bytes);

/* Bytes from the start up to the last one that changed. */
size_t eq_watermark_from_start(const uint8_t *memory, size_t size_bytes);

/* Bytes from the first one that changed up to the end: for what grows downwards. */
size_t eq_watermark_from_end(const uint8_t *memory, size_t size_bytes);

/* Paint the free part of the stack, below the caller's own frame; returns the bytes painted. */
size_t eq_watermark_paint_stack(void);

/* The most bytes of stack that were in use since; 0 where the port does not know the stack. A stack that reached its
 * limit is reported as all of it. */
size_t eq_watermark_stack(void);

#endif
