#include "eq_text.h"

#include "eq_port.h"

void eq_text_write(const char *text)
{
    for (; *text != '\0'; ++text) {
        eq_port_write_byte((uint8_t)*text);
    }
}

const char *eq_text_u32(char buffer[EQ_TEXT_U32_BYTES], uint32_t value)
{
    char *at = &buffer[EQ_TEXT_U32_BYTES - 1u];
    *at = '\0';
    do {
        *--at = (char)('0' + (int)(value % 10u));
        value /= 10u;
    } while (value != 0u);
    return at;
}

void eq_text_write_u32(uint32_t value)
{
    char digits[EQ_TEXT_U32_BYTES];
    eq_text_write(eq_text_u32(digits, value));
}

void eq_text_write_hex32(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        eq_port_write_byte((uint8_t)"0123456789abcdef"[(value >> shift) & 15u]);
    }
}

void eq_text_write_field(const char *name, uint32_t value)
{
    eq_text_write(name);
    eq_text_write(" ");
    eq_text_write_u32(value);
    eq_text_write("\n");
}
