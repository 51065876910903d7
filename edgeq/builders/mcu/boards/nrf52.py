"""Nordic's nRF52840 DK. Sources: nRF52840 Product Specification (CLOCK, GPIO, UART, debug); pins as in Zephyr."""

from __future__ import annotations

from edgeq.builders.mcu.boards.shape import KIB, MIB, Board, Region, Step, wait

_CLOCK = 0x40000000
_GPIO0 = 0x50000000
_TX, _RX = 6, 8

NRF52840_DK = Board(
    title="nRF52840 DK",
    family="nrf52",
    core="cortex-m4",
    flash=Region(0, 1 * MIB),
    ram=Region(0x20000000, 256 * KIB),
    data=Region(0x20000000, 256 * KIB),
    clock_hz=64_000_000,
    uart="UART0, P0.06 and P0.08: the debugger's virtual COM port",
    uart_base=0x40002000,
    uart_clock_hz=16_000_000,
    steps=(  # the core runs at 64 MHz from reset on; the crystal makes these exact
        Step(
            "APPROTECT_DISABLE",
            0x40000558,
            0xFFFFFFFF,
            0x5A,
            "chips from revision 3 on: the debugger may come in again",
        ),
        Step("CLOCK_EVENTS_HFCLKSTARTED", _CLOCK + 0x100, 0xFFFFFFFF, 0, "not yet"),
        Step("CLOCK_TASKS_HFCLKSTART", _CLOCK, 0xFFFFFFFF, 1, "the crystal of 32 MHz on"),
        wait("CLOCK_EVENTS_HFCLKSTARTED", _CLOCK + 0x100, 1, 1, "it runs"),
        Step("GPIO_OUTSET", _GPIO0 + 0x508, 0xFFFFFFFF, 1 << _TX, "P0.06: high is a line at rest"),
        Step("GPIO_DIRSET", _GPIO0 + 0x518, 0xFFFFFFFF, 1 << _TX, "P0.06: output"),
        Step("GPIO_PIN_CNF[8]", _GPIO0 + 0x700 + 4 * _RX, 0xFFFFFFFF, 3 << 2, "P0.08: input with pull-up"),
    ),
    flashing=(
        "nrfjprog --program build/board/selftest.hex --sectorerase --verify --reset",
        'openocd -f interface/jlink.cfg -c "transport select swd" -f target/nrf52.cfg '
        '-c "program build/board/selftest.elf verify reset exit"',
    ),
    again="nrfjprog --reset",
    defines={"EQ_BOARD_TX_PIN": f"{_TX}u", "EQ_BOARD_RX_PIN": f"{_RX}u"},
)
