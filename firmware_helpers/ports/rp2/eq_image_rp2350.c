/* What an RP2350's boot ROM looks for in the first 4 KiB of flash: an image definition that says "a program, secure, Arm,
 * RP2350", a list of one block that links to itself. The vector table is where the image begins.
 * Source: RP2350 Datasheet, 5.9.5.1, minimum Arm IMAGE_DEF. */
#include <stdint.h>

__attribute__((section(".image_definition"), used)) static const uint32_t eq_image_definition[5] = {
    0xFFFFDED3u, /* begin */
    0x10210142u, /* item 0x42 (image type) of one word: executable, secure, Arm, RP2350 */
    0x000001FFu, /* last item; one word of items before it */
    0x00000000u, /* the next block: this one */
    0xAB123579u, /* end */
};
