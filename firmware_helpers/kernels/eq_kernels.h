/* Kernels of int8 activations, and of int16 activations with int8 weights (16x8), for generated models.
 *
 * Results equal tflite-micro's reference kernels byte for byte (double rounding, as both interpreters are built).
 *
 * Rules of the house
 * - Every size comes from a parameter struct that the generator wrote into flash. Nothing is allocated, nothing recurses.
 * - Tensors are dense, the last axis fastest; images are NHWC. A batch is the outermost axis.
 * - `bias` is never NULL: the generator writes zeros where the model has none.
 * - Scratch memory belongs to the caller, is aligned to 4 bytes, and may be used by the next operator at once.
 *   eq_..._get_buffer_size() gives its bytes; edgeq.codegen.layouts has the twin for the planner.
 * - Output may not overlap an input unless the operator's comment says how.
 *
 * int16: kernels named _s16 have the _s8 ones' parameters where nothing else is said. Zero points are 0 (all offsets of the
 * parameters are), biases have 64 bits, weights are int8.
 *
 * Python twins, bit for bit: edgeq.codegen.multipliers (multipliers, clamps, ADD, SOFTMAX), edgeq.codegen.tables
 * (256-entry tables), edgeq.codegen.layouts (weights, scratch, overlap), edgeq.codegen.strides (copies, broadcasts).
 *
 * Macros
 * - EQ_NARROW_ACCUMULATORS: defined by the generator for the whole model when multipliers.is_narrow() holds for every
 *   conv, depthwise and dense layer: every |accumulator| < 2^30 and no left shift. Saves 8 instructions for each output.
 * - EQ_EMULATE_DSP: compile the DSP paths with plain C stand-ins for the instructions (tests on the host).
 */
#ifndef EQ_KERNELS_H
#define EQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How an accumulator becomes an output: out = clamp(round(acc * multiplier * 2^(-31 - right_shift)) + offset).
 *
 * `right_shift` is the NEGATIVE of TFLite's shift: 0..31 shifts right, -1..-31 left. With `step` 1 both tables have one
 * entry for each output channel, with `step` 0 one entry for the whole tensor. */
typedef struct {
    const int32_t *multiplier;
    const int8_t *right_shift;
    uint8_t step;
    int16_t offset; /* the output's zero point */
    int16_t act_min;
    int16_t act_max;
} eq_output_s8;

/* The same struct for layers of int16, made by multipliers.wide_output(): the multiplier has 16 bits, right_shift is 8..46,
 * and out = clamp((acc * multiplier + 2^(right_shift - 1)) >> right_shift) with an accumulator of 64 bits. */

/* ------------------------------------------------------------------------------------------------ CONV_2D
 *
 * weights: layouts.pack_conv(). For each group: `rows` = out_c / groups channels of `depth` = kernel_h * kernel_w *
 *   (in_c / groups) bytes, in the order ky, kx, c; depth is padded with zeros to `depth4`, a multiple of 4. Channels go in
 *   blocks of 4: block[depth4 / 4][4 channels][4 bytes]; the rest (rows % 4) follows channel after channel.
 * scratch: eq_conv2d_s8_get_buffer_size(): 2 pixels * depth4 * 2 bytes, and depth4 more where in_c / groups is no multiple of 4.
 * DEPTHWISE_CONV_2D with a depth multiplier above 1 is this kernel with groups = in_c.
 * Overlap (groups = 1 only): pixels are read and written in rising order, two at a time; both pixels' windows are read before
 *   either is written. layouts.conv_overlap() says how many bytes before the input the output must begin. A 1x1
 *   convolution of stride 1 with out_c <= in_c may write onto its own input (out == in).
 */
typedef struct {
    uint16_t batches, in_h, in_w, in_c, out_h, out_w, out_c, groups;
    uint16_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    uint16_t pad_top, pad_left;
    int16_t in_offset; /* minus the input's zero point: -127..128 */
    eq_output_s8 out;
} eq_conv2d_params;

size_t eq_conv2d_s8_get_buffer_size(const eq_conv2d_params *p);
void eq_conv2d_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                  int8_t *output, void *scratch);

