"""Ports of real boards: every register write against the reference manuals, boot blocks, linker scripts, UF2.

The port's C runs on this computer: its registers are plain memory, and what a chip answers (a clock is ready, a PLL is
locked) is played by rules that say what the manuals say.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import targets
from edgeq.builders.mcu import boards, files
from edgeq.codegen import headers
from edgeq.errors import TargetError

HELPERS = headers.folder()
PROFILES = [name for name in targets.names() if targets.load(name).board]
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
ALL = 0xFFFFFFFF

VTOR = 0xE000ED08
DEMCR, DWT_CTRL, DWT_CYCCNT, DWT_LAR = 0xE000EDFC, 0xE0001000, 0xE0001004, 0xE0001FB0
CCR, CCSIDR, CSSELR, ICIALLU, DCISW = 0xE000ED14, 0xE000ED80, 0xE000ED84, 0xE000EF50, 0xE000EF60
SYST_CSR, SYST_RVR, SYST_CVR = 0xE000E010, 0xE000E014, 0xE000E018


class Rule(NamedTuple):
    """Where `(address & mask) == equals` for `delay` accesses, the chip changes `then`: `(then & ~clears) | sets`."""

    address: int
    mask: int
    equals: int
    then: int
    clears: int
    sets: int
    delay: int = 60


class Need(NamedTuple):
    """A change of a register from `first` to before `end`, to a value with `(value & bits) == to`, is too early (lost,
    or worse) where not `(address & mask) == equals`."""

    first: int
    end: int
    bits: int
    to: int
    address: int
    mask: int
    equals: int


class Chip(NamedTuple):
    """A board as its manuals tell: values after reset, what hardware does, what has to stand there in the end.

    `order` are registers of which each must get the value for the first time before the next one gets its own.
    `send` and `receive` are (data, state, bits, what they are when a byte can be moved).
    """

    reset: Mapping[int, int]
    rules: Sequence[Rule]
    needs: Sequence[Need]
    final: Mapping[int, int]
    order: Sequence[tuple[int, int]]
    baud: tuple[int, int]
    send: tuple[int, int, int, int]
    receive: tuple[int, int, int, int]


def follows(address: int, asked: int, answer: int) -> list[Rule]:
    """A ready bit that follows its enable bit, in one register."""
    return [Rule(address, asked, asked, address, answer, answer), Rule(address, asked, 0, address, answer, 0)]


def clocked(block: int, address: int, bit: int) -> Need:
    """All registers of a block need the block's clock."""
    return Need(block, block + 0x400, 0, 0, address, 1 << bit, 1 << bit)


def becomes(register: int, bits: int, to: int, address: int, mask: int, equals: int) -> Need:
    """One register's bits, set to something."""
    return Need(register, register + 1, bits, to, address, mask, equals)


def function_first(port: int, *pins: int, function: int = 7) -> list[Need]:
    """STM32: a pin's function is chosen before the pin is given to it."""
    places = [(pin, port + (0x20 if pin < 8 else 0x24), 4 * (pin % 8)) for pin in pins]
    return [
        becomes(port, 3 << 2 * pin, 2 << 2 * pin, half, 0xF << place, function << place) for pin, half, place in places
    ]


# RM0432: HSI16, PLL (4 MHz * 40 / 2), FLASH_ACR, GPIO reset values; LPUART: baud = 256 * clock / BRR
L4_RCC, L4_UART, L4_GPIOG = 0x40021000, 0x40008000, 0x48001800
NUCLEO_L4R5ZI = Chip(
    reset={L4_RCC: 0x63, L4_RCC + 0x0C: 0x1000, 0x40022000: 0x600, L4_GPIOG: ALL, L4_UART + 0x1C: 0xC0},
    rules=[
        *follows(L4_RCC, 1 << 8, 1 << 10),
        *follows(L4_RCC, 1 << 24, 1 << 25),
        Rule(L4_RCC + 0x08, 3, 3, L4_RCC + 0x08, 0xC, 0xC),
    ],
    needs=[
        becomes(L4_RCC, 1 << 24, 1 << 24, L4_RCC, 1 << 10, 1 << 10),
        becomes(L4_RCC, 1 << 24, 1 << 24, L4_RCC + 0x0C, 3, 2),
        becomes(L4_RCC + 0x08, 3, 3, L4_RCC, 1 << 25, 1 << 25),
        becomes(L4_RCC + 0x08, 3, 3, 0x40022000, 0xF, 3),
        becomes(L4_UART + 0x0C, 0, 0, L4_RCC + 0x08, 0xC, 0xC),
        clocked(0x40007000, L4_RCC + 0x58, 28),
        clocked(L4_GPIOG, L4_RCC + 0x4C, 6),
        clocked(L4_UART, L4_RCC + 0x5C, 0),
        becomes(L4_UART, 1, 1, 0x40007004, 1 << 9, 1 << 9),
        *function_first(L4_GPIOG, 7, 8, function=8),
    ],
    final={
        L4_RCC: 0x63 | 1 << 8 | 1 << 10 | 1 << 24 | 1 << 25,
        L4_RCC + 0x08: 0xF,
        L4_RCC + 0x0C: 1 << 24 | 40 << 8 | (4 - 1) << 4 | 2,
        0x40022000: 0x603,
        L4_RCC + 0x58: 1 << 28,
        0x40007004: 1 << 9,
        L4_RCC + 0x4C: 1 << 6,
        L4_RCC + 0x5C: 1,
        L4_GPIOG: 0xFFFEBFFF,
        L4_GPIOG + 0x20: 0x80000000,
        L4_GPIOG + 0x24: 0x00000008,
        L4_UART: 0xD,
    },
    order=[
        (0x40022000, 0x603),
        (L4_RCC, 0x63 | 5 << 8 | 1 << 24),
        (L4_RCC + 0x08, 3),
        (L4_RCC + 0x5C, 1),
        (L4_UART + 0x0C, 177_778),
        (L4_UART, 0xD),
    ],
    baud=(256 * 80_000_000, L4_UART + 0x0C),
    send=(L4_UART + 0x28, L4_UART + 0x1C, 0x80, 0x80),
    receive=(L4_UART + 0x24, L4_UART + 0x1C, 0x20, 0x20),
)

