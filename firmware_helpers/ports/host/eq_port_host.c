/* The computer that edgeq runs on: standard input and output, POSIX's monotonic clock. */
#define _POSIX_C_SOURCE 200809L

#include "eq_port.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void eq_port_init(void)
{
}

uint32_t eq_port_ticks(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

uint32_t eq_port_tick_hz(void)
{
    return 1000000u;
}

void eq_port_write_byte(uint8_t byte)
{
    while (write(STDOUT_FILENO, &byte, 1) < 0 && errno == EINTR) {
    }
}

int eq_port_read_byte(void)
{
    uint8_t byte = 0;
    ssize_t got = 0;
    do {
        got = read(STDIN_FILENO, &byte, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1 ? (int)byte : -1;
}

_Noreturn void eq_port_exit(int status)
{
    exit(status);
}

uint8_t *eq_port_stack_limit(void)
{
    return NULL;
}

uint8_t *eq_port_stack_top(void)
{
    return NULL;
}
