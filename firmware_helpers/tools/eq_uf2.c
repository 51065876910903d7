/* eq_uf2 IMAGE.bin OUT.uf2 ORIGIN FAMILY: a flash image as UF2, which the boot ROMs of RP2040 and RP2350 take on their USB
 * drive. For the computer that builds, not for the board. Source: microsoft/uf2, README.md: blocks of 512 bytes with 256 of
 * payload, little-endian. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 512u
#define PAYLOAD_BYTES 256u
#define MAX_BLOCKS 65536u /* 16 MiB, all the flash that these chips address */
#define FAMILY_IS_GIVEN 0x00002000u

static void put(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4u; ++i) {
        at[i] = (uint8_t)(value >> (8u * i));
    }
}

static int number(const char *text, uint32_t *value)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long read = strtoull(text, &end, 0);
    *value = (uint32_t)read;
    return errno == 0 && end != text && *end == '\0' && *text != '-' && read <= UINT32_MAX;
}

static uint32_t blocks_of(FILE *image)
{
    if (fseek(image, 0, SEEK_END) != 0) {
        return 0;
    }
    const long bytes = ftell(image);
    if (bytes <= 0 || (unsigned long)bytes > (unsigned long)MAX_BLOCKS * PAYLOAD_BYTES ||
        fseek(image, 0, SEEK_SET) != 0) {
        return 0;
    }
    return ((uint32_t)bytes + PAYLOAD_BYTES - 1u) / PAYLOAD_BYTES;
}

static int convert(FILE *image, FILE *out, uint32_t origin, uint32_t family)
{
    const uint32_t blocks = blocks_of(image);
    for (uint32_t number_of_block = 0; number_of_block < blocks; ++number_of_block) {
        uint8_t block[BLOCK_BYTES] = {0};
        const size_t got = fread(&block[32], 1, PAYLOAD_BYTES, image);
        if (got == 0u) {
            return -1;
        }
        put(&block[0], 0x0A324655u);
        put(&block[4], 0x9E5D5157u);
        put(&block[8], FAMILY_IS_GIVEN);
        put(&block[12], origin + number_of_block * PAYLOAD_BYTES);
        put(&block[16], PAYLOAD_BYTES);
        put(&block[20], number_of_block);
        put(&block[24], blocks);
        put(&block[28], family);
        put(&block[508], 0x0AB16F30u);
        if (fwrite(block, 1, sizeof block, out) != sizeof block) {
            return -1;
        }
    }
    return blocks == 0u ? -1 : 0;
}

int main(int argc, char **argv)
{
    uint32_t origin = 0;
    uint32_t family = 0;
    if (argc != 5 || !number(argv[3], &origin) || !number(argv[4], &family) || origin % PAYLOAD_BYTES != 0u) {
        fprintf(stderr, "usage: eq_uf2 IMAGE.bin OUT.uf2 ORIGIN FAMILY\n");
        return 2;
    }
    FILE *const image = fopen(argv[1], "rb");
    FILE *const out = image != NULL ? fopen(argv[2], "wb") : NULL;
    int status = image != NULL && out != NULL ? convert(image, out, origin, family) : -1;
    status = out != NULL && fclose(out) != 0 ? -1 : status;
    if (image != NULL) {
        (void)fclose(image);
    }
    if (status != 0) {
        fprintf(stderr, "eq_uf2: cannot convert %s: empty, larger than 16 MiB, or not to be read or written\n",
                argv[1]);
        (void)remove(argv[2]);
        return 1;
    }
    return 0;
}
