/* What the runtime asks of a board. Each folder below ports/ implements it for one kind of board. */
#ifndef EQ_PORT_H
#define EQ_PORT_H

#include <stdint.h>

/* Called once, before anything else of the port. */
void eq_port_init(void);

/* A counter that runs freely and wraps at 32 bits: differences of two readings are right across one wrap. */
uint32_t eq_port_ticks(void);

/* Ticks in a second; 0 where a tick is no measure of time, as in an emulator. */
uint32_t eq_port_tick_hz(void);

void eq_port_write_byte(uint8_t byte);

/* Waits for a byte; below 0 where no more will come. */
int eq_port_read_byte(void);

/* Ends the program where there is something to return to, otherwise waits for ever. */
_Noreturn void eq_port_exit(int status);

/* The lowest address that the stack may reach, and the address above its first byte; both null on a host. */
uint8_t *eq_port_stack_limit(void);
uint8_t *eq_port_stack_top(void);

#endif