/* int16: layouts.pack_conv(wide=True), the second and third of each four weights change places. Overlap as above, in values. */
size_t eq_conv2d_s16_get_buffer_size(const eq_conv2d_params *p);
void eq_conv2d_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights, const int64_t *bias,
                   int16_t *output, void *scratch);

/* ------------------------------------------------------------------------------------------------ DEPTHWISE_CONV_2D
 *
 * Depth multiplier 1: out_c = in_c; `groups` is not read.
 * weights: layouts.pack_depthwise(): blocks of 4 channels, block[kernel_h][kernel_w][4]; the rest (in_c % 4) follows
 *   channel after channel, [kernel_h][kernel_w]. No scratch.
 * Overlap: pixels in rising order, one at a time, but a pixel is written in blocks of 4 channels, each block after the
 *   reading of the same 4 channels of its window: layouts.depthwise_overlap(). A 1x1 kernel of stride 1 may write in place.
 */
void eq_depthwise_conv2d_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                            int8_t *output);

/* int16: layouts.pack_depthwise(wide=True), the second and third channel of each block change places; at most 511 taps. */
void eq_depthwise_conv2d_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights,
                             const int64_t *bias, int16_t *output);

/* ------------------------------------------------------------------------------------------------ TRANSPOSE_CONV
 *
 * in_h/in_w/in_c and out_h/out_w/out_c are the operator's input and output; stride, kernel and pad as in the model's
 * TransposeConvOptions; dilation 1. weights: as in the model, [out_c][kernel_h][kernel_w][in_c]. No scratch.
 */
void eq_transpose_conv_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                          int8_t *output);
void eq_transpose_conv_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights, const int64_t *bias,
                           int16_t *output);

/* ------------------------------------------------------------------------------------------------ FULLY_CONNECTED
 *
 * weights: layouts.pack_dense(): as one group of CONV_2D with rows = out_c, depth = in_c.
 * scratch: depth4 * 2 bytes.  Input [batches][in_c], output [batches][out_c]. Weights with a zero point: the generator
 * refuses them (tflite-micro does too).
 * Overlap: one row of the batch is read wholly before it is written: out == in is allowed where out_c <= in_c.
 */
typedef struct {
    uint16_t batches, in_c, out_c;
    int16_t in_offset;
    eq_output_s8 out;
} eq_fully_connected_params;

size_t eq_fully_connected_s8_get_buffer_size(const eq_fully_connected_params *p);
void eq_fully_connected_s8(const eq_fully_connected_params *p, const int8_t *input, const int8_t *weights,
                           const int32_t *bias, int8_t *output, void *scratch);

/* int16: layouts.pack_dense(wide=True). Scratch may begin where the input does, or before. */
size_t eq_fully_connected_s16_get_buffer_size(const eq_fully_connected_params *p);
void eq_fully_connected_s16(const eq_fully_connected_params *p, const int16_t *input, const int8_t *weights,
                            const int64_t *bias, int16_t *output, void *scratch);

/* ------------------------------------------------------------------------------------------------ pooling
 *
 * Fused activation as a clamp. Output may be written onto the input (out == in) when stride >= kernel and nothing is padded.
 */
typedef struct {
    uint16_t batches, in_h, in_w, channels, out_h, out_w;
    uint16_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
    int16_t act_min, act_max;
} eq_pool_params;

void eq_average_pool_s8(const eq_pool_params *p, const int8_t *input, int8_t *output);
void eq_max_pool_s8(const eq_pool_params *p, const int8_t *input, int8_t *output);
void eq_average_pool_s16(const eq_pool_params *p, const int16_t *input, int16_t *output);
void eq_max_pool_s16(const eq_pool_params *p, const int16_t *input, int16_t *output);

/* ------------------------------------------------------------------------------------------------ two operands
 *
 * strides.broadcast() makes the shape: up to 5 axes, outermost first, leading axes 1; strides in elements, 0 where an
 * operand is repeated. Axes that both operands walk densely are merged, so equal shapes are {1,1,1,1,n}.
 * output may be one of the operands where that operand's shape is the output's.
 */