# RM0385: reset values of ports A and B (debug pins are in use); USART with 16 samples a bit: baud = clock / BRR
F7_RCC, F7_UART, F7_GPIOA, F7_GPIOB = 0x40023800, 0x40011000, 0x40020000, 0x40020400
CACHE_4_KIB = 31 << 13 | 3 << 3 | 1  # Cortex-M7: 32 sets, 4 ways, lines of 32 bytes
STM32F746G_DISCO = Chip(
    reset={F7_GPIOA: 0xA8000000, F7_GPIOB: 0x280, F7_UART + 0x1C: 0xC0, CCSIDR: CACHE_4_KIB, DCISW: ALL, CCR: 0x40200},
    rules=[],
    needs=[
        clocked(F7_GPIOA, F7_RCC + 0x30, 0),
        clocked(F7_GPIOB, F7_RCC + 0x30, 1),
        clocked(F7_UART, F7_RCC + 0x44, 4),
        *function_first(F7_GPIOA, 9),
        *function_first(F7_GPIOB, 7),
    ],
    final={
        F7_RCC + 0x30: 3,
        F7_RCC + 0x44: 1 << 4,
        F7_GPIOA: 0xA8080000,
        F7_GPIOA + 0x24: 0x70,
        F7_GPIOB: 0x8280,
        F7_GPIOB + 0x20: 0x70000000,
        F7_UART: 0xD,
        CCR: 0x40200 | 3 << 16,
    },
    order=[(F7_RCC + 0x44, 1 << 4), (F7_UART + 0x0C, 139), (F7_UART, 0xD)],
    baud=(16_000_000, F7_UART + 0x0C),
    send=(F7_UART + 0x28, F7_UART + 0x1C, 0x80, 0x80),
    receive=(F7_UART + 0x24, F7_UART + 0x1C, 0x20, 0x20),
)
F7_USART3, F7_GPIOD = 0x40004800, 0x40020C00
NUCLEO_F746ZG = Chip(
    reset={F7_USART3 + 0x1C: 0xC0, CCSIDR: CACHE_4_KIB, DCISW: ALL},
    rules=[],
    needs=[
        clocked(F7_GPIOD, F7_RCC + 0x30, 3),
        clocked(F7_USART3, F7_RCC + 0x40, 18),
        *function_first(F7_GPIOD, 8, 9),
    ],
    final={
        F7_RCC + 0x30: 1 << 3,
        F7_RCC + 0x40: 1 << 18,
        F7_GPIOD: 0x000A0000,
        F7_GPIOD + 0x24: 0x77,
        F7_USART3: 0xD,
        CCR: 3 << 16,
    },
    order=[(F7_RCC + 0x40, 1 << 18), (F7_USART3 + 0x0C, 139), (F7_USART3, 0xD)],
    baud=(16_000_000, F7_USART3 + 0x0C),
    send=(F7_USART3 + 0x28, F7_USART3 + 0x1C, 0x80, 0x80),
    receive=(F7_USART3 + 0x24, F7_USART3 + 0x1C, 0x20, 0x20),
)

# RM0433: supply by LDO, ACTVOSRDY after it, FLASH_ACR after reset 0x37, port D analog
H7_RCC, H7_PWR, H7_UART, H7_GPIOD = 0x58024400, 0x58024800, 0x40004800, 0x58020C00
NUCLEO_H743ZI = Chip(
    reset={
        H7_PWR + 0x0C: 6,
        H7_PWR + 0x04: 0x4000,
        0x52002000: 0x37,
        H7_GPIOD: ALL,
        H7_UART + 0x1C: 0xC0,
        CCSIDR: 127 << 13 | 3 << 3 | 1,
        DCISW: ALL,
    },
    rules=[Rule(H7_PWR + 0x0C, 7, 2, H7_PWR + 0x04, 0, 1 << 13)],
    needs=[
        becomes(0x52002000, 0, 0, H7_PWR + 0x04, 1 << 13, 1 << 13),
        clocked(H7_GPIOD, H7_RCC + 0xE0, 3),
        clocked(H7_UART, H7_RCC + 0xE8, 18),
        *function_first(H7_GPIOD, 8, 9),
    ],
    final={
        H7_PWR + 0x0C: 2,
        0x52002000: 0x11,
        H7_RCC + 0xE0: 1 << 3,
        H7_RCC + 0xE8: 1 << 18,
        H7_GPIOD: 0xFFFAFFFF,
        H7_GPIOD + 0x24: 0x77,
        H7_UART: 0xD,
        CCR: 3 << 16,
    },
    order=[(H7_PWR + 0x0C, 2), (H7_RCC + 0xE8, 1 << 18), (H7_UART + 0x0C, 556), (H7_UART, 0xD)],
    baud=(64_000_000, H7_UART + 0x0C),
    send=(H7_UART + 0x28, H7_UART + 0x1C, 0x80, 0x80),
    receive=(H7_UART + 0x24, H7_UART + 0x1C, 0x20, 0x20),
)

