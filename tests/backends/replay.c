/* Runs the kernels outside Python against problems and results that the contract wrote
 * (test_replay.py): for other compilers, sanitizers, and processors under emulation.
 *
 * usage: replay FILE
 * FILE: int64 count, then for each problem
 *   the int64 numbers of the enum below;  double scale, softcap;
 *   query, key (rows, or panels if packed), value, [mask (queries, keys) bytes],
 *   [bias (heads, 1, keys)], [sinks (heads) of the compute type], [spans (batch)],
 *   out, weights: contiguous, (batch, heads, rows, columns); statistics (batch, heads, queries, 2).
 * then int64 count of layers, and for each
 *   the int64 numbers of enum layer_field;  double number;  arrays as in replay_layer().
 * Prints what ran; exits with 1 if a bit differs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seq2seq_fast.h"

static FILE *file;

static void *take(size_t size)
{
    /* Exactly as long as the data, so that a sanitizer sees every step past its end. */
    void *data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, file) != size) {
        fprintf(stderr, "replay: the file is cut short\n");
        exit(2);
    }
    return data;
}

static s2s_strides contiguous(int64_t heads, int64_t rows, int64_t columns, int64_t size)
{
    s2s_strides s = {.head = rows * columns * size, .row = columns * size, .column = size};
    s.lead[0] = heads * s.head;
    return s;
}

enum { TYPE, KEY_TYPE, BIAS_TYPE, PACKED, INTEGER, BATCH, HEADS, KEY_HEADS, QUERIES, KEYS, WIDTH,
       VALUE_WIDTH, LEFT, RIGHT, HAS_MASK, HAS_BIAS, HAS_SINKS, HAS_SPANS, FIELDS };

static int64_t size_of(int64_t type)
{
    return type == S2S_FLOAT64 ? 8 : type == S2S_FLOAT32 ? 4 : 2;
}

static long replay_one(void)
{
    int64_t *const f = take(FIELDS * sizeof *f);
    double *const scale = take(2 * sizeof *scale);
    const int64_t size = size_of(f[TYPE]), key_size = size_of(f[KEY_TYPE]);
    const int64_t bias_size = size_of(f[BIAS_TYPE]), sink_size = size == 8 ? 8 : 4;
    s2s_attention_problem p = {.type = (int32_t)f[TYPE], .key_type = (int32_t)f[KEY_TYPE],
                               .bias_type = (int32_t)f[BIAS_TYPE], .packed = (int32_t)f[PACKED],
                               .integer_scores = (int32_t)f[INTEGER],
                               .lead_axes = 1, .lead = {f[BATCH]},
                               .heads = f[HEADS], .key_heads = f[KEY_HEADS],
                               .queries = f[QUERIES], .keys = f[KEYS], .width = f[WIDTH],
                               .value_width = f[VALUE_WIDTH], .left = f[LEFT], .right = f[RIGHT]};
    p.query = contiguous(p.heads, p.queries, p.width, size);
    p.key = f[PACKED] ? contiguous(p.key_heads, (p.keys + 15) / 16, 16 * p.width, key_size)
                      : contiguous(p.key_heads, p.keys, p.width, key_size);
    p.value = contiguous(p.key_heads, p.keys, p.value_width, key_size);
    p.out = contiguous(p.heads, p.queries, p.value_width, size);
    p.weights = contiguous(p.heads, p.queries, p.keys, size);
    p.statistics = contiguous(p.heads, p.queries, 2, sizeof(double));
    p.mask = (s2s_strides){.row = p.keys, .column = 1};
    p.bias = (s2s_strides){.head = p.keys * bias_size, .column = bias_size};
    p.sinks = (s2s_strides){.head = sink_size};

    const int64_t batch = p.lead[0], query_rows = batch * p.heads * p.queries;
    const size_t out_size = (size_t)(query_rows * p.value_width * size);
    const size_t weights_size = (size_t)(query_rows * p.keys * size);
    const size_t statistics_size = (size_t)query_rows * 2 * sizeof(double);
    void *const query = take((size_t)(query_rows * p.width * size));
    void *const key = take((size_t)(batch * p.key.lead[0]));
    void *const value = take((size_t)(batch * p.value.lead[0]));
    void *const mask = f[HAS_MASK] ? take((size_t)(p.queries * p.keys)) : NULL;
    void *const bias = f[HAS_BIAS] ? take((size_t)(p.heads * p.keys * bias_size)) : NULL;
    void *const sinks = f[HAS_SINKS] ? take((size_t)(p.heads * sink_size)) : NULL;
    void *const spans = f[HAS_SPANS] ? take((size_t)batch * sizeof(s2s_span)) : NULL;
    void *const want_out = take(out_size), *const want_weights = take(weights_size);
    void *const want_statistics = take(statistics_size);
    void *const out = malloc(out_size + 1), *const weights = malloc(weights_size + 1);
    void *const statistics = malloc(statistics_size + 1);

    long failures = 0;
    for (int isa = 0; isa < S2S_ISAS; isa++)
        for (int threads = 1; s2s_isa_usable(isa) && threads <= 3; threads++)
            for (int all = 0; all < 2; all++) {
                memset(out, 0x55, out_size);
                memset(weights, 0x55, weights_size);
                memset(statistics, 0x55, statistics_size);
                const int status = s2s_attention(
                    &p, isa, threads, scale[0], scale[1], query, key, value, mask, bias, sinks,
                    spans, out, all ? weights : NULL, all ? statistics : NULL);
                if (status != S2S_OK || memcmp(out, want_out, out_size)
                    || (all && memcmp(weights, want_weights, weights_size))
                    || (all && memcmp(statistics, want_statistics, statistics_size))) {
                    fprintf(stderr, "replay: %s differs: %lld x %lld x %lld x %lld\n",
                            s2s_isa_name(isa), (long long)p.queries, (long long)p.keys,
                            (long long)p.width, (long long)p.value_width);
                    failures++;
                }
            }
    void *const everything[] = {f, scale, query, key, value, mask, bias, sinks, spans, want_out,
                                want_weights, want_statistics, out, weights, statistics};
    for (size_t i = 0; i < sizeof everything / sizeof *everything; i++)
        free(everything[i]);
    return failures;
}

