#include "eq_protocol.h"

#include "eq_golden.h"
#include "eq_port.h"
#include "eq_protocol_own.h"
#include "eq_text.h"
#include "eq_watermark.h"
#include "model.h"

#include <stddef.h>
#include <string.h>

#define MAX_RUNS 1000000u

static eq_protocol_model model;
static uint32_t expected_bytes;

static char line[EQ_PROTOCOL_LINE_BYTES + 1u];
static uint32_t length;
static uint8_t is_too_long;

static void end_line(const char *text)
{
    eq_text_write(text);
    eq_text_write("\r\n");
}

static void write_error(const char *text)
{
    eq_text_write("e-[");
    eq_text_write(text);
    end_line("]");
}

/* Ticks in 64 bits: the counter itself starts again after seconds or minutes. Whoever is called
 * more often than that misses none. */
static uint64_t elapsed_ticks(void)
{
    static uint64_t elapsed;
    static uint32_t last;
    const uint32_t now = eq_port_ticks();
    elapsed += now - last;
    last = now;
    return elapsed;
}

/* Microseconds as 32 bits have them: they start again after 71 minutes. */
static void write_timestamp(void)
{
    const uint32_t hz = eq_port_tick_hz();
    const uint64_t ticks = elapsed_ticks();
    eq_text_write("m-lap-us-");
    eq_text_write_u32((uint32_t)(hz == 0u ? ticks : ticks / hz * 1000000u + ticks % hz * 1000000u / hz));
    end_line("");
}

int eq_protocol_read_number(const char **at, uint32_t most, uint32_t *number)
{
    uint32_t value = 0;
    const char *from = *at;
    while (*from == ' ') {
        ++from;
    }
    const char *const begin = from;
    for (; *from >= '0' && *from <= '9'; ++from) {
        value = value * 10u + (uint32_t)(*from - '0');
        if (value > most) {
            return 0;
        }
    }
    *at = from;
    *number = value;
    return from != begin;
}

static int hex_digit(char sign)
{
    if (sign >= '0' && sign <= '9') {
        return sign - '0';
    }
    if (sign >= 'a' && sign <= 'f') {
        return sign - 'a' + 10;
    }
    return sign >= 'A' && sign <= 'F' ? sign - 'A' + 10 : -1;
}

static void begin_load(const char *text)
{
    uint32_t count = 0;
    if (!eq_protocol_read_number(&text, UINT32_MAX / 16u, &count) || *text != '\0' || count != EQ_MODEL_INPUT_BYTES) {
        write_error("db load wants the bytes of the model's inputs");
        return;
    }
    expected_bytes = count;
    model.loaded_bytes = 0;
    eq_text_write("m-[Expecting ");
    eq_text_write_u32(count);
    end_line(" bytes]");
}

static void load(const char *text)
{
    while (*text == ' ') {
        ++text;
    }
    for (; *text != '\0'; text += 2) {
        const int high = hex_digit(text[0]);
        const int low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0 || model.loaded_bytes >= expected_bytes) {
            write_error(low < 0 ? "db wants pairs of hexadecimal digits" : "more bytes than db load announced");
            expected_bytes = model.loaded_bytes = 0;
            return;
        }
        model.loaded[model.loaded_bytes++] = (uint8_t)(high * 16 + low);
    }
    if (expected_bytes != 0u && model.loaded_bytes == expected_bytes) {
        end_line("m-load-done");
    }
}

static void infer_once(void)
{
    eq_protocol_fill(&model);
    (void)eq_model_invoke(model.arena);
    (void)elapsed_ticks();
}

static int32_t stored_value(const uint8_t *at, uint8_t element_bytes)
{
    uint32_t bits = 0;
    for (uint32_t i = element_bytes; i-- > 0u;) {
        bits = (bits << 8) | at[i];
    }
    const uint32_t sign = 1u << (8u * element_bytes - 1u);
    return (int32_t)((bits ^ sign) - sign);
}

