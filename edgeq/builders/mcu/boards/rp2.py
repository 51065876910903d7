"""Raspberry Pi Pico and Pico 2. Sources: RP2040 and RP2350 Datasheets (clocks, PLL, resets, pads), addresses and bits
as in pico-sdk's register headers.

Both have a crystal of 12 MHz, from which the UART runs; the core runs at what the SDK gives it too.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeq.builders.mcu.boards.shape import KIB, MIB, Board, Region, Step, wait

_XIP = 0x10000000
_CRYSTAL_HZ = 12_000_000
_FILE = "build/board/selftest"


class _Chip(NamedTuple):
    """Base addresses, bits and dividers in which the two chips differ."""

    clocks: int
    resets: int
    xosc: int
    pll: int
    io: int
    pads: int
    uart: int
    pll_reset: int
    other_resets: int
    dividers: tuple[int, int]
    pad_mask: int


def _steps(chip: _Chip) -> tuple[Step, ...]:
    """Crystal, system clock on it, PLL, system clock on that, UART and pins out of reset."""
    resets = chip.pll_reset | chip.other_resets
    first, second = chip.dividers
    return (
        Step("XOSC_STARTUP", chip.xosc + 0x0C, 0x3FFF, 47, "1 ms: 12 MHz / 1000 / 256"),
        Step("XOSC_CTRL", chip.xosc, 0xFFFFFF, 0xFAB_AA0, "crystal of 1 to 15 MHz, on"),
        wait("XOSC_STATUS", chip.xosc + 0x04, 1 << 31, 1 << 31, "it is stable"),
        Step("CLK_SYS_CTRL", chip.clocks + 0x3C, 1, 0, "system clock: the reference clock, while the rest changes"),
        wait("CLK_SYS_SELECTED", chip.clocks + 0x44, 3, 1, "it is"),
        Step("CLK_REF_CTRL", chip.clocks + 0x30, 3, 2, "reference clock: the crystal"),
        wait("CLK_REF_SELECTED", chip.clocks + 0x38, 0xF, 4, "it is"),
        Step("RESETS_RESET", chip.resets, resets, resets, "PLL, pins and UART as after power-on"),
        Step("RESETS_RESET", chip.resets, resets, 0, "and out of reset"),
        wait("RESETS_RESET_DONE", chip.resets + 0x08, resets, resets, "they are"),
        Step("PLL_SYS_CS", chip.pll, 0x3F, 1, "PLL from 12 MHz"),
        Step("PLL_SYS_FBDIV_INT", chip.pll + 0x08, 0xFFF, 125, "oscillator of 1500 MHz"),
        Step("PLL_SYS_PWR", chip.pll + 0x04, 0x21, 0, "PLL and its oscillator on"),
        wait("PLL_SYS_CS", chip.pll, 1 << 31, 1 << 31, "it is locked"),
        Step("PLL_SYS_PRIM", chip.pll + 0x0C, 0x77000, first << 16 | second << 12, f"divided by {first} and {second}"),
        Step("PLL_SYS_PWR", chip.pll + 0x04, 0x08, 0, "dividers on"),
        Step("CLK_SYS_CTRL", chip.clocks + 0x3C, 0xE0, 0, "second source of the system clock: the PLL"),
        Step("CLK_SYS_CTRL", chip.clocks + 0x3C, 1, 1, "system clock: its second source"),
        wait("CLK_SYS_SELECTED", chip.clocks + 0x44, 3, 2, "it is"),
        Step("CLK_PERI_CTRL", chip.clocks + 0x48, 0x8E0, 4 << 5, "the UART's clock: the crystal"),
        Step("CLK_PERI_CTRL", chip.clocks + 0x48, 0x800, 0x800, "on"),
        Step("GPIO0_CTRL", chip.io + 0x04, 0x1F, 2, "GPIO0: UART0 TX"),
        Step("GPIO1_CTRL", chip.io + 0x0C, 0x1F, 2, "GPIO1: UART0 RX"),
        Step("PADS_GPIO0", chip.pads + 0x04, chip.pad_mask, 0x40, "GPIO0: input on, output not off, not isolated"),
        Step("PADS_GPIO1", chip.pads + 0x08, chip.pad_mask, 0x40, "GPIO1: the same"),
    )


_RP2040 = _Chip(
    clocks=0x40008000,
    resets=0x4000C000,
    xosc=0x40024000,
    pll=0x40028000,
    io=0x40014000,
    pads=0x4001C000,
    uart=0x40034000,
    pll_reset=1 << 12,
    other_resets=1 << 5 | 1 << 8 | 1 << 22,  # IO_BANK0, PADS_BANK0, UART0
    dividers=(6, 2),
    pad_mask=0xC0,
)
_RP2350 = _Chip(
    clocks=0x40010000,
    resets=0x40020000,
    xosc=0x40048000,
    pll=0x40050000,
    io=0x40028000,
    pads=0x40038000,
    uart=0x40070000,
    pll_reset=1 << 14,
    other_resets=1 << 6 | 1 << 9 | 1 << 26,  # IO_BANK0, PADS_BANK0, UART0
    dividers=(5, 2),
    pad_mask=0x1C0,
)


def _flashing(drive: str, openocd: str) -> tuple[str, ...]:
    return (
        f"cp {_FILE}.uf2 /media/$USER/{drive}/    # with BOOTSEL held while it is plugged in",
        f"picotool load -v -x {_FILE}.uf2",
        f"openocd -f interface/cmsis-dap.cfg -f target/{openocd}.cfg "
        f'-c "adapter speed 5000; program {_FILE}.elf verify reset exit"',
    )


PICO = Board(
    title="Raspberry Pi Pico",
    family="rp2",
    core="cortex-m0plus",
    flash=Region(_XIP, 2 * MIB),
    ram=Region(0x20000000, 264 * KIB),
    data=Region(0x20000000, 264 * KIB),
    clock_hz=125_000_000,
    uart="UART0, GPIO0 (TX, pin 1) and GPIO1 (RX, pin 2): needs a USB-to-serial adapter of 3.3 V, or a debug probe",
    uart_base=_RP2040.uart,
    uart_clock_hz=_CRYSTAL_HZ,
    steps=_steps(_RP2040),
    flashing=_flashing("RPI-RP2", "rp2040"),
    again="draw the USB cable of the Pico and plug it in again",
    boot="eq_boot2_rp2040.c",
    uf2_family=0xE48BFF56,
    defines={"EQ_BOARD_SYSTICK": "1"},
)
PICO_2 = PICO._replace(
    title="Raspberry Pi Pico 2",
    core="cortex-m33",
    flash=Region(_XIP, 4 * MIB),
    ram=Region(0x20000000, 520 * KIB),
    data=Region(0x20000000, 520 * KIB),
    clock_hz=150_000_000,
    uart_base=_RP2350.uart,
    steps=_steps(_RP2350),
    flashing=_flashing("RP2350", "rp2350"),
    boot="eq_image_rp2350.c",
    uf2_family=0xE48BFF59,
    defines={},
)
