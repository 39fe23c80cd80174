/* Trains and evaluates many small ReLU networks of one shape, one network in each SIMD lane.

   Compiled once per shape and precision. The command line defines
     SIZES         neurons of each layer from input to output, separated by commas; one output
     N_INPUTS      the first of them
     N_NEURONS     their sum
     N_PARAMETERS  length of a network's flat parameter vector: weights, then biases
     REAL_BITS     32 or 64
   so that every loop bound inside a step is a constant and the tiles below stay in registers.

   A `vec` holds one number for LANES networks, its group. No operation crosses lanes, and sums over
   neurons and samples run in an order fixed by the shape: a network's result depends neither on its
   lane nor on its neighbours, bit by bit. A group is trained for a whole segment of steps before
   the next is begun; its parameters and velocity then stay in the first two levels of cache.

   Nothing here needs a C library: only freestanding headers are included. */

#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)") for
/* Without this, clang cuts vectors to 256 bits on processors whose clock may fall at 512. */
#define FULL_WIDTH __attribute__((min_vector_width(8 * VECTOR_BYTES)))

/* ---- Numbers ---- */

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#if REAL_BITS == 32
typedef float real;
typedef int32_t integer;
enum { MANTISSA_BITS = 23, EXPONENT_BIAS = 127, EXP_DEGREE = 7, LOG_TERMS = 8 };
/* Beyond this, exp is cut off: an error of 1e-26 (1e-261 in double precision) is as good as none,
   and what is multiplied with it stays clear of subnormal numbers, which are slow. */
#define EXP_LIMIT 60
#else
typedef double real;
typedef int64_t integer;
enum { MANTISSA_BITS = 52, EXPONENT_BIAS = 1023, EXP_DEGREE = 13, LOG_TERMS = 17 };
#define EXP_LIMIT 600
#endif

enum { LANES = VECTOR_BYTES / sizeof(real) };
typedef real vec __attribute__((ext_vector_type(LANES)));
typedef integer ivec __attribute__((ext_vector_type(LANES)));
typedef int8_t bytes __attribute__((ext_vector_type(LANES)));
typedef double wide __attribute__((ext_vector_type(LANES)));

/* exp, to about one unit in the last place: exp(x) = 2^n exp(r) with |r| <= ln(2)/2, where the
   Taylor series leaves 5e-9 at degree 7 and 4e-18 at degree 13. NaN stays NaN. */
INLINE vec exponential(vec x) {
  static const real inverse_factorial[] = {
      1.,           1.,            1. / 2,         1. / 6,          1. / 24,
      1. / 120,     1. / 720,      1. / 5040,      1. / 40320,      1. / 362880,
      1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800,
  };
  /* Adding this number rounds to an integer and leaves n, in the form of an exponent, in the lowest
     bits of the sum. */
  const real rounder = (real)(3ll << (MANTISSA_BITS - 1)) + EXPONENT_BIAS;
  const real ln2_high = 0x1.62e4p-1, ln2_low = 1.42860682030941723212e-6;

  x = x > EXP_LIMIT ? (vec)EXP_LIMIT : x;
  x = x < -EXP_LIMIT ? (vec)-EXP_LIMIT : x;
  vec rounded = x * (real)1.44269504088896340736 + rounder;
  vec n = rounded - rounder;
  vec r = (x - n * ln2_high) - n * ln2_low;
  vec series = (vec)inverse_factorial[EXP_DEGREE];
  UNROLLED (int i = EXP_DEGREE - 1; i >= 0; i--) series = series * r + inverse_factorial[i];
  return series * (vec)((ivec)rounded << MANTISSA_BITS);
}

/* log(1 + u) for 0 <= u <= 1, as 2 artanh(u / (2 + u)) by its series. */
INLINE vec log_one_plus(vec u) {
  vec s = u / (2 + u), square = s * s, series = 0;
  UNROLLED (int k = LOG_TERMS - 1; k >= 0; k--) series = series * square + (real)(1. / (2 * k + 1));
  return 2 * s * series;
}

/* ---- Shape ---- */