static void write_milli(int64_t milli)
{
    const uint64_t size = milli < 0 ? (uint64_t)-milli : (uint64_t)milli;
    if (milli < 0) {
        eq_text_write("-");
    }
    eq_text_write_u32((uint32_t)(size / 1000u));
    eq_text_write(".");
    eq_port_write_byte((uint8_t)('0' + (int)(size / 100u % 10u)));
    eq_port_write_byte((uint8_t)('0' + (int)(size / 10u % 10u)));
    eq_port_write_byte((uint8_t)('0' + (int)(size % 10u)));
}

static void write_results(void)
{
    eq_text_write("m-results-[");
    for (uint32_t i = 0; i < eq_golden_outputs; ++i) {
        const eq_golden_port *const port = &eq_golden_output_ports[i];
        for (uint32_t k = 0; k < port->size_bytes; k += port->element_bytes) {
            const int64_t steps = (int64_t)stored_value(&model.arena[port->offset + k], port->element_bytes) -
                                  port->zero_point;
            if (i + k != 0u) {
                eq_text_write(",");
            }
            write_milli(steps * port->milli_q16 / 65536);
        }
    }
    end_line("]");
}

static void infer(const char *text)
{
    uint32_t runs = 0;
    uint32_t warmup = 0;
    if (!eq_protocol_read_number(&text, MAX_RUNS, &runs) ||
        (*text != '\0' && !eq_protocol_read_number(&text, MAX_RUNS, &warmup)) || *text != '\0' || runs == 0u) {
        write_error("infer wants a number of inferences, and one to warm up");
        return;
    }
    eq_text_write("m-warmup-start-");
    eq_text_write_u32(warmup);
    end_line("");
    for (uint32_t i = 0; i < warmup; ++i) {
        infer_once();
    }
    end_line("m-warmup-done");
    eq_text_write("m-infer-start-");
    eq_text_write_u32(runs);
    end_line("");
    write_timestamp();
    for (uint32_t i = 0; i < runs; ++i) {
        infer_once();
    }
    write_timestamp();
    end_line("m-infer-done");
    write_results();
}

/* The rest of a command behind its name, or null where it is another one. */
static const char *rest(const char *command, const char *name)
{
    const size_t size = strlen(name);
    if (strncmp(command, name, size) != 0 || (command[size] != '\0' && command[size] != ' ')) {
        return NULL;
    }
    return command + size;
}

static void answer(const char *command)
{
    const char *text = NULL;
    if ((text = rest(command, "name")) != NULL) {
        end_line("m-name-dut-[edgeq]");
    } else if ((text = rest(command, "profile")) != NULL) {
        end_line("m-profile-[edgeq]");
        end_line("m-model-[" EQ_MODEL_SHA256 "]");
    } else if ((text = rest(command, "timestamp")) != NULL) {
        write_timestamp();
    } else if ((text = rest(command, "db load")) != NULL) {
        begin_load(text);
    } else if ((text = rest(command, "db")) != NULL) {
        load(text);
    } else if ((text = rest(command, "infer")) != NULL) {
        infer(text);
    } else if ((text = rest(command, "results")) != NULL) {
        write_results();
    } else if (!eq_protocol_answer_own(command, &model)) {
        write_error("unknown command");
    }
    end_line("m-ready");
}

void eq_protocol_begin(void)
{
    eq_watermark_paint(model.arena, sizeof model.arena);
    model.painted_stack_bytes = (uint32_t)eq_watermark_paint_stack();
    (void)eq_model_reset(model.arena);
    length = 0;
    is_too_long = 0;
    end_line("m-init-done");
    end_line("m-ready");
}

void eq_protocol_take(uint8_t byte)
{
    if (byte == (uint8_t)'%') {
        line[length] = '\0';
        if (is_too_long) {
            write_error("command too long");
            end_line("m-ready");
        } else {
            answer(line);
        }
        length = 0;
        is_too_long = 0;
    } else if (byte >= 0x20u && byte < 0x7fu) { /* line ends and noise are passed over */
        if (length < EQ_PROTOCOL_LINE_BYTES) {
            line[length++] = (char)byte;
        } else {
            is_too_long = 1;
        }
    }
}
