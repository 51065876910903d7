/* A family's UART: 8 data bits, no parity, one stop bit, EQ_BOARD_BAUD; the board's steps have given it clock and pins. */
#ifndef EQ_UART_H
#define EQ_UART_H

#include <stdint.h>

void eq_uart_init(void);
void eq_uart_write(uint8_t byte);

/* Waits for a byte; bytes that came while nobody waited may be lost, what comes next is not. */
uint8_t eq_uart_read(void);

#endif