# RM0456: HSI16, RCC_CFGR1, ICACHE busy after reset until it has emptied itself, port A after reset. FLASH_ACR as a boot
# loader may leave it.
U5_RCC, U5_UART, U5_GPIOA, U5_ICACHE = 0x46020C00, 0x40013800, 0x42020000, 0x40030400
NUCLEO_U575ZI_Q = Chip(
    reset={U5_RCC: 0x35, 0x40022000: 0, U5_GPIOA: 0xABFFFFFF, U5_UART + 0x1C: 0xC0, U5_ICACHE + 0x04: 1},
    rules=[
        *follows(U5_RCC, 1 << 8, 1 << 10),
        Rule(U5_RCC + 0x1C, 3, 1, U5_RCC + 0x1C, 0xC, 4),
        Rule(U5_RCC + 0x1C, 0xF, 5, U5_ICACHE + 0x04, 1, 2),
    ],
    needs=[
        becomes(U5_RCC + 0x1C, 3, 1, U5_RCC, 1 << 10, 1 << 10),
        becomes(U5_RCC + 0x1C, 3, 1, 0x40022000, 0xF, 1),
        becomes(U5_ICACHE, 1, 1, U5_ICACHE + 0x04, 1, 0),
        becomes(U5_UART + 0x0C, 0, 0, U5_RCC + 0x1C, 0xC, 4),
        clocked(U5_GPIOA, U5_RCC + 0x8C, 0),
        clocked(U5_UART, U5_RCC + 0xA4, 14),
        *function_first(U5_GPIOA, 9, 10),
    ],
    final={
        U5_RCC: 0x35 | 5 << 8,
        U5_RCC + 0x1C: 5,
        0x40022000: 1,
        U5_ICACHE: 1,
        U5_RCC + 0x8C: 1,
        U5_RCC + 0xA4: 1 << 14,
        U5_GPIOA: 0xABEBFFFF,
        U5_GPIOA + 0x24: 0x770,
        U5_UART: 0xD,
    },
    order=[(U5_RCC + 0x1C, 1), (U5_ICACHE, 1), (U5_RCC + 0xA4, 1 << 14), (U5_UART + 0x0C, 139), (U5_UART, 0xD)],
    baud=(16_000_000, U5_UART + 0x0C),
    send=(U5_UART + 0x28, U5_UART + 0x1C, 0x80, 0x80),
    receive=(U5_UART + 0x24, U5_UART + 0x1C, 0x20, 0x20),
)

# nRF52840 Product Specification: events and tasks; BAUDRATE of 115200 is listed as 0x01D7E000
NRF_UART, NRF_GPIO = 0x40002000, 0x50000000
NRF52840_DK = Chip(
    reset={
        0x40000100: 1,
        NRF_GPIO + 0x720: 2,
        NRF_UART + 0x50C: ALL,
        NRF_UART + 0x514: ALL,
        NRF_UART + 0x524: 0x04000000,
    },
    rules=[
        Rule(0x40000000, 1, 1, 0x40000100, 0, 1),
        Rule(NRF_UART + 0x51C, ALL, ord("A"), NRF_UART + 0x11C, 0, 1),
    ],
    needs=[
        Need(NRF_UART, NRF_UART + 0x600, 0, 0, 0x40000100, 1, 1),
        becomes(NRF_UART + 0x50C, 0, 0, NRF_UART + 0x500, 0xF, 0),
        becomes(NRF_UART + 0x500, 0xF, 4, NRF_GPIO + 0x518, 1 << 6, 1 << 6),
        becomes(NRF_UART + 0x500, 0xF, 4, NRF_GPIO + 0x720, 3, 0),
        becomes(NRF_UART + 0x51C, 0, 0, NRF_UART + 0x008, 1, 1),
        becomes(NRF_GPIO + 0x518, 1 << 6, 1 << 6, NRF_GPIO + 0x508, 1 << 6, 1 << 6),
    ],
    final={
        0x40000558: 0x5A,
        NRF_GPIO + 0x508: 1 << 6,
        NRF_GPIO + 0x518: 1 << 6,
        NRF_GPIO + 0x700 + 4 * 8: 0xC,
        NRF_UART + 0x50C: 6,
        NRF_UART + 0x514: 8,
        NRF_UART + 0x524: 0x01D7E000,
        NRF_UART + 0x56C: 0,
        NRF_UART + 0x500: 4,
        NRF_UART + 0x008: 1,
        NRF_UART + 0x000: 1,
    },
    order=[
        (0x40000100, 0),
        (0x40000000, 1),
        (NRF_UART + 0x50C, 6),
        (NRF_UART + 0x524, 0x01D7E000),
        (NRF_UART + 0x500, 4),
        (NRF_UART + 0x008, 1),
    ],
    baud=(0, NRF_UART + 0x524),
    send=(NRF_UART + 0x51C, NRF_UART + 0x51C, 0, 0),
    receive=(NRF_UART + 0x518, NRF_UART + 0x108, 1, 1),
)


