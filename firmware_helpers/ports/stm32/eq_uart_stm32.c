/* USART and LPUART of STM32 L4, F7, H7, U5. Source: RM0432 (L4+), RM0385 (F7), RM0433 (H7), RM0456 (U5), chapters USART and
 * LPUART: the registers used here lie and mean the same in all of them. */
#include "eq_board.h"
#include "eq_register.h"
#include "eq_uart.h"

#define CR1 EQ_REGISTER(EQ_BOARD_UART + 0x00u)
#define BRR EQ_REGISTER(EQ_BOARD_UART + 0x0Cu)
#define ISR EQ_REGISTER(EQ_BOARD_UART + 0x1Cu)
#define ICR EQ_REGISTER(EQ_BOARD_UART + 0x20u)
#define RDR EQ_REGISTER(EQ_BOARD_UART + 0x24u)
#define TDR EQ_REGISTER(EQ_BOARD_UART + 0x28u)

#define CR1_UE (1u << 0)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define ISR_ERRORS 0xFu /* parity, framing, noise, overrun; the bits of ICR that clear them are the same */
#define ISR_RXNE (1u << 5)
#define ISR_TXE (1u << 7)

#ifdef EQ_BOARD_UART_IS_LOW_POWER
#define CLOCKS_IN_A_UNIT 256u /* LPUART: BRR = 256 * clock / baud; USART with 16 samples a bit: BRR = clock / baud */
#else
#define CLOCKS_IN_A_UNIT 1u
#endif
#define DIVISOR ((uint32_t)(((uint64_t)CLOCKS_IN_A_UNIT * EQ_BOARD_UART_CLOCK_HZ + EQ_BOARD_BAUD / 2u) / EQ_BOARD_BAUD))

void eq_uart_init(void)
{
    CR1 = 0u; /* BRR can only be written while the UART is off */
    BRR = DIVISOR;
    CR1 = CR1_UE | CR1_RE | CR1_TE;
}

void eq_uart_write(uint8_t byte)
{
    while ((ISR & ISR_TXE) == 0u) {
    }
    TDR = byte;
}

uint8_t eq_uart_read(void)
{
    for (;;) {
        const uint32_t state = ISR;
        if ((state & ISR_ERRORS) != 0u) {
            ICR = state & ISR_ERRORS;
        }
        if ((state & ISR_RXNE) != 0u) {
            return (uint8_t)RDR;
        }
    }
}
