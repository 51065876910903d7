/* Start of a program on a bare RV32: stack, memory, traps that say where they happened. */
#include "eq_port.h"
#include "eq_text.h"

#include <stdint.h>

/* Set by the linker script. */
extern uint32_t eq_data_load[], eq_data_start[], eq_data_end[], eq_bss_start[], eq_bss_end[];
extern uint8_t eq_stack_limit[], eq_stack_top[];

int main(void);
void eq_reset(void);
void eq_start(void);
void eq_fault(void);

/* norelax: the global pointer cannot be loaded relative to itself */
__attribute__((naked, used, section(".vectors"))) void eq_reset(void)
{
    __asm__ volatile(".option push\n\t"
                     ".option norelax\n\t"
                     "la gp, __global_pointer$\n\t"
                     ".option pop\n\t"
                     "la sp, eq_stack_top\n\t"
                     "la t0, eq_fault\n\t"
                     ".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrw mtvec, t0\n\t"
                     ".option pop\n\t"
                     "j eq_start");
}

__attribute__((used, noreturn)) void eq_start(void)
{
    const volatile uint32_t *from = eq_data_load;
    for (volatile uint32_t *to = eq_data_start; to < eq_data_end; ++to) {
        *to = *from++;
    }
    for (volatile uint32_t *to = eq_bss_start; to < eq_bss_end; ++to) {
        *to = 0u;
    }
    eq_port_exit(main());
}

__attribute__((used, aligned(4))) void eq_fault(void)
{
    uint32_t cause = 0;
    uint32_t pc = 0;
    __asm__ volatile(".option push\n\t"
                     ".option arch, +zicsr\n\t"
                     "csrr %0, mcause\n\t"
                     "csrr %1, mepc\n\t"
                     ".option pop"
                     : "=r"(cause), "=r"(pc));
    eq_text_write("eq-fault pc 0x");
    eq_text_write_hex32(pc);
    eq_text_write(" cause 0x");
    eq_text_write_hex32(cause);
    eq_text_write("\n");
    eq_port_exit(70);
}

uint8_t *eq_port_stack_limit(void)
{
    return eq_stack_limit;
}

uint8_t *eq_port_stack_top(void)
{
    return eq_stack_top;
}
