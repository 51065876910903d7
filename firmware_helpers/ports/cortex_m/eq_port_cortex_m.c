/* An emulated Cortex-M: SysTick counts, semihosting writes, reads and ends.
 *
 * Under an emulator that counts instructions a tick is a fixed number of them and never time, so the rate is 0.
 */
#include "eq_port.h"

#include <stddef.h>

#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)

#define SYS_WRITEC 0x03u
#define SYS_READC 0x07u
#define SYS_EXIT_EXTENDED 0x20u
#define STOPPED_BY_APPLICATION 0x20026u

static volatile uint32_t wraps;

void eq_tick(void);

void eq_tick(void)
{
    ++wraps;
}

void eq_port_init(void)
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

uint32_t eq_port_tick_hz(void)
{
    return 0u;
}

static uint32_t semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void eq_port_write_byte(uint8_t byte)
{
    (void)semihost(SYS_WRITEC, &byte);
}

int eq_port_read_byte(void)
{
    return (int)semihost(SYS_READC, NULL);
}

_Noreturn void eq_port_exit(int status)
{
    const uint32_t block[2] = {STOPPED_BY_APPLICATION, (uint32_t)status};
    for (;;) {
        (void)semihost(SYS_EXIT_EXTENDED, block);
    }
}
