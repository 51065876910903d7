/* How ports of boards reach registers. Both macros can be defined elsewhere: a test puts plain memory in their place. */
#ifndef EQ_REGISTER_H
#define EQ_REGISTER_H

#include <stdint.h>

#ifndef EQ_REGISTER
#define EQ_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#endif

/* Everything before it has happened before anything after it. */
#ifndef EQ_BARRIER
#define EQ_BARRIER() __asm__ volatile("dsb\n\tisb" ::: "memory")
#endif

#define EQ_STEP_SET 0u  /* register = (register without mask) | value */
#define EQ_STEP_WAIT 1u /* until (register & mask) == value */

/* One step of what a board needs before its UART works: clocks, pins. eq_board.h has them as data. */
typedef struct {
    uint32_t kind;
    uint32_t address;
    uint32_t mask;
    uint32_t value;
} eq_board_step;

#endif
