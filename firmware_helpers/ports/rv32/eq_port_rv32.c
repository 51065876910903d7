/* An emulated RV32: minstret counts instructions, semihosting writes, reads and ends. */
#include "eq_port.h"

#include <stddef.h>

#define SYS_WRITEC 0x03u
#define SYS_READC 0x07u
#define SYS_EXIT_EXTENDED 0x20u
#define STOPPED_BY_APPLICATION 0x20026u

void eq_port_init(void)
{
}

uint32_t eq_port_ticks(void)
{
    uint32_t count = 0;
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrr %0, minstret\n\t"
                     ".option pop"
                     : "=r"(count));
    return count;
}

uint32_t eq_port_tick_hz(void)
{
    return 0u;
}

/* The emulator knows the call by its neighbours: three instructions, none of them compressed, in one page. */
__attribute__((noinline)) static uint32_t semihost(uint32_t operation, const void *argument)
{
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".balign 16\n\t"
                     ".option push\n\t"
                     ".option norvc\n\t"
                     "slli zero, zero, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai zero, zero, 7\n\t"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
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
