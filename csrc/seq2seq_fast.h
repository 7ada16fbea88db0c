/* The whole C API of seq2seq_fast. cffi reads this very file: plain declarations only.
 *
 * The kernel trusts its caller: shapes, strides and pointers were validated in Python. Functions
 * return a code, never print, hold no reference after they return, and may be called from any
 * number of threads at once. The arithmetic is fixed to the bit: see seq2seq_fast/contract.
 */
#ifndef SEQ2SEQ_FAST_H
#define SEQ2SEQ_FAST_H

#include <stddef.h>
#include <stdint.h>

/* Leading (batch) axes that one call can walk. */
#define S2S_MAX_LEAD 16

/* Python takes names and numbers of the named enums from here; how many there are is no member. */
enum s2s_type {
    S2S_FLOAT32 = 0,
    S2S_FLOAT64 = 1,
    S2S_FLOAT16 = 2,
    S2S_BFLOAT16 = 3,
    S2S_INT8 = 4 /* of weights only */
};
enum { S2S_FLOAT_TYPES = 4 };
enum s2s_isa {
    S2S_GENERIC = 0,
    S2S_AVX2 = 1,
    S2S_AVX512 = 2,      /* F, DQ, BW, VL */
    S2S_AVX512_VNNI = 3, /* with products of eight-bit integers */
    S2S_NEON = 4
};
enum { S2S_ISAS = 5 };
enum s2s_status { S2S_OK = 0, S2S_NO_MEMORY = 1, S2S_NO_SUCH_OP = 2 };

/* Byte strides of one operand; 0 along an axis that broadcasts. */
typedef struct {
    int64_t lead[S2S_MAX_LEAD];
    int64_t head, row, column;
} s2s_strides;

/* What one sequence has of the operands' rows: queries [query_start, query_start + queries), the
 * like for keys. Its query i stands at the key position i + offset. */
typedef struct {
    int64_t query_start, queries;
    int64_t key_start, keys;
    int64_t offset;
    int64_t packed; /* of packed keys those in panels; the room of the others' panels holds rows */
} s2s_span;

/* Everything about an attention call but the addresses. Operands have the axes
 * (lead..., head, row, column); `queries` x `width` is one head's query, and so on. */
typedef struct {
    int32_t type;                    /* enum s2s_type of query, out, weights */
    int32_t key_type;                /* of key and value: of the same compute type */
    int32_t bias_type;               /* of bias: of the same compute type */
    int32_t packed;                  /* non-zero: the keys lie in panels, [width][16] for 16 keys */
    int32_t integer_scores;          /* non-zero: of eight-bit integers; all float32, not packed */
    int32_t lead_axes;
    int64_t lead[S2S_MAX_LEAD];
    int64_t heads, key_heads;        /* heads is a multiple of key_heads */
    int64_t queries, keys;           /* of the longest sequence */
    int64_t width, value_width;
    int64_t offset;                  /* every sequence's, where there are no spans */
    int64_t left, right;             /* a query at position p sees the keys p - left .. p + right */
    s2s_strides query, key, value;   /* column stride: one element; packed key: row is one panel */
    s2s_strides mask;                /* of bytes: non-zero means "may attend" */
    s2s_strides bias;
    s2s_strides sinks;               /* one number a head, of the compute type */
    s2s_strides out, weights;        /* column stride: one element */
    s2s_strides statistics;          /* of pairs of double */
} s2s_attention_problem;

/* Fused attention over the operands' row 0, column 0.
 *
 * May be null: mask, bias, sinks, weights; spans, one for each index of the leading axes in
 * row-major order; statistics, of each row the greatest score and the sum of the weights.
 * `softcap` of 0 is none. `threads` is an upper bound. Returns enum s2s_status. */
int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  double softcap, const void *query, const void *key, const void *value,
                  const void *mask, const void *bias, const void *sinks, const s2s_span *spans,
                  void *out, void *weights, double *statistics);