static const int sizes[] = {SIZES};
enum { N_LAYERS = sizeof(sizes) / sizeof(sizes[0]) - 1 };

typedef struct {
  real input[N_INPUTS];
  real sign; /* 1 for class 1, -1 for class 0 */
  real weight;
} sample;

/* Samples that go through the network together. */
enum { BLOCK = 16 };

INLINE int neurons_below(int layer) {
  int n = 0;
  UNROLLED (int l = 0; l < layer; l++) n += sizes[l];
  return n;
}

INLINE int weights_below(int layer) {
  int n = 0;
  UNROLLED (int l = 0; l < layer; l++) n += sizes[l] * sizes[l + 1];
  return n;
}

INLINE int biases_of(int layer) {
  return weights_below(N_LAYERS) + neurons_below(layer + 1) - N_INPUTS;
}

typedef struct {
  /* Within a step the gradient is added up in the velocity. */
  vec parameter[N_PARAMETERS], velocity[N_PARAMETERS];
  vec rate, momentum, decay;
  bytes mask[N_PARAMETERS];
  /* [neuron][sample]; backwards, errors take the place of the activations they belong to. */
  vec activation[N_NEURONS * BLOCK];
} group;

INLINE vec *activations(group *g, int layer) {
  return g->activation + neurons_below(layer) * BLOCK;
}

/* ---- Matrix products ---- */

/* Three products make a step. Each is c[row][column] = sum over k of a[row][k] b[k][column]; they
   differ in where a sum starts and in what is done with it. */
enum rule {
  FORWARD, /* starts at the bias of the row; ReLU */
  LOGIT,   /* starts at the bias of the row */
  BACK,    /* c, an activation of ReLU, becomes the error where it is positive and 0 elsewhere;
              `bias`, the gradient of the row's bias, grows by the errors of the row */
  GRADIENT /* adds to c */
};

typedef struct {
  vec *at;
  int row, column; /* strides */
} matrix;

INLINE vec *entry(matrix m, int row, int column) { return m.at + row * m.row + column * m.column; }

INLINE matrix part(matrix m, int row, int column) {
  m.at = entry(m, row, column);
  return m;
}

/* Sums that fit the registers, 32 or 16, beside the operands; tiles of few rows are wide. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { TILE_ROWS = 4, TILE_SUMS = 24 };
#else
enum { TILE_ROWS = 3, TILE_SUMS = 12 };
#endif

INLINE void tile(enum rule rule, int rows, int columns, int depth, matrix a, matrix b, matrix c,
                 vec *bias) {
  vec sum[TILE_ROWS][TILE_SUMS];
  UNROLLED (int i = 0; i < rows; i++)
    UNROLLED (int j = 0; j < columns; j++)
      sum[i][j] = rule == BACK ? (vec)0 : rule == GRADIENT ? *entry(c, i, j) : bias[i];
  for (int k = 0; k < depth; k++)
    UNROLLED (int i = 0; i < rows; i++)
      UNROLLED (int j = 0; j < columns; j++) sum[i][j] += *entry(a, i, k) * *entry(b, k, j);
  /* Comparisons are put so that NaN goes through. */
  UNROLLED (int i = 0; i < rows; i++) {
    vec total = 0;
    UNROLLED (int j = 0; j < columns; j++) {
      vec result = sum[i][j];
      if (rule == FORWARD) result = result < 0 ? (vec)0 : result;
      if (rule == BACK) result = *entry(c, i, j) <= 0 ? (vec)0 : result;
      *entry(c, i, j) = result;
      total += result;
    }
    if (rule == BACK) bias[i] += total;
  }
}

/* n cut into as few tiles as the limit allows, as equal as can be; the last may be smaller. */
INLINE int tile_size(int n, int limit) {
  int tiles = (n + limit - 1) / limit;
  return (n + tiles - 1) / tiles;
}

