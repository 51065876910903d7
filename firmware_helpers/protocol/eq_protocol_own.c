#include "eq_protocol_own.h"

#include "eq_golden.h"
#include "eq_port.h"
#include "eq_text.h"
#include "eq_watermark.h"

#include <string.h>

#define VERSION 1u
#define MAX_TAG 0xffffffu
#define MAX_RUNS 100000u
#define MAX_ARGUMENTS 3

#if defined(__x86_64__)
#define CORE "x86_64"
#elif defined(__aarch64__)
#define CORE "aarch64"
#elif defined(__ARM_ARCH_6M__)
#define CORE "armv6-m"
#elif defined(__ARM_ARCH_7M__)
#define CORE "armv7-m"
#elif defined(__ARM_ARCH_7EM__)
#define CORE "armv7e-m"
#elif defined(__ARM_ARCH_8_1M_MAIN__)
#define CORE "armv8.1-m.main"
#elif defined(__ARM_ARCH_8M_MAIN__)
#define CORE "armv8-m.main"
#elif defined(__riscv) && __riscv_xlen == 32
#define CORE "riscv32"
#elif defined(__XTENSA__)
#define CORE "xtensa"
#else
#define CORE "unknown"
#endif

#ifdef __VERSION__
#define COMPILER __VERSION__
#else
#define COMPILER "unknown"
#endif

static uint32_t line_crc;

static uint32_t crc_next(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
        crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return crc;
}

static void put(uint8_t sign)
{
    line_crc = crc_next(line_crc, sign);
    eq_port_write_byte(sign);
}

static void put_text(const char *text)
{
    for (; *text != '\0'; ++text) {
        put((uint8_t)*text);
    }
}

static void put_number(uint32_t value)
{
    char digits[EQ_TEXT_U32_BYTES];
    put_text(eq_text_u32(digits, value));
}

static void begin_line(const char *name, uint32_t tag)
{
    line_crc = UINT32_MAX;
    put_text("m-eq-");
    put_text(name);
    put_text("-[");
    put_number(tag);
}

static void add_number(uint32_t value)
{
    put((uint8_t)',');
    put_number(value);
}

static void end_line(void)
{
    put((uint8_t)']');
    eq_text_write("#");
    eq_text_write_hex32(~line_crc);
    eq_text_write("\r\n");
}

static void write_text_line(const char *name, uint32_t tag, const char *text)
{
    begin_line(name, tag);
    put((uint8_t)',');
    put_text(text);
    end_line();
}

static void about(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    (void)numbers;
    (void)model;
    begin_line("about", tag);
    add_number(VERSION);
    add_number(EQ_MODEL_INPUT_BYTES);
    add_number(EQ_MODEL_OUTPUT_BYTES);
    add_number(EQ_MODEL_ARENA_BYTES);
    add_number(eq_port_tick_hz());
    end_line();
    write_text_line("firmware", tag, eq_golden_firmware);
    write_text_line("model", tag, EQ_MODEL_SHA256);
    write_text_line("core", tag, CORE);
    write_text_line("compiler", tag, COMPILER);
}

static void input(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    (void)numbers;
    uint32_t crc = UINT32_MAX;
    for (uint32_t i = 0; i < model->loaded_bytes; ++i) {
        crc = crc_next(crc, model->loaded[i]);
    }
    begin_line("input", tag);
    add_number(model->loaded_bytes);
    add_number(~crc);
    end_line();
}

void eq_protocol_fill(eq_protocol_model *model)
{
    const uint8_t *from = model->loaded;
    for (uint32_t i = 0; i < eq_golden_inputs; ++i) {
        memcpy(&model->arena[eq_golden_input_ports[i].offset], from, eq_golden_input_ports[i].size_bytes);
        from += eq_golden_input_ports[i].size_bytes;
    }
}

static uint32_t timed_inference(eq_protocol_model *model, int *status)
{
    eq_protocol_fill(model);
    const uint32_t begin = eq_port_ticks();
    *status = eq_model_invoke(model->arena);
    return eq_port_ticks() - begin;
}

