/* Runs the golden vectors and says on eq_port_write_byte what came out, one "name value" a line; ends with 0 when every
 * byte is right, 1 when one is not, 2 when memory beyond the arena or the stack's limit was touched. */
#include "eq_golden.h"
#include "eq_port.h"
#include "eq_text.h"
#include "eq_watermark.h"
#include "model.h"

#include <stddef.h>
#include <string.h>

#define GUARD_BYTES 64u

static _Alignas(EQ_MODEL_ARENA_ALIGNMENT) uint8_t arena[EQ_MODEL_ARENA_BYTES + GUARD_BYTES];

#ifdef EQ_MODEL_AFTER_OPERATOR
static uint32_t operator_ticks[EQ_MODEL_OPERATORS];
static uint32_t last_ticks;

void EQ_MODEL_AFTER_OPERATOR(uint32_t number)
{
    const uint32_t now = eq_port_ticks();
    operator_ticks[number] = now - last_ticks;
    last_ticks = eq_port_ticks();
}
#endif

static uint32_t load(uint32_t vector)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < eq_golden_inputs; ++i) {
        all += eq_golden_input_ports[i].size_bytes;
    }
    const uint8_t *from = &eq_golden_input_bytes[(size_t)vector * all];
    for (uint32_t i = 0; i < eq_golden_inputs; ++i) {
        memcpy(&arena[eq_golden_input_ports[i].offset], from, eq_golden_input_ports[i].size_bytes);
        from += eq_golden_input_ports[i].size_bytes;
    }
    return all;
}

static uint32_t count_differing(uint32_t vector)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < eq_golden_outputs; ++i) {
        all += eq_golden_output_ports[i].size_bytes;
    }
    const uint8_t *expected = &eq_golden_output_bytes[(size_t)vector * all];
    uint32_t differing = 0;
    for (uint32_t i = 0; i < eq_golden_outputs; ++i) {
        const uint8_t *const given = &arena[eq_golden_output_ports[i].offset];
        for (uint32_t k = 0; k < eq_golden_output_ports[i].size_bytes; ++k) {
            differing += given[k] != *expected++ ? 1u : 0u;
        }
    }
    return differing;
}

static uint32_t run(uint32_t vector, uint32_t *ticks)
{
    (void)eq_model_reset(arena);
    (void)load(vector);
    const uint32_t begin = eq_port_ticks();
#ifdef EQ_MODEL_AFTER_OPERATOR
    last_ticks = begin;
#endif
    const int status = eq_model_invoke(arena);
    *ticks = eq_port_ticks() - begin;
    return status == EQ_MODEL_OK ? count_differing(vector) : EQ_MODEL_ARENA_BYTES;
}

static void write_profile(void)
{
#ifdef EQ_MODEL_AFTER_OPERATOR
    for (uint32_t i = 0; i < EQ_MODEL_OPERATORS; ++i) {
        eq_text_write("eq-operator-");
        eq_text_write_u32(i);
        eq_text_write("-");
        eq_text_write_field(eq_golden_operators[i], operator_ticks[i]);
    }
#endif
}

int main(void)
{
    eq_port_init();
    eq_watermark_paint(arena, sizeof arena);
    const size_t painted_bytes = eq_watermark_paint_stack();
    uint32_t differing = 0;
    uint32_t fewest = UINT32_MAX;
    uint32_t most = 0;
    for (uint32_t vector = 0; vector < eq_golden_vectors; ++vector) {
        uint32_t ticks = 0;
        differing += run(vector, &ticks);
        fewest = ticks < fewest ? ticks : fewest;
        most = ticks > most ? ticks : most;
    }
    const size_t arena_bytes = eq_watermark_from_start(arena, sizeof arena);
    const size_t stack_bytes = eq_watermark_stack();
    const uint8_t *const limit = eq_port_stack_limit();
    const int is_inside = arena_bytes <= EQ_MODEL_ARENA_BYTES &&
                          (painted_bytes == 0u || limit[0] == EQ_WATERMARK_PAINT);
    eq_text_write("eq-model " EQ_MODEL_SHA256 "\n");
    eq_text_write_field("eq-vectors", eq_golden_vectors);
    eq_text_write_field("eq-differing-bytes", differing);
    eq_text_write_field("eq-ticks-fewest", fewest);
    eq_text_write_field("eq-ticks-most", most);
    eq_text_write_field("eq-ticks-per-second", eq_port_tick_hz());
    eq_text_write_field("eq-arena-bytes", EQ_MODEL_ARENA_BYTES);
    eq_text_write_field("eq-arena-used-bytes", (uint32_t)arena_bytes);
    eq_text_write_field("eq-stack-used-bytes", (uint32_t)stack_bytes);
    write_profile();
    eq_text_write(differing == 0u && is_inside ? "eq-done ok\n" : "eq-done failed\n");
    return !is_inside ? 2 : differing == 0u ? 0 : 1;
}
