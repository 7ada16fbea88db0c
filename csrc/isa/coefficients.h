/* The numbers of exp, tanh, erf, log and the layers. The contract in seq2seq_fast/contract has the
 * same ones, and tests/backends/test_coefficients.py compares them. A template takes its type's by
 * T(NAME).
 *
 * exp(x) = 2^n * root of two * (1 + (r + r^2 * poly(r))), r on [-ln2/32, ln2/32]; tanh's
 * exponential has no roots, and r on [-ln2/2, ln2/2]. Polynomials begin with their highest power.
 * LN2_HIGH has so few bits that its product with n is exact. Adding MAGIC rounds to whole numbers,
 * which then stand in the low bits, the exponent's bias added; MAGIC_16 rounds to sixteenths. */
#define f32_EXP_LEAST -87.0f /* below it results are not normal numbers: they are 0 */
#define f32_TANH_MOST 20.0f  /* beyond it tanh is 1 */
#define f32_LOG2E 0x1.715476p+0f
#define f32_LN2_HIGH 0x1.62ep-1f
#define f32_LN2_LOW 0x1.0bfbe8p-15f
#define f32_MAGIC 0x1.8000fep+23f
#define f32_MAGIC_16 0x1.8p+19f
#define f32_EXP_POLY 0x1.555734p-3f, 0x1.00022p-1f
#define f32_TANH_POLY                                                                              \
    0x1.6a23cep-10f, 0x1.123a20p-7f, 0x1.5558fap-5f, 0x1.555492p-3f, 0x1.fffffcp-2f

#define f64_EXP_LEAST -708.0
#define f64_TANH_MOST 40.0
#define f64_LOG2E 0x1.71547652b82fep+0
#define f64_LN2_HIGH 0x1.62e42fefa4p-1
#define f64_LN2_LOW -0x1.8432a1b0e2634p-43
#define f64_MAGIC 0x1.80000000003ffp+52
#define f64_MAGIC_16 0x1.8p+48
#define f64_EXP_POLY                                                                               \
    0x1.a01b86a249999p-13, 0x1.6c184177b39f4p-10, 0x1.111111108fbb7p-7, 0x1.555555547f64p-5,       \
    0x1.5555555555559p-3, 0x1.0000000000004p-1
#define f64_TANH_POLY                                                                              \
    0x1.ad7e6d051aaaap-26, 0x1.28ada1d7e48acp-22, 0x1.71df261b6b0e2p-19, 0x1.a01999d9c338cp-16,    \
    0x1.a01a0129f663ap-13, 0x1.6c16c1843cc95p-10, 0x1.1111111127ce6p-7, 0x1.5555555550825p-5,      \
    0x1.55555555554fap-3, 0x1.000000000000ap-1

/* 2^(i / 16), i = 0 .. 15. */
#define ROOTS_OF_TWO(type)                                                                         \
    (type)0x1p+0, (type)0x1.0b5586cf9890fp+0, (type)0x1.172b83c7d517bp+0,                          \
    (type)0x1.2387a6e756238p+0, (type)0x1.306fe0a31b715p+0, (type)0x1.3dea64c123422p+0,            \
    (type)0x1.4bfdad5362a27p+0, (type)0x1.5ab07dd485429p+0, (type)0x1.6a09e667f3bcdp+0,            \
    (type)0x1.7a11473eb0187p+0, (type)0x1.8ace5422aa0dbp+0, (type)0x1.9c49182a3f090p+0,            \
    (type)0x1.ae89f995ad3adp+0, (type)0x1.c199bdd85529cp+0, (type)0x1.d5818dcfba487p+0,            \
    (type)0x1.ea4afa2a490dap+0

/* erf(a) = a * poly(d) in sixteen pieces, each a quarter wide, d from the middle of its piece; a
 * row has one power's coefficients, the highest power first. From ERF_MOST on erf is 1. */
