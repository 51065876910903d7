/* CONV_2D of int16: windows are copied into scratch, two pixels at a time, then multiplied with the weights. */
#include "eq_common.h"

typedef struct {
    const eq_conv2d_params *p;
    const int16_t *image; /* one batch's */
    uint32_t channels;    /* of a group */
    uint32_t depth, depth4;
} eq_window;

static void copy_values(int16_t *to, const int16_t *from, uint32_t count) {
    for (; count >= 2; count -= 2, to += 2, from += 2) {
        EQ_COPY(to, from, 4);
    }
    if (count != 0) {
        *to = *from;
    }
}

/* One row of a window from column `x` on; the line is NULL where it lies above or below the image. */
static void copy_row(const eq_window *w, int16_t *to, const int16_t *line, int32_t x) {
    const eq_conv2d_params *p = w->p;
    const uint32_t width = p->kernel_w, in_c = p->in_c;
    if (p->dilation_w == 1 && p->groups == 1) {
        uint32_t before = 0;
        const uint32_t inside = line == NULL ? 0 : eq_inside_of(x, p->kernel_w, p->in_w, &before);
        if (inside < width) {
            memset(to, 0, (size_t)width * in_c * 2);
        }
        if (inside > 0) {
            copy_values(to + before * in_c, line + (x + (int32_t)before) * (int32_t)in_c, inside * in_c);
        }
        return;
    }
    for (uint32_t k = 0; k < width; k++, x += p->dilation_w, to += w->channels) {
        if (line == NULL || x < 0 || x >= p->in_w) {
            memset(to, 0, (size_t)w->channels * 2);
        } else {
            copy_values(to, line + x * (int32_t)in_c, w->channels);
        }
    }
}

/* The window of output pixel (oy, ox), channels from `channel` on. */
static void copy_window(const eq_window *w, int16_t *to, const uint32_t at[2], uint32_t channel) {
    const eq_conv2d_params *p = w->p;
    const int32_t x = (int32_t)(at[1] * p->stride_w) - p->pad_left;
    int32_t y = (int32_t)(at[0] * p->stride_h) - p->pad_top;
    for (uint32_t k = 0; k < p->kernel_h; k++, y += p->dilation_h, to += p->kernel_w * w->channels) {
        const int is_inside = y >= 0 && y < p->in_h;
        copy_row(w, to, is_inside ? w->image + (uint32_t)y * p->in_w * p->in_c + channel : NULL, x);
    }
    for (uint32_t k = w->depth; k < w->depth4; k++) {
        *to++ = 0;
    }
}

static uint32_t depth_of(const eq_conv2d_params *p) {
    return (uint32_t)p->kernel_h * p->kernel_w * (uint32_t)(p->in_c / p->groups);
}

size_t eq_conv2d_s16_get_buffer_size(const eq_conv2d_params *p) {
    return (size_t)4 * eq_depth4(depth_of(p));
}

/* One pixel, or two where `count` is 2, of every group. */
static void pixels_at(const eq_window *w, eq_matrix_s16 m, uint32_t at[2][2], uint32_t count, int16_t *output,
                      int16_t *scratch) {
    const eq_conv2d_params *p = w->p;
    const uint32_t step = m.rows * p->out.step;
    for (uint32_t group = 0; group < p->groups; group++) {
        for (uint32_t i = 0; i < count; i++) {
            copy_window(w, scratch + i * w->depth4, at[i], group * w->channels);
        }
        if (count == 2) {
            eq_multiply_two_s16(&m, scratch, output, output + p->out_c);
        } else {
            eq_multiply_s16(&m, scratch, output);
        }
        m.weights += m.rows * m.depth4;
        m.bias += m.rows;
        m.multiplier += step;
        m.right_shift += step;
        output += m.rows;
    }
}

void eq_conv2d_s16(const eq_conv2d_params *p, const int16_t *input, const int8_t *weights, const int64_t *bias,
                   int16_t *output, void *scratch) {
    eq_window w = {p, input, p->in_c / p->groups, depth_of(p), eq_depth4(depth_of(p))};
    const eq_matrix_s16 m = {weights, bias, p->out.multiplier, p->out.right_shift, &p->out, p->out_c / p->groups,
                             w.depth4};
    const uint32_t count = (uint32_t)p->out_h * p->out_w;
    for (uint32_t batch = 0; batch < p->batches; batch++) {
        for (uint32_t done = 0, now = 0; done < count; done += now) {
            uint32_t at[2][2];
            now = count - done < 2 ? 1 : 2;
            for (uint32_t i = 0; i < now; i++) {
                at[i][0] = (done + i) / p->out_w;
                at[i][1] = (done + i) % p->out_w;
            }
            pixels_at(&w, m, at, now, output, scratch);
            output += now * p->out_c;
        }
        w.image += (uint32_t)p->in_h * p->in_w * p->in_c;
    }
}