def _pico(
    clocks: int,
    resets: int,
    xosc: int,
    pll: int,
    pins: int,
    pads: int,
    uart: int,
    bits: tuple[int, ...],
    prim: int,
    pad: int,
) -> Chip:
    """RP2040 and RP2350 Datasheets. Registers as another program left them: the system clock on a PLL, no resets.

    `bits` of RESETS: pins, pads, PLL, UART; `pad` is what a pad is after reset.
    """
    held, pll_held = sum(bits), bits[2]
    done = resets + 0x08
    return Chip(
        reset={resets: 0, done: ALL, pll: 2 | 1 << 31, pll + 0x04: 0, clocks + 0x30: 0, clocks + 0x38: 1}
        | {clocks + 0x3C: 0x21, clocks + 0x44: 2, clocks + 0x48: 0x860, uart + 0x18: 0x90},
        rules=[
            Rule(resets, held, 0, done, held, held),
            Rule(resets, held, held, done, held, 0, 0),
            Rule(resets, pll_held, pll_held, pll + 0x04, ALL, 0x2D, 0),
            Rule(resets, pll_held, pll_held, pll + 0x0C, ALL, 0x77000, 0),
            Rule(resets, bits[1], bits[1], pads + 0x04, ALL, pad, 0),
            Rule(resets, bits[1], bits[1], pads + 0x08, ALL, pad, 0),
            Rule(xosc, 0xFFFFFF, 0xFABAA0, xosc + 0x04, 0, 1 << 31),
            Rule(clocks + 0x30, 3, 2, clocks + 0x38, 0xF, 4),
            Rule(clocks + 0x3C, 1, 1, clocks + 0x44, 3, 2),
            Rule(clocks + 0x3C, 1, 0, clocks + 0x44, 3, 1),
            Rule(pll + 0x04, 0x21, 0, pll, 0, 1 << 31),
            Rule(pll + 0x04, 0x21, 0x21, pll, 1 << 31, 0, 0),
        ],
        needs=[
            becomes(clocks + 0x30, 3, 2, xosc + 0x04, 1 << 31, 1 << 31),
            becomes(clocks + 0x30, 3, 2, clocks + 0x44, 3, 1),
            becomes(resets, held, held, clocks + 0x44, 3, 1),
            becomes(resets, held, held, clocks + 0x38, 0xF, 4),
            Need(pll, pll + 0x10, 0, 0, done, pll_held, pll_held),
            becomes(pll + 0x04, 0x08, 0, pll, 1 << 31, 1 << 31),
            becomes(clocks + 0x3C, 1, 1, pll + 0x04, 0x29, 0),
            becomes(clocks + 0x3C, 1, 1, clocks + 0x3C, 0xE0, 0),
            becomes(uart + 0x24, 0, 0, clocks + 0x44, 3, 2),
            Need(uart, uart + 0x40, 0, 0, done, bits[3], bits[3]),
            Need(uart, uart + 0x40, 0, 0, clocks + 0x48, 0x8E0, 0x880),
            Need(pins, pins + 0x10, 0, 0, done, bits[0], bits[0]),
            Need(pads, pads + 0x10, 0, 0, done, bits[1], bits[1]),
        ],
        final={
            resets: 0,
            xosc + 0x0C: 47,
            pll: 1 | 1 << 31,
            pll + 0x08: 125,
            pll + 0x04: 0x04,
            pll + 0x0C: prim,
            clocks + 0x30: 2,
            clocks + 0x3C: 1,
            clocks + 0x48: 0x800 | 4 << 5,
            pins + 0x04: 2,
            pins + 0x0C: 2,
            pads + 0x04: 0x56,
            pads + 0x08: 0x56,
            uart + 0x24: 6,
            uart + 0x28: 33,
            uart + 0x2C: 0x70,
            uart + 0x30: 0x301,
        },
        order=[
            (xosc + 0x0C, 47),
            (xosc, 0xFABAA0),
            (clocks + 0x30, 2),
            (resets, held),
            (resets, 0),
            (pll + 0x08, 125),
            (pll + 0x04, 0x0C),
            (pll + 0x0C, prim),
            (pll + 0x04, 0x04),
            (clocks + 0x3C, 1),
            (clocks + 0x48, 4 << 5),
            (uart + 0x28, 33),
            (uart + 0x2C, 0x70),
            (uart + 0x30, 0x301),
        ],
        baud=(12_000_000, uart + 0x24),
        send=(uart, uart + 0x18, 0x20, 0),
        receive=(uart, uart + 0x18, 0x10, 0),
    )


PICO = _pico(
    0x40008000, 0x4000C000, 0x40024000, 0x40028000, 0x40014000, 0x4001C000, 0x40034000,
    bits=(1 << 5, 1 << 8, 1 << 12, 1 << 22), prim=0x62000, pad=0x56,
)  # fmt: skip
PICO_2 = _pico(
    0x40010000, 0x40020000, 0x40048000, 0x40050000, 0x40028000, 0x40038000, 0x40070000,
    bits=(1 << 6, 1 << 9, 1 << 14, 1 << 26), prim=0x52000, pad=0x116,
)  # fmt: skip

