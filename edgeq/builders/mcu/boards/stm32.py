"""STM32 boards. Sources: ST's reference manuals RM0432 (L4+), RM0385 (F74x), RM0433 (H743), RM0456 (U5), read through
CMSIS device headers, libopencm3's headers and Zephyr's device trees, which agree on every address and bit here.

All run from the internal oscillator: nothing on a board is needed for it, and its 1 % suits a UART.
"""

from __future__ import annotations

from edgeq.builders.mcu.boards.shape import KIB, MIB, Board, Region, Step, wait

FLASH = 0x08000000
_FILE = "build/board/selftest"


def _pin(port: str, base: int, pin: int, function: int, why: str) -> tuple[Step, ...]:
    """A pin's alternate function, chosen before the pin is switched to it: MODER 0x00, AFRL 0x20, AFRH 0x24."""
    half, place = ("AFRL", pin) if pin < 8 else ("AFRH", pin - 8)
    offset = 0x20 if pin < 8 else 0x24
    return (
        Step(f"GPIO{port}_{half}", base + offset, 0xF << 4 * place, function << 4 * place, f"P{port}{pin}: {why}"),
        Step(f"GPIO{port}_MODER", base, 3 << 2 * pin, 2 << 2 * pin, f"P{port}{pin}: alternate function"),
    )


def _flashing(openocd: str) -> tuple[str, ...]:
    return (
        f"st-flash --reset write {_FILE}.bin {FLASH:#010x}",
        f'openocd -f interface/stlink.cfg -f target/{openocd}.cfg -c "program {_FILE}.elf verify reset exit"',
        f"STM32_Programmer_CLI -c port=SWD -w {_FILE}.hex -v -rst",
    )


_L4_RCC = 0x40021000
_L4_PWR = 0x40007000
_L4_GPIOG = 0x48001800
NUCLEO_L4R5ZI = Board(
    title="NUCLEO-L4R5ZI",
    family="stm32",
    core="cortex-m4",
    flash=Region(FLASH, 2 * MIB),
    ram=Region(0x20000000, 640 * KIB),  # SRAM1, SRAM2 by its second address 0x20030000, SRAM3: in one piece
    data=Region(0x20000000, 640 * KIB),
    clock_hz=80_000_000,
    uart="LPUART1, PG7 and PG8: ST-LINK's virtual COM port",
    uart_base=0x40008000,
    uart_clock_hz=80_000_000,
    steps=(
        Step("RCC_CR", _L4_RCC, 1 << 8, 1 << 8, "HSI16 on"),
        wait("RCC_CR", _L4_RCC, 1 << 10, 1 << 10, "HSI16 is ready"),
        Step("RCC_PLLCFGR", _L4_RCC + 0x0C, 0x0700_7FF3, 0x0100_2832, "PLL: 16 MHz / 4 * 40 / 2 = 80 MHz"),
        Step("FLASH_ACR", 0x40022000, 0xF, 3, "3 wait states: up to 80 MHz in voltage range 1"),
        wait("FLASH_ACR", 0x40022000, 0xF, 3, "they are taken"),
        Step("RCC_CR", _L4_RCC, 1 << 24, 1 << 24, "PLL on"),
        wait("RCC_CR", _L4_RCC, 1 << 25, 1 << 25, "PLL is ready"),
        Step("RCC_CFGR", _L4_RCC + 0x08, 3, 3, "system clock: PLL"),
        wait("RCC_CFGR", _L4_RCC + 0x08, 0xC, 0xC, "it is"),
        Step("RCC_APB1ENR1", _L4_RCC + 0x58, 1 << 28, 1 << 28, "power control"),
        Step("PWR_CR2", _L4_PWR + 0x04, 1 << 9, 1 << 9, "IOSV: port G has a supply of its own, which is there"),
        Step("RCC_AHB2ENR", _L4_RCC + 0x4C, 1 << 6, 1 << 6, "port G"),
        Step("RCC_APB1ENR2", _L4_RCC + 0x5C, 1 << 0, 1 << 0, "LPUART1, from PCLK1 as after reset"),
        *_pin("G", _L4_GPIOG, 7, 8, "LPUART1_TX"),
        *_pin("G", _L4_GPIOG, 8, 8, "LPUART1_RX"),
    ),
    flashing=_flashing("stm32l4x"),
    again="press the black reset button",
    defines={"EQ_BOARD_UART_IS_LOW_POWER": "1"},
)

