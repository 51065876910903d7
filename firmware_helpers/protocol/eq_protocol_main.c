/* The line protocol over the port's bytes, until they end. */
#include "eq_port.h"
#include "eq_protocol.h"

int main(void)
{
    eq_port_init();
    eq_protocol_begin();
    for (int byte = eq_port_read_byte(); byte >= 0; byte = eq_port_read_byte()) {
        eq_protocol_take((uint8_t)byte);
    }
    return 0;
}
