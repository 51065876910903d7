/* CONV_2D: windows are widened into scratch, two pixels at a time, then multiplied with the weights. */
#include "eq_common.h"

typedef struct {
    const eq_conv2d_params *p;
    const int8_t *image; /* one batch's */
    uint32_t channels;   /* of a group */
    uint32_t depth, depth4;
} eq_window;

/* A line of the image is NULL where the kernel's row lies above or below it. */

/* Channels in whole groups of four: straight from the image into the scratch row. */
static void widen_row(const eq_window *w, int32_t *to, uint32_t pixels, uint32_t position, const int8_t *line,
                      int32_t x) {
    const eq_conv2d_params *p = w->p;
    const uint32_t width = p->kernel_w, in_c = p->in_c;
    if (p->dilation_w == 1 && p->groups == 1) {
        uint32_t before = 0;
        const uint32_t inside = line == NULL ? 0 : eq_inside_of(x, p->kernel_w, p->in_w, &before);
        if (inside < width) {
            eq_widen(to, pixels, position, NULL, width * in_c, 0);
        }
        if (inside > 0) {
            eq_widen(to, pixels, position + before * in_c, line + (x + (int32_t)before) * (int32_t)in_c, inside * in_c,
                     p->in_offset);
        }
        return;
    }
    for (uint32_t k = 0; k < width; k++, x += p->dilation_w, position += w->channels) {
        const int8_t *from = line == NULL || x < 0 || x >= p->in_w ? NULL : line + x * (int32_t)in_c;
        eq_widen(to, pixels, position, from, w->channels, p->in_offset);
    }
}

static void copy_bytes(int8_t *to, const int8_t *from, uint32_t count) {
    for (; count >= 4; count -= 4, to += 4, from += 4) {
        EQ_COPY(to, from, 4);
    }
    for (; count != 0; count--) {
        *to++ = *from++;
    }
}

static void fill_bytes(int8_t *to, int8_t value, uint32_t count) {
    for (; count != 0; count--) {
        *to++ = value;
    }
}

/* Any other number of channels: byte by byte into the patch, which is widened as a whole. */
static void copy_row(const eq_window *w, int8_t *to, const int8_t *line, int32_t x) {
    const eq_conv2d_params *p = w->p;
    const int8_t zero = (int8_t)-p->in_offset;
    const uint32_t width = p->kernel_w, in_c = p->in_c;
    if (p->dilation_w == 1 && p->groups == 1) {
        uint32_t before = 0;
        const uint32_t inside = line == NULL ? 0 : eq_inside_of(x, p->kernel_w, p->in_w, &before);
        fill_bytes(to, zero, inside < width ? width * in_c : 0);
        if (inside > 0) {
            copy_bytes(to + before * in_c, line + (x + (int32_t)before) * (int32_t)in_c, inside * in_c);
        }
        return;
    }
    for (uint32_t k = 0; k < width; k++, x += p->dilation_w, to += w->channels) {
        if (line == NULL || x < 0 || x >= p->in_w) {
            fill_bytes(to, zero, w->channels);
        } else {
            copy_bytes(to, line + x * (int32_t)in_c, w->channels);
        }
    }
}

/* The window of output pixel (oy, ox), channels from `channel` on; `patch` has room for its bytes. */
static void widen_window(const eq_window *w, int32_t *to, uint32_t pixels, int8_t *patch, const uint32_t at[2],
                         uint32_t channel) {
    const eq_conv2d_params *p = w->p;
    const uint32_t row_values = p->kernel_w * w->channels;
    const int is_whole = (w->channels & 3u) == 0;
    const int32_t x = (int32_t)(at[1] * p->stride_w) - p->pad_left;
    int32_t y = (int32_t)(at[0] * p->stride_h) - p->pad_top;
    for (uint32_t k = 0, position = 0; k < p->kernel_h; k++, y += p->dilation_h, position += row_values) {
        const int is_inside = y >= 0 && y < p->in_h;
        const int8_t *line = is_inside ? w->image + (uint32_t)y * p->in_w * p->in_c + channel : NULL;
        if (is_whole) {
            widen_row(w, to, pixels, position, line, x);
        } else {
            copy_row(w, patch + position, line, x);
        }
    }
    if (!is_whole) {
        eq_widen(to, pixels, 0, patch, w->depth, p->in_offset);
    }
}

static uint32_t depth_of(const eq_conv2d_params *p) {
    return (uint32_t)p->kernel_h * p->kernel_w * (uint32_t)(p->in_c / p->groups);
}

size_t eq_conv2d_s8_get_buffer_size(const eq_conv2d_params *p) {
    const uint32_t patch = (p->in_c / p->groups) % 4 == 0 ? 0 : eq_depth4(depth_of(p));
    return (size_t)4 * eq_depth4(depth_of(p)) + patch;
}

/* One pixel, or two where `count` is 2, of every group. */
static void pixels_at(const eq_window *w, eq_matrix m, uint32_t at[2][2], uint32_t count, int8_t *output,
                      int32_t *scratch) {
    const eq_conv2d_params *p = w->p;
    const uint32_t step = m.rows * p->out.step;
    int8_t *patch = (int8_t *)(scratch + w->depth4);
    for (uint32_t group = 0; group < p->groups; group++) {
        for (uint32_t i = 0; i < count; i++) {
            widen_window(w, scratch + 2 * i, count, patch, at[i], group * w->channels);
        }
        if (count == 2) {
            eq_multiply_two_s8(&m, scratch, output, output + p->out_c);
        } else {
            eq_multiply_s8(&m, scratch, output);
        }
        m.weights += m.rows * m.depth4;
        m.bias += m.rows;
        m.multiplier += step;
        m.right_shift += step;
        output += m.rows;
    }
}

void eq_conv2d_s8(const eq_conv2d_params *p, const int8_t *input, const int8_t *weights, const int32_t *bias,
                  int8_t *output, void *scratch) {
    eq_window w = {p, input, p->in_c / p->groups, depth_of(p), eq_depth4(depth_of(p))};
    const eq_matrix m = {weights, bias, p->out.multiplier, p->out.right_shift, &p->out, p->out_c / p->groups, w.depth4};
    const uint32_t count = (uint32_t)p->out_h * p->out_w;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        uint32_t at[2][2] = {{0, 0}, {0, 0}};
        uint32_t oy = 0, ox = 0;
        for (uint32_t done = 0; done < count; done += 2) {
            const uint32_t now = count - done < 2 ? 1 : 2;
            for (uint32_t i = 0; i < now; i++) {
                at[i][0] = oy;
                at[i][1] = ox;
                ox++;
                if (ox == p->out_w) {
                    ox = 0;
                    oy++;
                }
            }
            pixels_at(&w, m, at, now, output, scratch);
            output += now * p->out_c;
        }
        w.image += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
