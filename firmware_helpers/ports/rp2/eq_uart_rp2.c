/* UART of RP2040 and RP2350, an Arm PL011. Source: RP2040 Datasheet, 4.2; RP2350 Datasheet, 12.1. */
#include "eq_board.h"
#include "eq_register.h"
#include "eq_uart.h"

#define UARTDR EQ_REGISTER(EQ_BOARD_UART + 0x00u)
#define UARTFR EQ_REGISTER(EQ_BOARD_UART + 0x18u)
#define UARTIBRD EQ_REGISTER(EQ_BOARD_UART + 0x24u)
#define UARTFBRD EQ_REGISTER(EQ_BOARD_UART + 0x28u)
#define UARTLCR_H EQ_REGISTER(EQ_BOARD_UART + 0x2Cu)
#define UARTCR EQ_REGISTER(EQ_BOARD_UART + 0x30u)

#define FR_RXFE (1u << 4)
#define FR_TXFF (1u << 5)
#define LCR_H_FEN (1u << 4)
#define LCR_H_8_BITS (3u << 5)
#define CR_UARTEN (1u << 0)
#define CR_TXE (1u << 8)
#define CR_RXE (1u << 9)

/* clock / (16 * baud) in units of 1/64 */
#define DIVISOR ((uint32_t)((4ull * EQ_BOARD_UART_CLOCK_HZ + EQ_BOARD_BAUD / 2u) / EQ_BOARD_BAUD))

void eq_uart_init(void)
{
    UARTCR = 0u;
    UARTIBRD = DIVISOR >> 6;
    UARTFBRD = DIVISOR & 63u;
    UARTLCR_H = LCR_H_8_BITS | LCR_H_FEN; /* after the divisors: this write makes them count */
    UARTCR = CR_UARTEN | CR_TXE | CR_RXE;
}

void eq_uart_write(uint8_t byte)
{
    while ((UARTFR & FR_TXFF) != 0u) {
    }
    UARTDR = byte;
}

uint8_t eq_uart_read(void)
{
    while ((UARTFR & FR_RXFE) != 0u) {
    }
    return (uint8_t)UARTDR;
}
