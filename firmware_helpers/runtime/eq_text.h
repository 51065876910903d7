/* Text over eq_port_write_byte, without stdio. */
#ifndef EQ_TEXT_H
#define EQ_TEXT_H

#include <stdint.h>

void eq_text_write(const char *text);
void eq_text_write_u32(uint32_t value);

/* The decimal digits of a value, which end somewhere in the buffer. */
#define EQ_TEXT_U32_BYTES 11u
const char *eq_text_u32(char buffer[EQ_TEXT_U32_BYTES], uint32_t value);

void eq_text_write_hex32(uint32_t value);

/* "name value\n", the only kind of line that a self-test writes. */
void eq_text_write_field(const char *name, uint32_t value);

#endif