CHIPS = {
    "nrf52840-dk": NRF52840_DK,
    "nucleo-f746zg": NUCLEO_F746ZG,
    "nucleo-h743zi": NUCLEO_H743ZI,
    "nucleo-l4r5zi": NUCLEO_L4R5ZI,
    "nucleo-u575zi-q": NUCLEO_U575ZI_Q,
    "pico": PICO,
    "pico-2": PICO_2,
    "stm32f746g-disco": STM32F746G_DISCO,
}

FAKE_H = """
#include <stdint.h>
volatile uint32_t *fake_register(uint32_t address);
#define EQ_REGISTER(address) (*fake_register(address))
#define EQ_BARRIER() ((void)0)
"""
FAKE_C = r"""
#include "eq_port.h"
#include <stdio.h>
#include <stdlib.h>
void eq_tick(void);
const uint32_t eq_vector_table[1] = {0};
static struct {uint32_t address, value, before;} slots[200] = {RESET};
static unsigned used = RESET_COUNT, last, accesses;
static const uint32_t rules[][7] = {RULES {0xFFFFFFFFu, 0u, 1u, 0u, 0u, 0u, 0u}};
static const uint32_t needs[][7] = {NEEDS {0u, 0u, 0u, 0u, 0u, 0u, 0u}};
static unsigned held[sizeof rules / sizeof rules[0]];
static unsigned find(uint32_t address)
{
    for (unsigned i = 0; i < used; ++i) {
        if (slots[i].address == address) {
            return i;
        }
    }
    slots[used].address = address;
    return used++;
}
static uint32_t value_at(uint32_t address)
{
    return slots[find(address)].value;
}
static void judge(uint32_t address, uint32_t value)
{
    printf("%x %x\n", address, value);
    for (unsigned i = 0; i < sizeof needs / sizeof needs[0]; ++i) {
        const uint32_t *const need = needs[i];
        if (address >= need[0] && address < need[1] && (value & need[2]) == need[3] &&
            (value_at(need[4]) & need[5]) != need[6]) {
            printf("early %x %x\n", address, value);
        }
    }
}
static void settle(void)
{
    if (slots[last].value != slots[last].before) {
        judge(slots[last].address, slots[last].value);
    }
    slots[last].before = slots[last].value;
    for (unsigned i = 0; i < sizeof rules / sizeof rules[0]; ++i) {
        held[i] = (value_at(rules[i][0]) & rules[i][1]) == rules[i][2] ? held[i] + 1u : 0u;
        if (held[i] > rules[i][6]) {
            const unsigned at = find(rules[i][3]);
            slots[at].value = slots[at].before = (slots[at].value & ~rules[i][4]) | rules[i][5];
        }
    }
}
volatile uint32_t *fake_register(uint32_t address)
{
    settle();
    if (++accesses > 20000u) {
        printf("stuck %x\n", address);
        exit(3);
    }
    last = find(address);
    return &slots[last].value;
}
int main(void)
{
    eq_port_init();
    *fake_register(SEND_STATE) = (*fake_register(SEND_STATE) & ~SEND_BITS) | SEND_VALUE;
    printf("send\n");
    eq_port_write_byte('A');
    *fake_register(RECEIVE_DATA) = 0x1e2u;
    *fake_register(RECEIVE_STATE) = (*fake_register(RECEIVE_STATE) & ~RECEIVE_BITS) | RECEIVE_VALUE;
    printf("receive\n");
    printf("got %x\n", (unsigned)eq_port_read_byte());
    *fake_register(0xE0001004u) = 0x89ABCDEFu;
    *fake_register(0xE000E018u) = 0x00FFFF00u;
    for (int wrap = 0; wrap < 3; ++wrap) {
        eq_tick();
    }
    printf("ticks %x\n", (unsigned)eq_port_ticks());
    settle();
    for (unsigned i = 0; i < used; ++i) {
        printf("final %x %x\n", slots[i].address, slots[i].value);
    }
    printf("hz %u\n", eq_port_tick_hz());
    return 0;
}
"""


class Ran(NamedTuple):
    """What the port did: changes of registers in their order up to the first byte, after it, and what stands there."""

    up: list[tuple[int, int]]
    sent: list[tuple[int, int]]
    final: dict[int, int]
    early: list[str]
    got: int
    ticks: int
    hz: int


