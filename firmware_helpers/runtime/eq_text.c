#include "eq_text.h"

#include "eq_port.h"

void eq_text_write(const char *text)
{
    for (; *text != '\0'; ++text) {
        eq_port_write_byte((uint8_t)*text);
    }
}

void eq_text_write_u32(uint32_t value)
{
    char digits[11];
    int place = 10;
    digits[place] = '\0';
    do {
        digits[--place] = (char)('0' + (int)(value % 10u));
        value /= 10u;
    } while (value != 0u);
    eq_text_write(&digits[place]);
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
