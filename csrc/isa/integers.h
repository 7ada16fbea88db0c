/* Products of eight-bit integers in plain C, for instruction sets without better: compilers
 * vectorise the sixteen columns. */
#define I8_TARGET
typedef int16_t i8_input;
typedef const uint8_t *i8_line;
typedef struct {
    int32_t lane[S2S_LANES];
} i8_sums;

static inline i8_line i8_load(const uint8_t *p) { return p; }
static inline i8_sums i8_zero(void) { return (i8_sums){{0}}; }
static inline i8_sums i8_step(i8_sums acc, i8_line line, const i8_input *x)
{
    for (int i = 0; i < S2S_LANES; i++)
        for (int k = 0; k < 4; k++)
            acc.lane[i] += line[4 * i + k] * x[k];
    return acc;
}
static inline void i8_store(int32_t *p, i8_sums a) { memcpy(p, a.lane, sizeof a.lane); }