def compile_port(folder: Path, name: str, chip: Chip) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed on this host")
    found = boards.BOARDS[name]
    (folder / "eq_board.h").write_text(files.render("eq_board.h.j2", boards.words(found)))
    (folder / "fake.h").write_text(FAKE_H)
    (folder / "fake.c").write_text(FAKE_C)
    values = ", ".join(f"{{{address:#x}u, {value:#x}u, {value:#x}u}}" for address, value in chip.reset.items())
    rules = "".join("{" + ", ".join(f"{word:#x}u" for word in rule) + "}, " for rule in chip.rules)
    needs = "".join("{" + ", ".join(f"{word:#x}u" for word in need) + "}, " for need in chip.needs)
    words = {"RESET": values, "RESET_COUNT": len(chip.reset), "RULES": rules, "NEEDS": needs}
    for side, (data, state, bits, value) in (("SEND", chip.send), ("RECEIVE", chip.receive)):
        words |= {f"{side}_DATA": f"{data:#x}u", f"{side}_STATE": f"{state:#x}u"}
        words |= {f"{side}_BITS": f"{bits:#x}u", f"{side}_VALUE": f"{value:#x}u"}
    sources = [HELPERS / "ports" / path for path in boards.sources(found) if "cortex_m" not in path]
    words_of = [f"-D{key}={value}" for key, value in words.items()]
    argv = ["gcc", *WARNINGS, *words_of, "-include", "fake.h", "-I.", f"-I{HELPERS / 'ports/board'}"]
    argv += [f"-I{HELPERS / 'runtime'}", "-o", "port", *map(str, sources), "fake.c"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "port"


def run_port(program: Path) -> Ran:
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-300:]
    phases: list[list[tuple[int, int]]] = [[], [], []]
    final, told, early, phase = {}, {}, [], 0
    for line in done.stdout.splitlines():
        first, *rest = line.split()
        if first in ("send", "receive"):
            phase += 1
        elif first == "early":
            early.append(line)
        elif first == "final":
            final[int(rest[0], 16)] = int(rest[1], 16)
        elif first in ("got", "ticks", "hz"):
            told[first] = int(rest[0], 10 if first == "hz" else 16)
        else:
            phases[phase].append((int(first, 16), int(rest[0], 16)))
    return Ran(phases[0], phases[1], final, early, told["got"], told["ticks"], told["hz"])


@pytest.fixture(scope="module", params=sorted(boards.BOARDS))
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Chip, Ran]:
    name = str(request.param)
    chip = CHIPS[name]
    return name, chip, run_port(compile_port(tmp_path_factory.mktemp("port"), name, chip))


# --- registers -------------------------------------------------------------------------------


def test_every_board_is_tested() -> None:
    assert set(CHIPS) == set(boards.BOARDS)


def test_clocks_pins_and_uart_end_as_the_manual_wants(ran: tuple[str, Chip, Ran]) -> None:
    _, chip, done = ran
    wrong = {
        hex(address): (hex(done.final.get(address, 0)), hex(value))
        for address, value in chip.final.items()
        if done.final.get(address, 0) != value
    }
    assert not wrong


def test_what_must_come_first_comes_first(ran: tuple[str, Chip, Ran]) -> None:
    _, chip, done = ran
    places = [done.up.index(step) for step in chip.order]
    assert places == sorted(places)
    assert done.early == []


def test_the_baud_rate_is_near(ran: tuple[str, Chip, Ran]) -> None:
    """By the manuals' formulas, from what stands in the divisor; UARTs want less than 2 %."""
    name, chip, done = ran
    clock, divisor = chip.baud
    if name == "nrf52840-dk":
        baud = done.final[divisor] * 16_000_000 / 2**32
    elif name.startswith("pico"):
        baud = clock / (16 * (done.final[divisor] + done.final[divisor + 4] / 64))
    else:
        baud = clock / done.final[divisor]
    assert abs(baud / boards.BAUD - 1) < 0.002


def test_the_counter_counts_the_cores_cycles(ran: tuple[str, Chip, Ran]) -> None:
    name, _, done = ran
    found = boards.BOARDS[name]
    assert done.hz == found.clock_hz
    if found.core == "cortex-m0plus":
        assert (done.final[SYST_RVR], done.final[SYST_CSR]) == (0xFFFFFF, 7)
        assert done.ticks == 3 << 24 | 0xFF  # it counts down
    else:
        assert done.final[DEMCR] == 1 << 24
        assert done.final[DWT_CTRL] == 1
        assert done.ticks == 0x89ABCDEF
        assert done.up.index((DEMCR, 1 << 24)) < done.up.index((DWT_CTRL, 1))


def test_a_cortex_m7_gets_its_caches(ran: tuple[str, Chip, Ran]) -> None:
    """Emptied line by line before the data cache is on; the lock of the counter opened."""
    name, chip, done = ran
    if boards.BOARDS[name].core != "cortex-m7":
        assert CCR not in done.final
        return
    sets = (chip.reset[CCSIDR] >> 13) + 1
    emptied = [value for address, value in done.up if address == DCISW]
    assert emptied == [index << 5 | way << 30 for index in range(sets) for way in range(4)]
    on = chip.reset.get(CCR, 0) | 3 << 16
    assert max(place for place, (address, _) in enumerate(done.up) if address == DCISW) < done.up.index((CCR, on))
    assert (DWT_LAR, 0xC5ACCE55) in done.up


def test_a_byte_out_and_a_byte_in(ran: tuple[str, Chip, Ran]) -> None:
    """A byte only: what a UART has beside it (parity, errors) is not passed on."""
    _, chip, done = ran
    assert done.got == 0xE2
    assert (chip.send[0], ord("A")) in done.sent


def test_the_vector_table_is_ours(ran: tuple[str, Chip, Ran]) -> None:
    _, _, done = ran
    assert done.up[0][0] == VTOR


def test_the_port_waits_for_hardware(tmp_path: Path) -> None:
    """Without the chip's answers it goes nowhere: the waits are real."""
    for name in ("nucleo-l4r5zi", "pico-2"):
        folder = tmp_path / name
        folder.mkdir()
        program = compile_port(folder, name, CHIPS[name]._replace(rules=[]))
        done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 3
        assert "stuck" in done.stdout