INLINE void row_of_tiles(enum rule rule, int rows, int columns, int depth, matrix a, matrix b,
                         matrix c, vec *bias) {
  const int width = tile_size(columns, TILE_SUMS / rows);
  const int rest = columns % width, last = columns - rest;
  for (int j = 0; j + width <= columns; j += width)
    tile(rule, rows, width, depth, a, part(b, 0, j), part(c, 0, j), bias);
  if (rest) tile(rule, rows, rest, depth, a, part(b, 0, last), part(c, 0, last), bias);
}

INLINE void product(enum rule rule, int rows, int columns, int depth, matrix a, matrix b, matrix c,
                    vec *bias) {
  const int height = tile_size(rows, TILE_ROWS), rest = rows % height, last = rows - rest;
  for (int i = 0; i + height <= rows; i += height)
    row_of_tiles(rule, height, columns, depth, part(a, i, 0), b, part(c, i, 0), bias + i);
  if (rest)
    row_of_tiles(rule, rest, columns, depth, part(a, last, 0), b, part(c, last, 0), bias + last);
}

/* ---- One block of samples ---- */

/* Inputs to logits. */
INLINE void forward(group *g, const sample *samples) {
  for (int s = 0; s < BLOCK; s++)
    for (int i = 0; i < N_INPUTS; i++) g->activation[i * BLOCK + s] = (vec)samples[s].input[i];
  UNROLLED (int l = 0; l < N_LAYERS; l++) {
    matrix weight = {g->parameter + weights_below(l), sizes[l], 1};
    matrix in = {activations(g, l), BLOCK, 1}, out = {activations(g, l + 1), BLOCK, 1};
    product(l + 1 < N_LAYERS ? FORWARD : LOGIT, sizes[l + 1], BLOCK, sizes[l], weight, in, out,
            g->parameter + biases_of(l));
  }
}

/* Logits to their errors: the derivative of the weighted loss log(1 + exp(-sign z)), written so
   that it keeps its relative accuracy for samples that are classified with confidence. Their sum is
   the gradient of the output's bias. */
INLINE void output_error(group *g, const sample *samples) {
  vec *logit = activations(g, N_LAYERS), sum = 0;
  for (int s = 0; s < BLOCK; s++) {
    const real sign = samples[s].sign, weight = samples[s].weight;
    logit[s] = -sign * weight / (1 + exponential(sign * logit[s]));
    sum += logit[s];
  }
  g->velocity[biases_of(N_LAYERS - 1)] += sum;
}

/* Adds the block's part to the gradient, but for the output's bias. */
INLINE void backward(group *g) {
  UNROLLED (int l = N_LAYERS - 1; l >= 0; l--) {
    matrix in = {activations(g, l), BLOCK, 1}, error = {activations(g, l + 1), BLOCK, 1};
    matrix weight_by_input = {g->parameter + weights_below(l), 1, sizes[l]};
    matrix samples_by_input = {in.at, 1, BLOCK};
    matrix gradient = {g->velocity + weights_below(l), sizes[l], 1};
    product(GRADIENT, sizes[l + 1], sizes[l], BLOCK, error, samples_by_input, gradient, NULL);
    if (l > 0)
      product(BACK, sizes[l], BLOCK, sizes[l + 1], weight_by_input, error, in,
              g->velocity + biases_of(l - 1));
  }
}

/* SGD as torch has it: velocity = momentum velocity + decay parameter + gradient. `begin` is the
   first step's share of this that comes before the gradient; `update` ends a step and begins the
   next, if there is one. A mask byte has all bits set or none, so that a masked entry stays zero
   whatever its gradient is. */
INLINE void begin(group *g) {
  for (int p = 0; p < N_PARAMETERS; p++)
    g->velocity[p] = g->momentum * g->velocity[p] + g->decay * g->parameter[p];
}

INLINE void update(group *g, int last) {
  const vec rate = g->rate, momentum = g->momentum, decay = g->decay;
  for (int p = 0; p < N_PARAMETERS; p++) {
    const ivec mask = __builtin_convertvector(g->mask[p], ivec);
    const vec velocity = (vec)((ivec)g->velocity[p] & mask);
    const vec parameter = g->parameter[p] - rate * velocity;
    g->velocity[p] = last ? velocity : momentum * velocity + decay * parameter;
    g->parameter[p] = parameter;
  }
}

