/* CONV_2D: windows are widened into scratch, two pixels at a time, then multiplied with the weights. */
#include "eq_common.h"

typedef struct {
    const eq_conv2d_params *p;
    const int8_t *image; /* one batch's */
    uint32_t channels;   /* of a group */
    uint32_t depth, depth4;
} eq_window;

/* Pixels of one row of a kernel, where they are inside the image; dense rows at once, others tap by tap. */
static void widen_row(const eq_window *w, int32_t *to, uint32_t pixels, uint32_t position, const int8_t *line, int32_t x) {
    const eq_conv2d_params *p = w->p;
    const int32_t width = p->kernel_w, in_w = p->in_w;
    if (p->dilation_w == 1 && p->groups == 1) {
        const int32_t before = x < 0 ? (-x < width ? -x : width) : 0;
        const int32_t end = x + width > in_w ? (in_w > x ? in_w - x : 0) : width;
        const int32_t inside = end > before ? end - before : 0;
        if (inside < width) {
            eq_widen(to, pixels, position, NULL, (uint32_t)width * w->channels, 0);
        }
        if (inside > 0) {
            eq_widen(to, pixels, position + (uint32_t)before * w->channels, line + (x + before) * (int32_t)p->in_c,
                     (uint32_t)inside * w->channels, p->in_offset);
        }
        return;
    }
    for (int32_t k = 0; k < width; k++, x += p->dilation_w, position += w->channels) {
        const int8_t *from = x < 0 || x >= in_w ? NULL : line + x * (int32_t)p->in_c;
        eq_widen(to, pixels, position, from, w->channels, p->in_offset);
    }
}

/* The window of output pixel (oy, ox), channels from `channel` on. */
static void widen_window(const eq_window *w, int32_t *to, uint32_t pixels, uint32_t oy, uint32_t ox, uint32_t channel) {
    const eq_conv2d_params *p = w->p;
    const uint32_t row_values = p->kernel_w * w->channels;
    const int32_t x = (int32_t)(ox * p->stride_w) - p->pad_left;
    int32_t y = (int32_t)(oy * p->stride_h) - p->pad_top;
    uint32_t position = 0;
    for (uint32_t k = 0; k < p->kernel_h; k++, y += p->dilation_h, position += row_values) {
        if (y < 0 || y >= p->in_h) {
            eq_widen(to, pixels, position, NULL, row_values, 0);
        } else {
            widen_row(w, to, pixels, position, w->image + (uint32_t)y * p->in_w * p->in_c + channel, x);
        }
    }
    eq_widen(to, pixels, w->depth, NULL, w->depth4 - w->depth, 0);
}

static uint32_t depth_of(const eq_conv2d_params *p) {
    return (uint32_t)p->kernel_h * p->kernel_w * (uint32_t)(p->in_c / p->groups);
}

size_t eq_conv2d_s8_get_buffer_size(const eq_conv2d_params *p) {
    return (size_t)4 * eq_depth4(depth_of(p));
}

/* One pixel, or two where `count` is 2, of every group. */
static void pixels_at(const eq_window *w, eq_matrix m, uint32_t at[2][2], uint32_t count, int8_t *output,
                      int32_t *scratch) {
    const eq_conv2d_params *p = w->p;
    const uint32_t step = m.rows * p->out.step;
    for (uint32_t group = 0; group < p->groups; group++) {
        for (uint32_t i = 0; i < count; i++) {
            widen_window(w, scratch + 2 * i, count, at[i][0], at[i][1], group * w->channels);
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
    const eq_matrix m = {weights, bias,          p->out.multiplier, p->out.right_shift,
                         &p->out, p->out_c / p->groups, w.depth4};
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
