/* MLPerf Tiny's line protocol: commands end in '%', answers are lines that begin with "m-" or, for errors, "e-[".
 *
 *     name%            m-name-dut-[edgeq]
 *     profile%         m-profile-[edgeq], m-model-[SHA-256 of the model]
 *     timestamp%       m-lap-us-N
 *     db load N%       m-[Expecting N bytes]; then db HH...% until all are there: m-load-done
 *     infer N W%       W inferences to warm up, then N between two timestamps, then the results
 *     results%         m-results-[a,b,...] with three decimals
 *
 * Commands of our own begin with "eq-", see eq_protocol_own.h. Every command is followed by m-ready. Ticks that are no time (an emulator's) stand in the timestamps as they are.
 */
#ifndef EQ_PROTOCOL_H
#define EQ_PROTOCOL_H

#include <stdint.h>

/* Longest command without its '%': the runner's own limit is 80. */
#define EQ_PROTOCOL_LINE_BYTES 160u

/* Says m-init-done and m-ready; call once. */
void eq_protocol_begin(void);

/* Takes one byte of the line; a command is answered when its '%' comes. */
void eq_protocol_take(uint8_t byte);

#endif
