/* The first 256 bytes of an RP2040's flash: the boot ROM copies them to RAM and runs them there. They tell the flash's
 * controller to read with command 03h, which every flash knows (one data line, a quarter of the system clock), and start the
 * program behind them. Source: RP2040 Datasheet, 2.8.1 (boot sequence), 4.10.13 (SSI's registers).
 *
 * Words and not assembly, because the last one is the CRC-32 of the others (0x04C11DB7, from all ones, nothing reflected or
 * inverted): no compiler may change them.
 */
#include <stdint.h>

__attribute__((section(".boot"), used)) static const uint32_t eq_boot2[64] = {
    0x2100480Au, /*      ldr  r0, ssi             movs r1, #0                                               */
    0x22046081u, /*      str  r1, [r0, #0x08]     movs r2, #4           SSIENR: off, or nothing can be set  */
    0x4A096142u, /*      str  r2, [r0, #0x14]     ldr  r2, ctrlr0       BAUDR: system clock / 4             */
    0x60416002u, /*      str  r2, [r0, #0x00]     str  r1, [r0, #0x04]  CTRLR0; CTRLR1: one word at a time  */
    0x4B094A08u, /*      ldr  r2, spi_ctrlr0      ldr  r3, spi_ctrlr0_at                                    */
    0x2201601Au, /*      str  r2, [r3]            movs r2, #1                                               */
    0x48086082u, /*      str  r2, [r0, #0x08]     ldr  r0, table        SSIENR: on; flash can be read now   */
    0x60184B08u, /*      ldr  r3, vtor            str  r0, [r3]                                             */
    0x68426801u, /*      ldr  r1, [r0, #0]        ldr  r2, [r0, #4]     the program's stack and its start   */
    0x8808F381u, /*      msr  msp, r1                                                                       */
    0x46C04710u, /*      bx   r2                  nop                                                       */
    0x18000000u, /* ssi                                                                                     */
    0x001F0300u, /* ctrlr0: one data line, 32 bits a frame, command and address out, then data in           */
    0x03000218u, /* spi_ctrlr0: command 03h of 8 bits, address of 24 bits                                   */
    0x180000F4u, /* spi_ctrlr0_at                                                                           */
    0x10000100u, /* table: the vector table, behind these bytes                                             */
    0xE000ED08u, /* vtor                                                                                    */
    [63] = 0x6A6AD4E2u,
};
