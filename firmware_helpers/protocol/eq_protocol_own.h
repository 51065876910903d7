/* Commands beyond MLPerf Tiny's, for a host that wants exact bytes and ticks. T is the host's tag, which comes back.
 *
 *     eq-about T%               m-eq-about-[T,1,input bytes,output bytes,arena bytes,ticks per second]
 *                               m-eq-firmware-[T,SHA-256 of the sources]   m-eq-model-[T,SHA-256 of the model]
 *                               m-eq-core-[T,architecture]   m-eq-compiler-[T,version]
 *     eq-input T%               m-eq-input-[T,bytes loaded,their CRC-32]
 *     eq-infer T%               m-eq-began-[T]; resets the model, one inference;
 *                               m-eq-infer-[T,status,ticks of the reset,ticks of the inference]
 *     eq-run T N B W%           m-eq-run-[T,N,B,W]; W inferences to warm up, then N times B of them:
 *                               m-eq-ticks-[T,number,ticks of B inferences] each; m-eq-ran-[T,N]
 *     eq-output T OFFSET COUNT% m-eq-output-[T,OFFSET,HH...]: output bytes of the last inference
 *     eq-memory T%              m-eq-memory-[T,arena bytes,of them used,stack used,stack bytes,1 where nothing wrote beyond]
 *
 * Behind each of these lines stand '#' and the CRC-32 of all before it: a line that noise has changed is not believed.
 * Ticks are those of the inference alone, without the copy of its inputs. Bytes of stack are 0 where the port does not
 * know its stack.
 */
#ifndef EQ_PROTOCOL_OWN_H
#define EQ_PROTOCOL_OWN_H

#include "model.h"

#include <stdint.h>

#define EQ_PROTOCOL_GUARD_BYTES 64u

/* The model's memory, behind it bytes that it must not touch, and the input as it was loaded: an inference may write
 * over the arena's own. */
typedef struct {
    _Alignas(EQ_MODEL_ARENA_ALIGNMENT) uint8_t arena[EQ_MODEL_ARENA_BYTES + EQ_PROTOCOL_GUARD_BYTES];
    uint8_t loaded[EQ_MODEL_INPUT_BYTES];
    uint32_t loaded_bytes;
    uint32_t painted_stack_bytes;
} eq_protocol_model;

/* Copies the loaded input into the arena. */
void eq_protocol_fill(eq_protocol_model *model);

/* A decimal number at *at, which moves behind it; above `most` or without digits it is refused with 0. */
int eq_protocol_read_number(const char **at, uint32_t most, uint32_t *number);

/* Answers a command that begins with "eq-"; returns 0 where it is none of ours, or its numbers are wrong. */
int eq_protocol_answer_own(const char *command, eq_protocol_model *model);

#endif