enum layer_field { KIND, WEIGHTS, ROWS, INPUTS, OUTPUTS, ACTIVATION, BIASED, OTHER,
                   LAYER_FIELDS };
enum { LINEAR, NORM, SSRU_STEP, TOPK, EMBED };

static long differs(const char *what, int isa, const void *got, const void *want, size_t size)
{
    if (memcmp(got, want, size) == 0)
        return 0;
    fprintf(stderr, "replay: %s differs: %s\n", s2s_isa_name(isa), what);
    return 1;
}

static long replay_layer(void)
{
    int64_t *const f = take(LAYER_FIELDS * sizeof *f);
    double *const number = take(sizeof *number);
    const int64_t rows = f[ROWS], inputs = f[INPUTS], outputs = f[OUTPUTS];
    const int64_t panels = (outputs + 15) / 16, quads = (inputs + 3) / 4;
    const size_t real = sizeof(float);
    /* in: the operands; out: two results. */
    size_t in[4] = {0}, out[3] = {0};
    switch (f[KIND]) {
    case LINEAR:
    case EMBED: /* panels, bias or positions, scales, x or tokens */
        in[0] = (size_t)(f[WEIGHTS] == S2S_INT8 ? panels * quads * 64
                                                : panels * inputs * 16 * size_of(f[WEIGHTS]));
        in[1] = (size_t)(f[KIND] == EMBED ? inputs : f[BIASED] ? outputs : 0) * real;
        in[2] = f[WEIGHTS] == S2S_INT8 ? (size_t)panels * 16 * real : 0;
        in[3] = f[KIND] == EMBED ? (size_t)rows * sizeof(int64_t) : (size_t)(rows * inputs) * real;
        out[0] = (size_t)(rows * (f[KIND] == EMBED ? inputs : outputs)) * real;
        break;
    case NORM: /* x, gamma, beta */
        in[0] = out[0] = (size_t)(rows * inputs) * real;
        in[1] = (size_t)inputs * real;
        in[2] = f[BIASED] ? (size_t)inputs * real : 0;
        break;
    case SSRU_STEP: /* gates, cell, other */
        in[1] = in[2] = out[0] = out[1] = (size_t)(rows * inputs) * real;
        in[0] = 2 * in[1];
        break;
    default: /* logits */
        in[0] = (size_t)(rows * inputs) * real;
        out[0] = (size_t)(rows * outputs) * sizeof(int64_t);
        out[1] = (size_t)(rows * outputs) * real;
        out[2] = (size_t)rows * 2 * real;
    }
    void *a[4], *want[3], *got[3];
    for (int i = 0; i < 4; i++)
        a[i] = in[i] ? take(in[i]) : NULL;
    void *const other = f[OTHER] ? take(out[0]) : NULL;
    for (int i = 0; i < 3; i++) {
        want[i] = take(out[i]);
        got[i] = malloc(out[i] + 1);
    }
    s2s_matrix m = {.type = (int32_t)f[WEIGHTS], .inputs = inputs, .outputs = outputs,
                    .panels = a[0], .bias = f[KIND] == LINEAR ? a[1] : NULL, .scales = a[2],
                    .input_scale = f[KIND] == LINEAR ? (float)*number : 0};
    int64_t step = 0;
    const s2s_op embed = {.kind = S2S_OP_EMBED, .rows = 1, .number = *number, .matrix = &m,
                          .step = &step, .in = {a[3], a[1]}, .out = {got[0]}};
    /* By row block, three times: into scratch memory, for good, and in parts. */
    const int64_t part = outputs % 2 == 0 ? outputs / 2 : outputs % 3 == 0 ? outputs / 3 : outputs;
    float *const in_parts = malloc(out[0] + 1);
    const s2s_buffer buffers[] = {{a[3], inputs, inputs},
                                  {other, outputs, outputs},
                                  {NULL, outputs, outputs},
                                  {got[0], outputs, outputs},
                                  {in_parts, outputs, part}};
    s2s_op block[3];
    for (int i = 0; i < 3; i++)
        block[i] = (s2s_op){.kind = S2S_OP_LINEAR, .matrix = &m, .choice = (int32_t)f[ACTIVATION],
                            .multiply = f[OTHER] == 2, .buffers = {0, 2 + i, other ? 1 : -1}};
    long failures = 0;
    for (int isa = 0; isa < S2S_ISAS; isa++)
        for (int threads = 1; s2s_isa_usable(isa) && threads <= 3; threads++) {
            int status;
            switch (f[KIND]) {
            case LINEAR:
                status = s2s_linear(&m, &m, isa, threads, (int)f[ACTIVATION], rows, a[3], inputs,
                                    other, outputs, f[OTHER] == 2, got[0], outputs);
                if (threads != 2)
                    break;
                failures += differs("a linear layer", isa, got[0], want[0], out[0]);
                memset(got[0], 0x55, out[0]);
                memset(in_parts, 0x55, out[0]);
                status |= s2s_run_row_blocks(block, 3, buffers, 5, isa, threads, rows);
                failures += differs("a row block", isa, got[0], want[0], out[0]);
                for (int64_t i = 0; i < rows * outputs; i++)
                    ((float *)got[0])[i / part % rows * outputs + i / part / rows * part + i % part] =
                        in_parts[i];
                break;
            case EMBED:
                status = s2s_run_program(&embed, 1, isa, threads, rows);
                break;
            case NORM:
                status = s2s_norm(isa, threads, rows, inputs, a[0], a[1], a[2], *number, got[0]);
                break;
            case SSRU_STEP:
                status = s2s_ssru_step(isa, rows, inputs, a[0], a[1], a[2], got[1], got[0]);
                break;
            default:
                status = s2s_topk_log_softmax(isa, threads, rows, inputs, a[0], inputs, (int)outputs, got[0],
                                  got[1], got[2]);
            }
            failures += status != S2S_OK;
            for (int i = 0; i < 3; i++)
                failures += differs("a layer", isa, got[i], want[i], out[i]);
        }
    for (int i = 0; i < 4; i++)
        free(a[i]);
    for (int i = 0; i < 3; i++) {
        free(want[i]);
        free(got[i]);
    }
    free(in_parts);
    free(other);
    free(number);
    free(f);
    return failures;
}

int main(int argc, char **argv)
{
    file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: replay FILE\n");
        return 2;
    }
    int64_t *const count = take(sizeof *count);
    long failures = 0;
    for (int64_t i = 0; i < *count; i++)
        failures += replay_one();
    int64_t *const layers = take(sizeof *layers);
    for (int64_t i = 0; i < *layers; i++)
        failures += replay_layer();
    printf("%s: %lld problems, %lld layers on", s2s_compiler(), (long long)*count,
           (long long)*layers);
    for (int isa = 0; isa < S2S_ISAS; isa++)
        if (s2s_isa_usable(isa))
            printf(" %s", s2s_isa_name(isa));
    printf(", %ld differ\n", failures);
    free(count);
    free(layers);
    fclose(file);
    return failures != 0;
}
