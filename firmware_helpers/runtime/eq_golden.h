/* Golden vectors: inputs, and the outputs that the same model gave on the host. golden.c is generated. */
#ifndef EQ_GOLDEN_H
#define EQ_GOLDEN_H

#include <stdint.h>

/* Where an input or output lies in the arena, and what its integers mean:
 * real * 1000 = (stored - zero_point) * milli_q16 / 65536. */
typedef struct {
    uint32_t offset;
    uint32_t size_bytes;
    uint8_t element_bytes; /* 1, 2 or 4 */
    int32_t zero_point;
    int64_t milli_q16;
} eq_golden_port;

/* SHA-256 over the sources of this firmware: a board that was flashed with others says so by it. */
extern const char eq_golden_firmware[];

extern const uint32_t eq_golden_vectors;
extern const uint32_t eq_golden_inputs;
extern const uint32_t eq_golden_outputs;
extern const eq_golden_port eq_golden_input_ports[];
extern const eq_golden_port eq_golden_output_ports[];

/* Vector after vector, in each the ports in their order, as bytes of a little-endian machine. */
extern const uint8_t eq_golden_input_bytes[];
extern const uint8_t eq_golden_output_bytes[];

/* Names of the operators, for a profile of each. */
extern const char *const eq_golden_operators[];

#endif