typedef struct {
    uint32_t dims[5];
    uint32_t stride_a[5];
    uint32_t stride_b[5];
} eq_broadcast;

/* ADD and SUB: multipliers.add(). Each operand: (x + offset) << 20 (int16: 15), times its multiplier; sum or (sign -1) difference; then
 * the output's multiplier. `shift` are right shifts, 0 or more. */
typedef struct {
    eq_broadcast shape;
    int32_t a_multiplier, b_multiplier, out_multiplier;
    int8_t a_shift, b_shift, out_shift;
    int8_t sign; /* 1 ADD, -1 SUB */
    int16_t a_offset, b_offset, out_offset, act_min, act_max;
} eq_add_params;

void eq_add_s8(const eq_add_params *p, const int8_t *a, const int8_t *b, int8_t *output);
void eq_add_s16(const eq_add_params *p, const int16_t *a, const int16_t *b, int16_t *output);

/* MUL: multipliers.mul(); out_shift as right_shift above (may be negative). */
typedef struct {
    eq_broadcast shape;
    int32_t out_multiplier;
    int8_t out_shift;
    int16_t a_offset, b_offset, out_offset, act_min, act_max;
} eq_mul_params;

void eq_mul_s8(const eq_mul_params *p, const int8_t *a, const int8_t *b, int8_t *output);
void eq_mul_s16(const eq_mul_params *p, const int16_t *a, const int16_t *b, int16_t *output);

/* MAXIMUM, MINIMUM: all three on one grid, as tflite-micro takes them. */
void eq_maximum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output);
void eq_minimum_s8(const eq_broadcast *p, const int8_t *a, const int8_t *b, int8_t *output);
void eq_maximum_s16(const eq_broadcast *p, const int16_t *a, const int16_t *b, int16_t *output);
void eq_minimum_s16(const eq_broadcast *p, const int16_t *a, const int16_t *b, int16_t *output);

/* PRELU: a is the input, b the alphas. multipliers.prelu(). */
typedef struct {
    eq_broadcast shape;
    int32_t positive_multiplier, negative_multiplier;
    int8_t positive_shift, negative_shift; /* right shifts, may be negative */
    int16_t in_offset, alpha_offset, out_offset;
} eq_prelu_params;

void eq_prelu_s8(const eq_prelu_params *p, const int8_t *input, const int8_t *alpha, int8_t *output);

/* ------------------------------------------------------------------------------------------------ one operand
 *
 * A table for each of the 256 values: LOGISTIC, TANH, HARD_SWISH, RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, LEAKY_RELU, QUANTIZE int8
 * to int8, ABS, NEG... (tables.py). table[input + 128]. In place allowed.
 */
void eq_lookup_s8(const int8_t table[256], const int8_t *input, int8_t *output, size_t count);

/* The same into 16 or 32 bits: QUANTIZE int8 to int16, CAST, DEQUANTIZE (float's bits). */
void eq_lookup_s8_s16(const int16_t table[256], const int8_t *input, int16_t *output, size_t count);
void eq_lookup_s8_s32(const int32_t table[256], const int8_t *input, int32_t *output, size_t count);

/* QUANTIZE from int16 to int8 or int16: multipliers.requantize(). In place allowed. */
typedef struct {
    int32_t multiplier;
    int8_t right_shift; /* may be negative */
    int32_t in_zero_point, out_zero_point;
} eq_requantize_params;

void eq_requantize_s16_s8(const eq_requantize_params *p, const int16_t *input, int8_t *output, size_t count);
void eq_requantize_s16(const eq_requantize_params *p, const int16_t *input, int16_t *output, size_t count);

/* RELU, RELU6, LEAKY_RELU of int16: one multiplier for each sign, then the clamp. In place allowed. */
typedef struct {
    int32_t positive_multiplier, negative_multiplier;
    int8_t positive_shift, negative_shift; /* right shifts, may be negative */
    int16_t act_min, act_max;
} eq_leaky_relu_params;

void eq_leaky_relu_s16(const eq_leaky_relu_params *p, const int16_t *input, int16_t *output, size_t count);