#define ERF_MOST 3.921875f
#define ERF_TABLE                                                                                  \
    {-0x1.3ef6a2p-16f, -0x1.7b01a8p-15f, -0x1.7d051cp-15f, -0x1.a30542p-16f, -0x1.62d6c8p-21f,     \
     0x1.d7de22p-17f, 0x1.15582p-16f, 0x1.8b4a56p-17f, 0x1.83f0ccp-18f, 0x1.b7ce18p-20f,           \
     -0x1.42934ep-22f, -0x1.c5956ap-21f, -0x1.ab84aap-21f, -0x1.41755p-21f, -0x1.c03928p-22f,      \
     -0x1.336eaep-22f},                                                                            \
    {0x1.b26736p-12f, 0x1.00cfecp-12f, 0x1.039aep-17f, -0x1.6bb6cp-13f, -0x1.ee48b6p-13f,          \
     -0x1.9d3456p-13f, -0x1.e80ae8p-14f, -0x1.7157fap-15f, -0x1.0b2998p-21f, 0x1.1ec966p-16f,      \
     0x1.4a6202p-16f, 0x1.141936p-16f, 0x1.9a712ep-17f, 0x1.25015cp-17f, 0x1.a0c85ep-18f,          \
     0x1.2c04fp-18f},                                                                              \
    {0x1.c5a77p-11f, 0x1.24d5f4p-9f, 0x1.671dbp-9f, 0x1.367b2cp-9f, 0x1.8a2976p-10f,               \
     0x1.3fc1cep-11f, -0x1.6844dp-16f, -0x1.5d2c2cp-12f, -0x1.ae6c76p-12f, -0x1.834a48p-12f,       \
     -0x1.3244d2p-12f, -0x1.cac5p-13f, -0x1.52a6bp-13f, -0x1.f709a2p-14f, -0x1.7b265ap-14f,        \
     -0x1.229a5cp-14f},                                                                            \
    {-0x1.766ac6p-6f, -0x1.276b5p-6f, -0x1.527662p-7f, -0x1.457a8ep-9f, 0x1.bbf076p-9f,            \
     0x1.ab144ep-8f, 0x1.df8a4cp-8f, 0x1.b7e9a8p-8f, 0x1.6bfbecp-8f, 0x1.1e31ep-8f,                \
     0x1.ba09b4p-9f, 0x1.560c04p-9f, 0x1.0bd8e2p-9f, 0x1.a9f472p-10f, 0x1.57e982p-10f,             \
     0x1.1993dcp-10f},                                                                             \
    {-0x1.7d8ff6p-6f, -0x1.09ac2ep-4f, -0x1.7edefep-4f, -0x1.b29328p-4f, -0x1.ad1538p-4f,          \
     -0x1.82ad18p-4f, -0x1.48b7c4p-4f, -0x1.0e9e1ap-4f, -0x1.b87062p-5f, -0x1.67575ap-5f,          \
     -0x1.284246p-5f, -0x1.ef1beep-6f, -0x1.a35764p-6f, -0x1.6793eep-6f, -0x1.37b3d6p-6f,          \
     -0x1.10c82ep-6f},                                                                             \
    {0x1.1f5e1ap+0f, 0x1.13e08cp+0f, 0x1.fe8f16p-1f, 0x1.cacbc2p-1f, 0x1.9450bcp-1f,               \
     0x1.611066p-1f, 0x1.3448f8p-1f, 0x1.0ee122p-1f, 0x1.e09a7ap-2f, 0x1.aed2p-2f,                 \
     0x1.8603ep-2f, 0x1.642828p-2f, 0x1.47ad4p-2f, 0x1.2f6828p-2f, 0x1.1a7b9p-2f,                  \
     0x1.08421p-2f}

#define GELU_ROOT 0x1.6a09e6p-1f   /* sqrt(1/2) */
#define GELU_CUBE 0.044715f
#define GELU_TANH 0x1.988454p-1f   /* sqrt(2 / pi) */
#define GELU_SIGMOID 1.702f
#define LOG_ROOT 0x1.6a09e6p-1f    /* sqrt(1/2) */
#define I8_LEAST 0x1p-100f         /* a row of less is quantised as if it held this */
#define WHOLE_MAGIC 0x1.8p+23f     /* adding it rounds to an integer, in the low bits */