/* How a call is cut: into tasks, which threads take in turn; a task into row blocks; and a thread's
 * scratch memory into buffers. See attention_plan.c. */
typedef struct {
    int threads;               /* that the work is worth */
    int64_t tasks, head_tasks; /* all; of each key head of each sequence */
    int64_t task_rows;         /* query rows of a task, of all query heads of its key head */
    int block_rows;            /* of a row block */
    int copies_values;         /* into panels; else they are used as they lie */
    int keeps_panels;          /* of keys and values, for all row blocks of a task */
    int64_t slots;             /* blocks of scores held */
    int64_t panel_keys;        /* keys that panels have room for */
    int64_t key_size;          /* bytes that one of them takes there */
    /* Where each buffer begins in scratch memory, and how large all are, in bytes. */
    size_t query_at, scores_at, panels_at, copies_at, tail_at, context_at, bias_at, integers_at;
    size_t scratch_size;
} s2s_attention_plan;

/* The plan of a call, by nothing but its arguments and the set's tuning constants (tuning.h).
 * `weights`: whether the caller wants them. Of an empty call there are no tasks. */
s2s_attention_plan s2s_plan_attention(const s2s_attention_problem *problem, int isa, int threads,
                                      int weights);

/* ---- layers of models, in float32 ---- */

enum s2s_activation {
    S2S_NONE = 0,
    S2S_RELU = 1,
    S2S_GELU = 2,
    S2S_GELU_TANH = 3,
    S2S_GELU_SIGMOID = 4,
    S2S_SILU = 5,
    S2S_TANH = 6,
    S2S_SIGMOID = 7
};

/* The weights of a linear layer, packed: sixteen outputs make a panel, the last one padded.
 * Floats: [inputs][16]. Integers: [inputs / 4, rounded up][16][4], each plus 128. */
typedef struct {
    int32_t type;             /* float32, float16, bfloat16 or S2S_INT8 */
    int64_t inputs, outputs;
    const void *panels;
    const float *bias;        /* may be null */
    const float *scales;      /* of integers: what the real weights were multiplied by; padded */
    float input_scale;        /* of integers: what inputs are multiplied by; 0: 127 / greatest */
} s2s_matrix;

/* out [rows][outputs] = activation(x W + bias), plus the operand, a residual, or times it, a gate.
 * Strides count floats from row to row. May be null: operand; `next`, the matrix that will be read
 * after this one, whose beginning is prefetched. */
int s2s_linear(const s2s_matrix *matrix, const s2s_matrix *next, int isa, int threads,
               int activation, int64_t rows, const float *x, int64_t x_stride,
               const float *operand, int64_t operand_stride, int is_gate, float *out,
               int64_t out_stride);

/* The panels of the given outputs alone, [count / 16, rounded up][...] as in the matrix. */
void s2s_select(const s2s_matrix *matrix, int64_t count, const int64_t *ids, void *panels);

/* Layer norm of rows [rows][n]; RMS norm where beta is null. */
int s2s_norm(int isa, int threads, int64_t rows, int64_t n, const float *x, const float *gamma,
             const float *beta, double eps, float *out);

/* One step of an SSRU: gates [rows][2 n], the rest [rows][n]; out = residual + relu(new_cell).
 */
int s2s_ssru_step(int isa, int64_t rows, int64_t n, const float *gates, const float *cell,
                  const float *residual, float *new_cell, float *out);

/* The `k` <= n likeliest of each row of logits [rows][n], stride floats apart: [rows][k] ids and
 * log-probabilities. A log-probability is (logit - statistics[0]) - statistics[1]. */
int s2s_topk_log_softmax(int isa, int threads, int64_t rows, int64_t n, const float *logits,
                         int64_t stride, int k, int64_t *ids, float *log_probabilities,
                         float *statistics);

/* ---- ops: what a model computes, recorded; the kind says which fields count ---- */