/* LOGISTIC and TANH of int16, into Q0.15: (x * multiplier + round) >> right_shift is x in 3 * 2^12ths.
 * multipliers.curve(). In place allowed. */
typedef struct {
    int32_t multiplier, round;
    int8_t right_shift;
} eq_curve_params;

void eq_logistic_s16(const eq_curve_params *p, const int16_t *input, int16_t *output, size_t count);
void eq_tanh_s16(const eq_curve_params *p, const int16_t *input, int16_t *output, size_t count);

/* QUANTIZE from float32, DEQUANTIZE of int16 to it, by the numbers' bits: scale = mantissa * 2^exponent, mantissa 2^23 to
 * 2^24 - 1. multipliers.f32(). NaN becomes the zero point. */
typedef struct {
    uint32_t mantissa;
    int16_t exponent;
    int32_t zero_point;
} eq_f32_params;

void eq_quantize_f32_s8(const eq_f32_params *p, const void *input, int8_t *output, size_t count);
void eq_quantize_f32_s16(const eq_f32_params *p, const void *input, int16_t *output, size_t count);
void eq_dequantize_s16_f32(const eq_f32_params *p, const int16_t *input, void *output, size_t count);

/* SOFTMAX over the last axis: multipliers.softmax(). In place allowed. */
typedef struct {
    uint32_t rows, depth;
    int32_t multiplier;
    int8_t left_shift;
    int32_t diff_min;
} eq_softmax_params;

void eq_softmax_s8(const eq_softmax_params *p, const int8_t *input, int8_t *output);

/* int16, into Q0.15: tables.exponential() and tables.reciprocal(), 513 entries each; multipliers.softmax_s16(). At most
 * 65536 values to a row. In place allowed. */
typedef struct {
    const int16_t *exponential;
    const int16_t *reciprocal;
    uint32_t rows, depth;
    int32_t multiplier;
    int8_t right_shift; /* may be negative */
} eq_softmax_s16_params;

void eq_softmax_s16(const eq_softmax_s16_params *p, const int16_t *input, int16_t *output);

/* ------------------------------------------------------------------------------------------------ reductions
 *
 * strides.reduce() splits the axes: `kept` (the output's, dense, outermost first) and `gone` (summed), each with the input's strides in
 * elements, leading axes 1. `count` is the product of gone.
 */
typedef struct {
    uint32_t kept[5], kept_stride[5], gone[5], gone_stride[5];
} eq_reduce;

/* MEAN: multipliers.mean(): the division by `count` is part of the multiplier. */
typedef struct {
    eq_reduce shape;
    int32_t multiplier;
    int8_t right_shift;    /* may be negative */
    int32_t in_sum_offset; /* minus the input's zero point * count */
    int16_t out_offset;
} eq_mean_params;

void eq_mean_s8(const eq_mean_params *p, const int8_t *input, int8_t *output);
void eq_mean_s16(const eq_mean_params *p, const int16_t *input, int16_t *output);
void eq_reduce_max_s8(const eq_reduce *p, const int8_t *input, int8_t *output);
void eq_reduce_max_s16(const eq_reduce *p, const int16_t *input, int16_t *output);

/* ARG_MAX: outer, axis, inner are products of dimensions; the first of equal values wins. */
void eq_arg_max_s8(uint32_t outer, uint32_t axis, uint32_t inner, const int8_t *input, int32_t *output);
void eq_arg_max_s16(uint32_t outer, uint32_t axis, uint32_t inner, const int16_t *input, int32_t *output);

/* ------------------------------------------------------------------------------------------------ moving bytes
 *
 * RESHAPE, SQUEEZE, EXPAND_DIMS: no kernel, the output is the input (or memmove).
 *
 * eq_copy_strided: SLICE, STRIDED_SLICE, TRANSPOSE, SPLIT, UNPACK (one call for each output), and CONCATENATION, PACK (one call for
 * each input): strides.py makes the struct. Output elements in rising order of in-order axes; strides and offsets in elements.
 * `size` is bytes of an element: 1, 2, 4 or 8.
 */
typedef struct {
    uint32_t dims[5];
    int32_t in_stride[5];
    int32_t out_stride[5];
    uint32_t in_offset, out_offset;
    uint8_t size;
} eq_copy;

