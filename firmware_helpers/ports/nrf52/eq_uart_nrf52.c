/* UART (without DMA) of nRF52. Source: nRF52840 Product Specification, chapter UART. */
#include "eq_board.h"
#include "eq_register.h"
#include "eq_uart.h"

#define TASKS_STARTRX EQ_REGISTER(EQ_BOARD_UART + 0x000u)
#define TASKS_STARTTX EQ_REGISTER(EQ_BOARD_UART + 0x008u)
#define EVENTS_RXDRDY EQ_REGISTER(EQ_BOARD_UART + 0x108u)
#define EVENTS_TXDRDY EQ_REGISTER(EQ_BOARD_UART + 0x11Cu)
#define ENABLE EQ_REGISTER(EQ_BOARD_UART + 0x500u)
#define PSEL_TXD EQ_REGISTER(EQ_BOARD_UART + 0x50Cu)
#define PSEL_RXD EQ_REGISTER(EQ_BOARD_UART + 0x514u)
#define RXD EQ_REGISTER(EQ_BOARD_UART + 0x518u)
#define TXD EQ_REGISTER(EQ_BOARD_UART + 0x51Cu)
#define BAUDRATE EQ_REGISTER(EQ_BOARD_UART + 0x524u)
#define CONFIG EQ_REGISTER(EQ_BOARD_UART + 0x56Cu)

#define ENABLED 4u

/* BAUDRATE is baud * 2^32 / 16 MHz; its lowest 12 bits are not there: 0x01D7E000 for 115200, as the specification lists. */
#define DIVISOR                                                                                                        \
    ((uint32_t)(((((uint64_t)EQ_BOARD_BAUD << 32) + EQ_BOARD_UART_CLOCK_HZ / 2u) / EQ_BOARD_UART_CLOCK_HZ + 0x800u) &  \
                0xFFFFF000u))

void eq_uart_init(void)
{
    PSEL_TXD = EQ_BOARD_TX_PIN; /* pins can only be chosen while the UART is off */
    PSEL_RXD = EQ_BOARD_RX_PIN;
    CONFIG = 0u;
    BAUDRATE = DIVISOR;
    ENABLE = ENABLED;
    EVENTS_RXDRDY = 0u;
    EVENTS_TXDRDY = 0u;
    TASKS_STARTTX = 1u;
    TASKS_STARTRX = 1u;
}

void eq_uart_write(uint8_t byte)
{
    TXD = byte;
    while (EVENTS_TXDRDY == 0u) {
    }
    EVENTS_TXDRDY = 0u;
}

uint8_t eq_uart_read(void)
{
    while (EVENTS_RXDRDY == 0u) {
    }
    EVENTS_RXDRDY = 0u; /* before RXD is read: the next byte of the FIFO raises it again */
    return (uint8_t)RXD;
}