enum s2s_op_kind {
    S2S_OP_LINEAR = 0, /* in: x, other or null; out: result */
    S2S_OP_NORM = 1,   /* in: x, gamma, beta or null; out: result */
    S2S_OP_SSRU_STEP = 2, /* in: gates, cell, other; out: result, new cell (may be the cell) */
    S2S_OP_ATTEND = 3, /* in: query, key, value, spans, bias or null; out: result */
    S2S_OP_EMBED = 4,  /* in: int64 tokens, position vectors or null; out: result */
    S2S_OP_APPEND = 5, /* in: key, value; out: panels, values, scratch [width][16], spans */
    S2S_OP_ADD_POSITION = 6 /* in: x, position vectors; out: result */
};

typedef struct {
    int32_t kind;                   /* enum s2s_op_kind */
    int32_t choice;                 /* the activation of a linear layer */
    int32_t multiply;               /* of a linear layer: times `other` */
    int64_t rows;                   /* for each sequence of the step */
    int64_t n;                      /* features of a row */
    int64_t stride;                 /* floats from row to row of an appended key or value */
    double number;                  /* eps of a norm, scale of attention or of an embedding */
    const s2s_matrix *matrix;
    s2s_attention_problem *problem; /* its first leading axis follows the rows */
    const int64_t *step;            /* of positions: which vector; of attention: how
                                     * many columns before it a bias begins; null: none */
    const void *in[5];
    void *out[4];
    int64_t buffers[3];             /* by row block: of x, of the result, of `other` (-1: none) */
} s2s_op;

/* Rows [rows][width], or in parts, [width / part][rows][part], if no op reads them. Those that
 * nobody wants afterwards have no address: never all are there. */
typedef struct {
    float *rows;
    int64_t width, part; /* part: of those with an address; the width, where there is but one */
} s2s_buffer;

/* By row block: takes each thread's rows, a few at a time, through linear layers and norms in turn,
 * over numbered buffers. Of `in` only gamma and beta count. */
int s2s_run_row_blocks(const s2s_op *ops, int64_t count, const s2s_buffer *buffers,
                       int64_t buffer_count, int isa, int threads, int64_t rows);

/* By op: runs all in turn, for so many sequences. */
int s2s_run_program(const s2s_op *ops, int64_t count, int isa, int threads, int64_t sequences);

/* What has been appended to each of `count` sequences becomes what another one, its source, has, of
 * the same length: `stop` keys, alike before its start. */
void s2s_copy_history(const s2s_op *ops, int64_t ops_count, int64_t count, const int64_t *targets,
                      const int64_t *sources, const int64_t *starts, int64_t stop);

/* Greedy search by a program with one row to a sequence. */
typedef struct {
    float *logits;          /* [rows][columns], of the last call */
    int64_t columns;
    const int64_t *ids;     /* the token of each column; null: the column itself */
    const int64_t *places;  /* [sources][longest]: the columns that are a source's; null: all are */
    const int64_t *lengths; /* [sources]: how many there are */
    const int64_t *sources; /* [rows]: each row's */
    int64_t longest;
    float *own;             /* [rows][longest] scratch memory for their logits */
    const int64_t *never;   /* columns that are not to be chosen */
    int64_t never_count;
    int64_t end;            /* a token, after which the caller wants to be asked */
    int64_t *tokens;        /* [rows] that the program reads next */
    int64_t *step;          /* counts the steps */
} s2s_greedy;

/* Runs a program step by step: `most` times, or until a row's token is the end (as it is where no
 * column is left). found, scores [most][rows]: the tokens and their log-probabilities; statistics
 * [rows][2] is scratch memory; taken: the number of steps. */
int s2s_run_greedy(const s2s_op *ops, int64_t count, int isa, int threads, int64_t rows,
                   const s2s_greedy *greedy, int64_t most, int64_t *found, float *scores,
                   float *statistics, int64_t *taken);

/* What this library holds and what this processor and operating system run. */
const char *s2s_isa_name(int isa);
int s2s_isa_compiled(int isa);
int s2s_isa_usable(int isa);
const char *s2s_compiler(void);

#endif
