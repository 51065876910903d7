/* A real board with a Cortex-M: its steps in order, caches, a counter of core cycles, its family's UART. */
#include "eq_board.h"
#include "eq_port.h"
#include "eq_register.h"
#include "eq_uart.h"

#include <stddef.h>

/* Armv6-M, Armv7-M and Armv8-M Architecture Reference Manuals, system control space */
#define SCB_VTOR EQ_REGISTER(0xE000ED08u)

/* Set by the linker script. */
extern const uint32_t eq_vector_table[];

void eq_tick(void);

static const eq_board_step steps[] = EQ_BOARD_STEPS;

static void take(const eq_board_step *step)
{
    if (step->kind == EQ_STEP_WAIT) {
        while ((EQ_REGISTER(step->address) & step->mask) != step->value) {
        }
        return;
    }
    const uint32_t kept = step->mask == UINT32_MAX ? 0u : EQ_REGISTER(step->address) & ~step->mask;
    EQ_REGISTER(step->address) = kept | step->value;
}

#ifdef EQ_BOARD_CORTEX_M7
/* Armv7-M Architecture Reference Manual, B3.2 and B2.2.7: caches are off after reset, with unknown contents. Nothing here
 * uses DMA, so that data caching needs no care. */
#define SCB_CCR EQ_REGISTER(0xE000ED14u)
#define SCB_CCSIDR EQ_REGISTER(0xE000ED80u)
#define SCB_CSSELR EQ_REGISTER(0xE000ED84u)
#define SCB_ICIALLU EQ_REGISTER(0xE000EF50u)
#define SCB_DCISW EQ_REGISTER(0xE000EF60u)
#define CCR_DC (1u << 16)
#define CCR_IC (1u << 17)
/* Cortex-M7 Technical Reference Manual: lines of 32 bytes, four ways */
#define DCISW_SET_SHIFT 5u
#define DCISW_WAY_SHIFT 30u

static void enable_caches(void)
{
    EQ_BARRIER();
    SCB_ICIALLU = 0u;
    EQ_BARRIER();
    SCB_CCR |= CCR_IC;
    SCB_CSSELR = 0u; /* the data cache of level 1 */
    EQ_BARRIER();
    const uint32_t size = SCB_CCSIDR;
    const uint32_t last_set = (size >> 13) & 0x7FFFu;
    const uint32_t last_way = (size >> 3) & 0x3FFu;
    for (uint32_t set = 0; set <= last_set; ++set) {
        for (uint32_t way = 0; way <= last_way; ++way) {
            SCB_DCISW = (set << DCISW_SET_SHIFT) | (way << DCISW_WAY_SHIFT);
        }
    }
    EQ_BARRIER();
    SCB_CCR |= CCR_DC;
    EQ_BARRIER();
}
#endif

#ifdef EQ_BOARD_SYSTICK
/* Armv6-M has no cycle counter: SysTick from the core's clock, its wraps counted. */
#define SYST_CSR EQ_REGISTER(0xE000E010u)
#define SYST_RVR EQ_REGISTER(0xE000E014u)
#define SYST_CVR EQ_REGISTER(0xE000E018u)

static volatile uint32_t wraps;

void eq_tick(void)
{
    ++wraps;
}

static void start_counter(void)
{
    SYST_RVR = 0x00FFFFFFu;
    SYST_CVR = 0u;
    SYST_CSR = 7u; /* processor clock, interrupt at each wrap, on */
}

uint32_t eq_port_ticks(void)
{
    uint32_t before = 0;
    uint32_t count = 0;
    do { /* again where the wrap came between the two readings */
        before = wraps;
        count = 0x00FFFFFFu - SYST_CVR;
    } while (before != wraps);
    return (before << 24) + count;
}
#else
/* Armv7-M Architecture Reference Manual, C1.6.5 and C1.8: trace on, then the cycle counter of the watchpoint unit */
#define DEMCR EQ_REGISTER(0xE000EDFCu)
#define DEMCR_TRCENA (1u << 24)
#define DWT_CTRL EQ_REGISTER(0xE0001000u)
#define DWT_CYCCNT EQ_REGISTER(0xE0001004u)
#define DWT_LAR EQ_REGISTER(0xE0001FB0u)

void eq_tick(void)
{
}

static void start_counter(void)
{
    DEMCR |= DEMCR_TRCENA;
#ifdef EQ_BOARD_CORTEX_M7
    DWT_LAR = 0xC5ACCE55u; /* only a Cortex-M7's registers are locked against software */
#endif
    DWT_CYCCNT = 0u;
    DWT_CTRL |= 1u;
}

uint32_t eq_port_ticks(void)
{
    return DWT_CYCCNT;
}
#endif

void eq_port_init(void)
{
    SCB_VTOR = (uint32_t)(uintptr_t)eq_vector_table; /* a boot loader may have left its own */
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; ++i) {
        take(&steps[i]);
    }
#ifdef EQ_BOARD_CORTEX_M7
    enable_caches();
#endif
    start_counter();
    eq_uart_init();
}

uint32_t eq_port_tick_hz(void)
{
    return EQ_BOARD_CLOCK_HZ;
}

void eq_port_write_byte(uint8_t byte)
{
    eq_uart_write(byte);
}

int eq_port_read_byte(void)
{
    return (int)eq_uart_read();
}

_Noreturn void eq_port_exit(int status)
{
    (void)status; /* the last line said it; nobody to return to */
    for (;;) {
    }
}
