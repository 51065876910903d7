/* Start of a program on any Cortex-M: vector table, memory, FPU, faults that say where they happened. */
#include "eq_port.h"
#include "eq_text.h"

#include <stdint.h>

/* Set by the linker script. */
extern uint32_t eq_data_load[], eq_data_start[], eq_data_end[], eq_bss_start[], eq_bss_end[];
extern uint8_t eq_stack_limit[], eq_stack_top[];

int main(void);
void eq_reset(void);
void eq_fault(void);
void eq_fault_report(const uint32_t *frame, uint32_t exception_return);
void eq_tick(void);

#define EQ_CPACR (*(volatile uint32_t *)0xE000ED88u)

union vector {
    const void *stack;
    void (*handler)(void);
};

/* Faults of all kinds report alike; on Armv6-M only the hard fault exists. */
__attribute__((section(".vectors"), used)) static const union vector eq_vectors[16] = {
    {.stack = eq_stack_top}, {.handler = eq_reset}, {.handler = eq_fault}, {.handler = eq_fault},
    {.handler = eq_fault},   {.handler = eq_fault}, {.handler = eq_fault}, {.handler = eq_fault},
    {.handler = eq_fault},   {.handler = eq_fault}, {.handler = eq_fault}, {.handler = eq_fault},
    {.handler = eq_fault},   {.handler = eq_fault}, {.handler = eq_fault}, {.handler = eq_tick},
};

__attribute__((used, noreturn)) void eq_reset(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    /* First of all: the compiler may use FPU or vector registers anywhere below. */
    EQ_CPACR |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    const volatile uint32_t *from = eq_data_load;
    for (volatile uint32_t *to = eq_data_start; to < eq_data_end; ++to) {
        *to = *from++;
    }
    for (volatile uint32_t *to = eq_bss_start; to < eq_bss_end; ++to) {
        *to = 0u;
    }
    eq_port_exit(main());
}

/* The frame of the fault is on the stack that was in use: bit 2 of LR tells which. */
__attribute__((naked, used)) void eq_fault(void)
{
    __asm__ volatile("mov r1, lr\n\t"
                     "movs r2, #4\n\t"
                     "tst r1, r2\n\t"
                     "bne 1f\n\t"
                     "mrs r0, msp\n\t"
                     "b 2f\n"
                     "1:\n\t"
                     "mrs r0, psp\n"
                     "2:\n\t"
                     "ldr r2, =eq_fault_report\n\t"
                     "bx r2\n\t"
                     ".ltorg");
}

__attribute__((used)) void eq_fault_report(const uint32_t *frame, uint32_t exception_return)
{
    (void)exception_return;
    eq_text_write("eq-fault pc 0x");
    eq_text_write_hex32(frame[6]);
    eq_text_write(" lr 0x");
    eq_text_write_hex32(frame[5]);
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