@pytest.mark.parametrize("bits", [0x8, 0xA, 0xF])
def test_an_overrun_is_cleared(tmp_path: Path, bits: int) -> None:
    """An STM32 whose UART has seen an error says so until that is cleared; the byte is read nevertheless."""
    chip = CHIPS["nucleo-l4r5zi"]
    chip = chip._replace(receive=(chip.receive[0], chip.receive[1], 0x2F, 0x20 | bits))
    done = run_port(compile_port(tmp_path, "nucleo-l4r5zi", chip))
    assert done.got == 0xE2
    assert done.final[L4_UART + 0x20] == bits


# --- boot ------------------------------------------------------------------------------------


def words_of(folder: Path, source: Path, array: str) -> list[int]:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed on this host")
    (folder / "dump.c").write_text(
        f'#include "{source}"\n#include <stdio.h>\nint main(void) {{ for (unsigned i = 0; '
        f'i < sizeof {array} / 4u; ++i) printf("%x\\n", {array}[i]); return 0; }}\n'
    )
    subprocess.run(["gcc", *WARNINGS, "-o", "dump", "dump.c"], cwd=folder, check=True, timeout=60)
    done = subprocess.run(["./dump"], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return [int(line, 16) for line in done.stdout.split()]


def crc32(content: bytes) -> int:
    """As the RP2040 Datasheet has it, 2.8.1.3.1: nothing reflected, nothing inverted in the end."""
    value = ALL
    for byte in content:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & ALL
    return value


def run_thumb(words: list[int], memory: Mapping[int, int]) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """The few instructions of a boot stage, by the Armv6-M Architecture Reference Manual: stores, and where it ends."""
    code = struct.unpack("<128H", struct.pack("<64I", *words))
    registers, stores, at = [0] * 8, [], 0
    while True:
        word = code[at]
        destination, base, offset = word & 7, word >> 3 & 7, (word >> 6 & 31) * 4
        if word >> 11 == 0b01001:  # LDR literal
            registers[word >> 8 & 7] = words[((at * 2 + 4 & ~3) + (word & 0xFF) * 4) // 4]
        elif word >> 11 == 0b00100:  # MOVS
            registers[word >> 8 & 7] = word & 0xFF
        elif word >> 11 == 0b01100:  # STR
            stores.append((registers[base] + offset, registers[destination]))
        elif word >> 11 == 0b01101:  # LDR
            registers[destination] = memory[registers[base] + offset]
        elif word & 0xFFF0 == 0xF380 and code[at + 1] == 0x8808:  # MSR MSP
            stack = registers[word & 15]
            at += 1
        elif word & 0xFF87 == 0x4700:  # BX
            return stores, {"stack": stack, "start": registers[word >> 3 & 15]}
        else:
            raise AssertionError(f"{word:#06x} at {at * 2}")
        at += 1


def test_the_rp2040s_first_256_bytes(tmp_path: Path) -> None:
    words = words_of(tmp_path, HELPERS / "ports/rp2/eq_boot2_rp2040.c", "eq_boot2")
    assert len(words) == 64
    assert words[63] == crc32(struct.pack("<63I", *words[:63]))
    assert crc32(b"123456789") == 0x0376E6E7  # the check value of CRC-32/MPEG-2


def test_the_rp2040s_boot_stage_sets_the_flash_and_starts_the_program(tmp_path: Path) -> None:
    words = words_of(tmp_path, HELPERS / "ports/rp2/eq_boot2_rp2040.c", "eq_boot2")
    stores, end = run_thumb(words, {0x10000100: 0x20042000, 0x10000104: 0x10000141})
    ssi = 0x18000000
    assert stores[0] == (ssi + 0x08, 0)
    assert stores[-2:] == [(ssi + 0x08, 1), (VTOR, 0x10000100)]
    assert dict(stores[1:-2]) == {
        ssi + 0x14: 4,
        ssi + 0x00: 31 << 16 | 3 << 8,
        ssi + 0x04: 0,
        ssi + 0xF4: 0x03 << 24 | 2 << 8 | 6 << 2,
    }
    assert end == {"stack": 0x20042000, "start": 0x10000141}


def test_the_rp2350s_image_definition(tmp_path: Path) -> None:
    """A block of one item: size and link are consistent."""
    begin, item, last, link, end = words_of(tmp_path, HELPERS / "ports/rp2/eq_image_rp2350.c", "eq_image_definition")
    assert (begin, end) == (0xFFFFDED3, 0xAB123579)
    assert (item & 0xFF, item >> 8 & 0xFF) == (0x42, 1)
    flags = item >> 16
    assert (flags & 0xF, flags >> 4 & 3, flags >> 8 & 7, flags >> 12 & 7) == (1, 2, 0, 1)  # EXE, secure, Arm, RP2350
    assert (last & 0xFF, last >> 8 & 0xFFFF) == (0xFF, item >> 8 & 0xFF)
    assert link == 0


# --- linker scripts --------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_a_boards_memories_are_the_profiles(name: str) -> None:
    target = targets.load(name)
    found = boards.board(target)
    assert found is not None
    assert found.flash.size_bytes == target.memory.flash_bytes
    assert found.ram.size_bytes == target.memory.ram_bytes
    script = files.render("linker.ld.j2", files.linkers(target)["board.ld"])
    regions = {
        region: (int(origin, 16), int(length))
        for region, origin, length in re.findall(r"(\w+)\s+\(\w+\)\s*: ORIGIN = (\w+), LENGTH = (\d+)", script)
    }
    assert regions.pop("flash") == tuple(found.flash)
    assert regions.pop("ram") == tuple(found.ram)
    assert regions == ({} if found.data == found.ram else {"data": tuple(found.data)})


def test_boot_blocks_have_their_places() -> None:
    scripts = {name: files.render("linker.ld.j2", files.linkers(targets.load(name))["board.ld"]) for name in PROFILES}
    pico = scripts["rp2040"]
    assert pico.index("KEEP(*(.boot))") < pico.index("KEEP(*(.vectors))")
    for script in scripts.values():
        assert script.index("KEEP(*(.vectors))") < script.index("KEEP(*(.image_definition))") < script.index(".rodata")
    assert "KEEP(*(.boot))" not in scripts["stm32l4r5"]


def test_stack_and_data_of_the_h743_lie_in_fast_memory() -> None:
    script = files.render("linker.ld.j2", files.linkers(targets.load("stm32h743"))["board.ld"])
    assert "} > data AT > flash" in script
    assert "eq_stack_top = ORIGIN(data) + LENGTH(data);" in script
    assert "eq_stack_limit = eq_data_end;" in script


def test_a_board_must_be_known_and_have_the_core() -> None:
    target = targets.load("stm32l4r5")
    with pytest.raises(boards.BuildError, match="no board is called 'nucleo-l4r5zj'") as caught:
        boards.board(dataclasses.replace(target, board="nucleo-l4r5zj"))
    assert caught.value.hint == "did you mean nucleo-l4r5zi?"
    with pytest.raises(boards.BuildError, match="pico has a cortex-m0plus"):
        boards.board(dataclasses.replace(target, board="pico"))
    assert boards.board(dataclasses.replace(target, board=None)) is None


@pytest.mark.parametrize("said", ["'Nucleo L4'", "'x; rm -rf'", "../pico", "[pico]"])
def test_a_profiles_board_is_a_name(tmp_path: Path, said: str) -> None:
    shelf = (targets.folders()[-1] / "stm32l4r5.yaml").read_text()
    path = tmp_path / "stm32l4r5.yaml"
    path.write_text(shelf.replace("board: nucleo-l4r5zi", f"board: {said}"))
    with pytest.raises(TargetError, match="board"):
        targets.load(path)


# --- UF2 -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uf2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed on this host")
    folder = tmp_path_factory.mktemp("uf2")
    sanitized = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    argv = ["gcc", *WARNINGS, *sanitized, "-o", "eq_uf2", str(HELPERS / "tools/eq_uf2.c")]
    subprocess.run(argv, cwd=folder, check=True, timeout=60)
    return folder / "eq_uf2"


def convert(program: Path, folder: Path, content: bytes, *words: str) -> tuple[int, bytes]:
    (folder / "image.bin").write_bytes(content)
    out = folder / "image.uf2"
    argv = [str(program), "image.bin", str(out), *words]
    done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=60, check=False)
    return done.returncode, out.read_bytes() if out.exists() else b""


def blocks(content: bytes) -> Iterator[tuple[tuple[int, ...], bytes, int]]:
    assert len(content) % 512 == 0
    for at in range(0, len(content), 512):
        header = struct.unpack_from("<8I", content, at)
        yield header, content[at + 32 : at + 508], struct.unpack_from("<I", content, at + 508)[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.sampled_from([1, 255, 256, 257, 511, 512, 513, 5000]) | st.integers(1, 20_000))
def test_an_image_comes_back_out_of_uf2(uf2: Path, tmp_path: Path, size: int) -> None:
    image = bytes((7 * at + at // 251) % 256 for at in range(size))
    status, content = convert(uf2, tmp_path, image, "0x10000000", "0xe48bff59")
    assert status == 0
    back = b""
    count = -(-size // 256)
    for number, (header, payload, end) in enumerate(blocks(content)):
        assert header == (0x0A324655, 0x9E5D5157, 0x2000, 0x10000000 + 256 * number, 256, number, count, 0xE48BFF59)
        assert end == 0x0AB16F30
        assert payload[256:] == bytes(220)
        back += payload[:256]
    assert back[:size] == image
    assert back[size:] == bytes(256 * count - size)


@pytest.mark.parametrize(
    ("content", "words", "status"),
    [
        (b"", ("0x10000000", "1"), 1),
        (b"x", ("0x10000000",), 2),
        (b"x", ("0x10000001", "1"), 2),
        (b"x", ("-256", "1"), 2),
        (b"x", ("0x100000000", "1"), 2),
        (b"x", ("0x10000000", "family"), 2),
        (b"x", ("0x10000000", "1", "more"), 2),
        (b"x", ("", "1"), 2),
    ],
)
def test_uf2_refuses_what_it_cannot_make(
    uf2: Path, tmp_path: Path, content: bytes, words: Sequence[str], status: int
) -> None:
    assert convert(uf2, tmp_path, content, *words) == (status, b"")


def test_uf2_refuses_an_image_that_no_flash_holds(uf2: Path, tmp_path: Path) -> None:
    with (tmp_path / "big.bin").open("wb") as big:
        big.truncate((16 << 20) + 1)
    argv = [str(uf2), "big.bin", "big.uf2", "0x10000000", "1"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode == 1
    assert not (tmp_path / "big.uf2").exists()