_F7_RCC = 0x40023800
_F7_GPIOA, _F7_GPIOB, _F7_GPIOD = 0x40020000, 0x40020400, 0x40020C00
STM32F746G_DISCO = Board(
    title="32F746GDISCOVERY",
    family="stm32",
    core="cortex-m7",
    flash=Region(FLASH, 1 * MIB),
    ram=Region(0x20000000, 320 * KIB),  # DTCM, SRAM1, SRAM2: in one piece
    data=Region(0x20000000, 320 * KIB),
    clock_hz=16_000_000,
    uart="USART1, PA9 and PB7: ST-LINK's virtual COM port",
    uart_base=0x40011000,
    uart_clock_hz=16_000_000,
    steps=(  # the internal oscillator of 16 MHz is the clock after reset, and needs no wait states
        Step("RCC_AHB1ENR", _F7_RCC + 0x30, 3, 3, "ports A and B"),
        Step("RCC_APB2ENR", _F7_RCC + 0x44, 1 << 4, 1 << 4, "USART1, from PCLK2 as after reset"),
        *_pin("A", _F7_GPIOA, 9, 7, "USART1_TX"),
        *_pin("B", _F7_GPIOB, 7, 7, "USART1_RX"),
    ),
    flashing=_flashing("stm32f7x"),
    again="press the black reset button",
    defines={"EQ_BOARD_CORTEX_M7": "1"},
)
NUCLEO_F746ZG = STM32F746G_DISCO._replace(
    title="NUCLEO-F746ZG",
    uart="USART3, PD8 and PD9: ST-LINK's virtual COM port",
    uart_base=0x40004800,
    steps=(
        Step("RCC_AHB1ENR", _F7_RCC + 0x30, 1 << 3, 1 << 3, "port D"),
        Step("RCC_APB1ENR", _F7_RCC + 0x40, 1 << 18, 1 << 18, "USART3, from PCLK1 as after reset"),
        *_pin("D", _F7_GPIOD, 8, 7, "USART3_TX"),
        *_pin("D", _F7_GPIOD, 9, 7, "USART3_RX"),
    ),
)

_H7_RCC = 0x58024400
_H7_PWR = 0x58024800
_H7_GPIOD = 0x58020C00
NUCLEO_H743ZI = Board(
    title="NUCLEO-H743ZI",
    family="stm32",
    core="cortex-m7",
    flash=Region(FLASH, 2 * MIB),
    ram=Region(0x24000000, 512 * KIB),  # AXI SRAM
    data=Region(0x20000000, 128 * KIB),  # DTCM
    clock_hz=64_000_000,
    uart="USART3, PD8 and PD9: ST-LINK's virtual COM port",
    uart_base=0x40004800,
    uart_clock_hz=64_000_000,
    steps=(  # the internal oscillator of 64 MHz is the clock after reset, voltage scale 3 the supply
        Step("PWR_CR3", _H7_PWR + 0x0C, 7, 2, "supplied by the LDO: to be said once after power-on"),
        wait("PWR_CSR1", _H7_PWR + 0x04, 1 << 13, 1 << 13, "the voltage is there"),
        Step("FLASH_ACR", 0x52002000, 0x3F, 0x11, "1 wait state, WRHIGHFREQ 1: 45 to 90 MHz in voltage scale 3"),
        wait("FLASH_ACR", 0x52002000, 0x3F, 0x11, "they are taken"),
        Step("RCC_AHB4ENR", _H7_RCC + 0xE0, 1 << 3, 1 << 3, "port D"),
        Step("RCC_APB1LENR", _H7_RCC + 0xE8, 1 << 18, 1 << 18, "USART3, from PCLK1 as after reset"),
        *_pin("D", _H7_GPIOD, 8, 7, "USART3_TX"),
        *_pin("D", _H7_GPIOD, 9, 7, "USART3_RX"),
    ),
    flashing=_flashing("stm32h7x"),
    again="press the black reset button",
    defines={"EQ_BOARD_CORTEX_M7": "1"},
)

_U5_RCC = 0x46020C00
_U5_ICACHE = 0x40030400
_U5_GPIOA = 0x42020000
NUCLEO_U575ZI_Q = Board(
    title="NUCLEO-U575ZI-Q",
    family="stm32",
    core="cortex-m33",
    flash=Region(FLASH, 2 * MIB),
    ram=Region(0x20000000, 768 * KIB),  # SRAM1, SRAM2, SRAM3: in one piece
    data=Region(0x20000000, 768 * KIB),
    clock_hz=16_000_000,
    uart="USART1, PA9 and PA10: ST-LINK's virtual COM port",
    uart_base=0x40013800,
    uart_clock_hz=16_000_000,
    steps=(
        Step("FLASH_ACR", 0x40022000, 0xF, 1, "1 wait state: up to 16 MHz in voltage range 4"),
        wait("FLASH_ACR", 0x40022000, 0xF, 1, "it is taken"),
        Step("RCC_CR", _U5_RCC, 1 << 8, 1 << 8, "HSI16 on"),
        wait("RCC_CR", _U5_RCC, 1 << 10, 1 << 10, "HSI16 is ready"),
        Step("RCC_CFGR1", _U5_RCC + 0x1C, 3, 1, "system clock: HSI16"),
        wait("RCC_CFGR1", _U5_RCC + 0x1C, 0xC, 0x4, "it is"),
        wait("ICACHE_SR", _U5_ICACHE + 0x04, 1, 0, "the instruction cache is empty"),
        Step("ICACHE_CR", _U5_ICACHE, 1, 1, "and on"),
        Step("RCC_AHB2ENR1", _U5_RCC + 0x8C, 1 << 0, 1 << 0, "port A"),
        Step("RCC_APB2ENR", _U5_RCC + 0xA4, 1 << 14, 1 << 14, "USART1, from PCLK2 as after reset"),
        *_pin("A", _U5_GPIOA, 9, 7, "USART1_TX"),
        *_pin("A", _U5_GPIOA, 10, 7, "USART1_RX"),
    ),
    flashing=_flashing("stm32u5x"),
    again="press the black reset button",
)