void eq_copy_strided(const eq_copy *p, const void *input, void *output);

/* PAD, PADV2 = eq_fill_s8 (or _s16) over the output, then eq_copy_strided of the input into it. */
void eq_fill_s8(int8_t value, int8_t *output, size_t count);
void eq_fill_s16(int16_t value, int16_t *output, size_t count);

/* GATHER: `count` indices, each picks `inner` bytes out of `axis` rows; batch dims belong to outer (one index list for each of
 * `index_batches`, which divides outer). An index outside 0..axis-1 is taken as 0 (tflite-micro reads outside memory). */
void eq_gather(uint32_t outer, uint32_t index_batches, uint32_t axis, uint32_t inner_bytes, uint32_t count,
               const void *input, const int32_t *indices, void *output);

/* RESIZE_NEAREST_NEIGHBOR: row[out_h], column[out_w] are the source's indices: tables.nearest(). */
typedef struct {
    uint16_t batches, in_h, in_w, channels, out_h, out_w;
    const uint16_t *row;
    const uint16_t *column;
} eq_resize_nearest_params;

void eq_resize_nearest_s8(const eq_resize_nearest_params *p, const int8_t *input, int8_t *output);

/* RESIZE_BILINEAR: for each output row and column the lower and upper source index and the lower's fraction of 1024
 * (upper weight = fraction, lower weight = 1024 - fraction): tables.bilinear(). */
typedef struct {
    uint16_t lower, upper;
    int16_t fraction;
} eq_tap;

typedef struct {
    uint16_t batches, in_h, in_w, channels, out_h, out_w;
    const eq_tap *row;
    const eq_tap *column;
} eq_resize_bilinear_params;

void eq_resize_bilinear_s8(const eq_resize_bilinear_params *p, const int8_t *input, int8_t *output);

/* ------------------------------------------------------------------------------------------------ recurrent
 *
 * States live in the caller's memory from call to call. Before the first one `hidden` and SVDF's state hold their zero
 * point, `cell` holds zeros: as tflite-micro resets variables.
 *
 * UNIDIRECTIONAL_SEQUENCE_LSTM, int8 activations, int16 cell. Weights: layouts.pack_rows(). multipliers.lstm(). Shifts are
 * right shifts, may be negative. The gates are sigmoids, the cell's fresh value is a tanh. Input and output
 * [batches][steps][...], or [steps][batches][...] when time_major.
 */
typedef struct {
    const int8_t *input_weights;
    const int8_t *recurrent_weights;
    const int32_t *bias;
    int32_t input_multiplier, recurrent_multiplier;
    int8_t input_shift, recurrent_shift;
} eq_lstm_gate;

typedef struct {
    uint16_t batches, steps, in_c, cells;
    uint8_t time_major;
    int8_t cell_power;     /* log2(scale of the cell state) + 12 */
    int16_t in_offset;     /* minus the input's zero point */
    int16_t hidden_offset; /* minus the hidden state's zero point */
    int16_t cell_clip;     /* 0: none */
    eq_lstm_gate forget, input, cell, output;
    int32_t forget_multiplier, input_multiplier, hidden_multiplier;
    int8_t forget_shift, input_shift, hidden_shift;
} eq_lstm_params;

size_t eq_lstm_s8_get_buffer_size(const eq_lstm_params *p);
void eq_lstm_s8(const eq_lstm_params *p, const int8_t *input, int8_t *hidden, int16_t *cell, int8_t *output,
                void *scratch);

/* SVDF: weights as in the model; time weights and state are int16 when is_wide, else int8. multipliers.svdf(). */
typedef struct {
    uint16_t batches, in_c, filters, rank, memory;
    uint8_t is_wide;
    int16_t in_offset, state_zero_point, out_offset;
    int32_t feature_multiplier, out_multiplier;
    int8_t feature_shift, out_shift; /* right shifts, may be negative */
} eq_svdf_params;

void eq_svdf_s8(const eq_svdf_params *p, const int8_t *input, const int8_t *feature_weights, const void *time_weights,
                const int32_t *bias, void *state, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