static void infer(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    (void)numbers;
    begin_line("began", tag);
    end_line();
    const uint32_t begin = eq_port_ticks();
    (void)eq_model_reset(model->arena);
    const uint32_t reset_ticks = eq_port_ticks() - begin;
    int status = EQ_MODEL_OK;
    const uint32_t ticks = timed_inference(model, &status);
    begin_line("infer", tag);
    add_number(status == EQ_MODEL_OK ? 0u : 1u);
    add_number(reset_ticks);
    add_number(ticks);
    end_line();
}

static void run(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    int status = EQ_MODEL_OK;
    begin_line("run", tag);
    for (int i = 0; i < 3; ++i) {
        add_number(numbers[i]);
    }
    end_line();
    for (uint32_t i = 0; i < numbers[2]; ++i) {
        (void)timed_inference(model, &status);
    }
    for (uint32_t i = 0; i < numbers[0]; ++i) {
        uint32_t ticks = 0;
        for (uint32_t k = 0; k < numbers[1]; ++k) {
            ticks += timed_inference(model, &status);
        }
        begin_line("ticks", tag);
        add_number(i);
        add_number(ticks);
        end_line();
    }
    begin_line("ran", tag);
    add_number(numbers[0]);
    end_line();
}

/* The byte of all outputs one after the other at a place that is below EQ_MODEL_OUTPUT_BYTES. */
static uint8_t output_byte(const eq_protocol_model *model, uint32_t place)
{
    uint32_t port = 0;
    while (place >= eq_golden_output_ports[port].size_bytes) {
        place -= eq_golden_output_ports[port].size_bytes;
        ++port;
    }
    return model->arena[eq_golden_output_ports[port].offset + place];
}

static void output(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    static const char digits[] = "0123456789abcdef";
    begin_line("output", tag);
    add_number(numbers[0]);
    put((uint8_t)',');
    for (uint32_t i = 0; i < numbers[1] && numbers[0] + i < EQ_MODEL_OUTPUT_BYTES; ++i) {
        const uint8_t byte = output_byte(model, numbers[0] + i);
        put((uint8_t)digits[byte >> 4]);
        put((uint8_t)digits[byte & 15u]);
    }
    end_line();
}

static void memory(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model)
{
    (void)numbers;
    const uint8_t *const limit = eq_port_stack_limit();
    const uint32_t used = (uint32_t)eq_watermark_from_start(model->arena, sizeof model->arena);
    const uint32_t stack_bytes = limit == NULL ? 0u : (uint32_t)((uintptr_t)eq_port_stack_top() - (uintptr_t)limit);
    const int is_stack_free = model->painted_stack_bytes == 0u || limit[0] == EQ_WATERMARK_PAINT;
    begin_line("memory", tag);
    add_number(EQ_MODEL_ARENA_BYTES);
    add_number(used);
    add_number((uint32_t)eq_watermark_stack());
    add_number(stack_bytes);
    add_number(used <= EQ_MODEL_ARENA_BYTES && is_stack_free ? 1u : 0u);
    end_line();
}

typedef struct {
    const char *name;
    void (*answer)(uint32_t tag, const uint32_t *numbers, eq_protocol_model *model);
    int arguments;
    uint32_t most[MAX_ARGUMENTS];
} command_row;

static const command_row commands[] = {
    {"about", about, 0, {0}},
    {"input", input, 0, {0}},
    {"infer", infer, 0, {0}},
    {"run", run, 3, {MAX_RUNS, MAX_RUNS, MAX_RUNS}},
    {"output", output, 2, {EQ_MODEL_OUTPUT_BYTES, MAX_RUNS}},
    {"memory", memory, 0, {0}},
};

int eq_protocol_answer_own(const char *command, eq_protocol_model *model)
{
    if (strncmp(command, "eq-", 3) != 0) {
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; ++i) {
        const size_t size = strlen(commands[i].name);
        if (strncmp(command + 3, commands[i].name, size) != 0 || command[3 + size] != ' ') {
            continue;
        }
        const char *text = command + 3 + size;
        uint32_t tag = 0;
        uint32_t numbers[MAX_ARGUMENTS] = {0};
        int are_right = eq_protocol_read_number(&text, MAX_TAG, &tag);
        for (int k = 0; are_right && k < commands[i].arguments; ++k) {
            are_right = eq_protocol_read_number(&text, commands[i].most[k], &numbers[k]);
        }
        if (!are_right || *text != '\0') {
            return 0;
        }
        commands[i].answer(tag, numbers, model);
        return 1;
    }
    return 0;
}