/* ---- Groups ---- */

/* Members [member][n] to lanes [n][lane]; lanes without a member are zero. */
INLINE void load(vec *to, const real *from, int n, int members) {
  real *lane = (real *)to;
  for (int p = 0; p < n; p++)
    for (int m = 0; m < LANES; m++) lane[p * LANES + m] = m < members ? from[m * n + p] : 0;
}

INLINE void store(real *to, const vec *from, int n, int members) {
  const real *lane = (const real *)from;
  for (int p = 0; p < n; p++)
    for (int m = 0; m < members; m++) to[m * n + p] = lane[p * LANES + m];
}

const int64_t lanes = LANES, samples_per_block = BLOCK;
const int64_t scratch_bytes = sizeof(group), scratch_alignment = sizeof(vec);

INLINE int group_size(int64_t rest) { return rest < LANES ? (int)rest : LANES; }

/* Takes `steps` steps, each over `blocks` blocks of samples. parameters, velocity and mask (0 or 1)
   are [members][N_PARAMETERS]; rate, momentum and decay are [members]. */
FULL_WIDTH void advance(void *scratch, const sample *samples, int64_t steps, int64_t blocks,
                    int64_t members, real *parameters, real *velocity, const int8_t *mask,
                    const real *rate, const real *momentum, const real *decay) {
  group *g = scratch;
  for (int64_t first = 0; first < members; first += LANES) {
    const int n = group_size(members - first);
    const int64_t at = first * N_PARAMETERS;
    load(g->parameter, parameters + at, N_PARAMETERS, n);
    load(g->velocity, velocity + at, N_PARAMETERS, n);
    load(&g->rate, rate + first, 1, n);
    load(&g->momentum, momentum + first, 1, n);
    load(&g->decay, decay + first, 1, n);
    int8_t *lane = (int8_t *)g->mask;
    for (int p = 0; p < N_PARAMETERS; p++)
      for (int m = 0; m < LANES; m++)
        lane[p * LANES + m] = m < n ? -mask[at + m * N_PARAMETERS + p] : 0;
    if (steps > 0) begin(g);
    const sample *block = samples;
    for (int64_t step = 0; step < steps; step++) {
      for (int64_t b = 0; b < blocks; b++, block += BLOCK) {
        forward(g, block);
        output_error(g, block);
        backward(g);
      }
      update(g, step + 1 == steps);
    }
    store(parameters + at, g->parameter, N_PARAMETERS, n);
    store(velocity + at, g->velocity, N_PARAMETERS, n);
  }
}

/* Weighted numbers of correct samples and sums of losses over all blocks, [members] each. A logit
   of zero is class 0; NaN is never correct. */
FULL_WIDTH void evaluate(void *scratch, const sample *samples, int64_t blocks, int64_t members,
                     const real *parameters, double *correct, double *loss) {
  group *g = scratch;
  for (int64_t first = 0; first < members; first += LANES) {
    const int n = group_size(members - first);
    load(g->parameter, parameters + first * N_PARAMETERS, N_PARAMETERS, n);
    wide hits = 0, sum = 0;
    for (const sample *block = samples; block < samples + blocks * BLOCK; block += BLOCK) {
      forward(g, block);
      for (int s = 0; s < BLOCK; s++) {
        const real sign = block[s].sign;
        const double weight = block[s].weight;
        const vec logit = activations(g, N_LAYERS)[s], margin = sign * logit;
        /* Comparisons give -1 for true. */
        const ivec right = (ivec)(sign > 0 ? logit > 0 : logit <= 0);
        const vec tail = log_one_plus(exponential(margin < 0 ? margin : -margin));
        hits -= weight * __builtin_convertvector(right, wide);
        sum += weight * __builtin_convertvector((margin > 0 ? (vec)0 : -margin) + tail, wide);
      }
    }
    for (int m = 0; m < n; m++) {
      correct[first + m] = ((double *)&hits)[m];
      loss[first + m] = ((double *)&sum)[m];
    }
  }
}
