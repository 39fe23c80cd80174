/* Trains and evaluates many small ReLU networks of one shape on a GPU.

   Compiled once per shape and precision. The command line defines
     SIZES         neurons of each layer from input to output, separated by commas; one output
     N_INPUTS      the first of them
     N_NEURONS     their sum
     N_PARAMETERS  length of a network's flat parameter vector: weights, then biases
     REAL_BITS     32 or 64
     ONE_THREAD    1: a thread trains a network by itself, in registers;
                   0: the threads of a block train one network together, in shared memory
     THREADS       threads of a block
     SAMPLES       samples that go through the network together
     SHARED_BYTES  shared memory of a block

   A network stays on the chip for a whole segment of steps. Sums run in an order fixed by the shape,
   there are no atomics, and networks share no data but the samples: a network's result depends
   neither on its place nor on its neighbours, bit by bit.

   No header is included: none need be installed. */

#define DEVICE static __device__ __forceinline__
#define UNROLLED _Pragma("unroll") for

#if REAL_BITS == 32
typedef float real;
DEVICE real exponential(real x) { return expf(x); }
DEVICE real log_one_plus(real x) { return log1pf(x); }
#else
typedef double real;
DEVICE real exponential(real x) { return exp(x); }
DEVICE real log_one_plus(real x) { return log1p(x); }
#endif

/* One phase of a block: every thread does its part, then all see what all have written. The tests,
   which need no GPU, define it as a loop over the threads. */
#ifndef TOGETHER
#define TOGETHER together
template <class Part> DEVICE void together(Part part) {
  part((int)threadIdx.x);
  if (THREADS == 32)
    __syncwarp();
  else
    __syncthreads();
}
#endif

/* ---- Shape ---- */

__device__ constexpr int n_layers() {
  constexpr int sizes[] = {SIZES};
  return sizeof(sizes) / sizeof(sizes[0]) - 1;
}

__device__ constexpr int size(int layer) {
  constexpr int sizes[] = {SIZES};
  return sizes[layer];
}

__device__ constexpr int neurons_below(int layer) {
  int n = 0;
  for (int l = 0; l < layer; l++) n += size(l);
  return n;
}

__device__ constexpr int weights_below(int layer) {
  int n = 0;
  for (int l = 0; l < layer; l++) n += size(l) * size(l + 1);
  return n;
}

enum { N_LAYERS = n_layers() };

/* Layer L, from its inputs to its outputs, and where it begins in the flat parameter vector. */
template <int L> struct flat {
  enum { in = size(L), out = size(L + 1), weights = weights_below(L) };
  enum { biases = weights_below(N_LAYERS) + neurons_below(L + 1) - N_INPUTS };
};

/* Read at once where its length allows. */
struct alignas((N_INPUTS + 2) * sizeof(real) % 16 == 0 ? 16 : sizeof(real)) sample {
  real input[N_INPUTS];
  real sign; /* 1 for class 1, -1 for class 0 */
  real weight;
};

/* ---- Formulas. Comparisons are put so that NaN goes through. ---- */

DEVICE real relu(real x) { return x < 0 ? (real)0 : x; }

/* `error` where a rectified activation is positive, 0 elsewhere. */
DEVICE real gated(real error, real activation) { return activation <= 0 ? (real)0 : error; }

/* The derivative of the weighted loss log(1 + exp(-sign z)), written so that it keeps its relative
   accuracy for samples that are classified with confidence. */
DEVICE real output_error(real logit, real sign, real weight) {
  return -sign * weight / (1 + exponential(sign * logit));
}

DEVICE real loss_of(real logit, real sign) {
  const real margin = sign * logit;
  return (margin > 0 ? (real)0 : -margin) + log_one_plus(exponential(margin < 0 ? margin : -margin));
}

/* A logit of zero is class 0; NaN is never right. */
DEVICE bool is_right(real logit, real sign) { return sign > 0 ? logit > 0 : logit <= 0; }

/* SGD as torch has it. Not a product with the mask: of a network that diverged, that would leave
   NaN in masked entries. */
DEVICE void descend(real &parameter, real &velocity, real gradient, bool kept, real rate,
                    real momentum, real decay) {
  const real step = gradient + decay * parameter;
  velocity = momentum * velocity + (kept ? step : (real)0);
  parameter -= rate * velocity;
}

#if ONE_THREAD

/* ---- A network in the registers of one thread ---- */

/* All indices become constants when the loops are unrolled, or else this would not be registers. */
struct network {
  real parameter[N_PARAMETERS], gradient[N_PARAMETERS];
  /* Backwards, errors take the place of the activations they belong to. */
  real activation[N_NEURONS];
};

/* What is needed once a step is not worth registers. */
struct slow_memory {
  real velocity[N_PARAMETERS][THREADS];
  signed char mask[N_PARAMETERS][THREADS];
};
static_assert(sizeof(slow_memory) == SHARED_BYTES, "as the caller counts");

template <int L = 0> DEVICE void forward(network &n) {
  using layer = flat<L>;
  const real *in = n.activation + neurons_below(L);
  UNROLLED (int o = 0; o < layer::out; o++) {
    real sum = n.parameter[layer::biases + o];
    UNROLLED (int i = 0; i < layer::in; i++)
      sum += n.parameter[layer::weights + o * layer::in + i] * in[i];
    n.activation[neurons_below(L + 1) + o] = L + 1 < N_LAYERS ? relu(sum) : sum;
  }
  if constexpr (L + 1 < N_LAYERS) forward<L + 1>(n);
}

template <int L = N_LAYERS - 1> DEVICE void backward(network &n) {
  using layer = flat<L>;
  real *in = n.activation + neurons_below(L);
  const real *error = n.activation + neurons_below(L + 1);
  UNROLLED (int o = 0; o < layer::out; o++) {
    n.gradient[layer::biases + o] += error[o];
    UNROLLED (int i = 0; i < layer::in; i++)
      n.gradient[layer::weights + o * layer::in + i] += error[o] * in[i];
  }
  if constexpr (L > 0) {
    UNROLLED (int i = 0; i < layer::in; i++) {
      real sum = 0;
      UNROLLED (int o = 0; o < layer::out; o++)
        sum += n.parameter[layer::weights + o * layer::in + i] * error[o];
      in[i] = gated(sum, in[i]);
    }
    backward<L - 1>(n);
  }
}

DEVICE real logit_of(network &n, const sample &s) {
  UNROLLED (int i = 0; i < N_INPUTS; i++) n.activation[i] = s.input[i];
  forward(n);
  return n.activation[N_NEURONS - 1];
}

/* Takes `steps` steps, each over `blocks` blocks of samples. parameters, velocity and mask (0 or 1)
   are [members][N_PARAMETERS]; rate, momentum and decay are [members]. */
extern "C" __global__ void __launch_bounds__(THREADS)
    advance(long long members, const sample *__restrict__ samples, long long steps,
            long long blocks, real *parameters, real *velocities, const signed char *masks,
            const real *rates, const real *momenta, const real *decays) {
  extern __shared__ slow_memory memories[];
  slow_memory &slow = memories[0];
  TOGETHER([&](int thread) {
    const long long member = (long long)blockIdx.x * THREADS + thread;
    if (member >= members) return;
    const long long at = member * N_PARAMETERS;
    const real rate = rates[member], momentum = momenta[member], decay = decays[member];
    network n = {};
    UNROLLED (int p = 0; p < N_PARAMETERS; p++) {
      n.parameter[p] = parameters[at + p];
      slow.velocity[p][thread] = velocities[at + p];
      slow.mask[p][thread] = masks[at + p];
    }
    const sample *s = samples;
    for (long long step = 0; step < steps; step++) {
      /* Left rolled: the registers are full. */
      _Pragma("unroll 1") for (long long b = 0; b < blocks * SAMPLES; b++, s++) {
        const real logit = logit_of(n, *s);
        n.activation[N_NEURONS - 1] = output_error(logit, s->sign, s->weight);
        backward(n);
      }
      UNROLLED (int p = 0; p < N_PARAMETERS; p++) {
        descend(n.parameter[p], slow.velocity[p][thread], n.gradient[p], slow.mask[p][thread],
                rate, momentum, decay);
        n.gradient[p] = 0;
      }
    }
    UNROLLED (int p = 0; p < N_PARAMETERS; p++) {
      parameters[at + p] = n.parameter[p];
      velocities[at + p] = slow.velocity[p][thread];
    }
  });
}

/* Weighted numbers of correct samples and sums of losses over all blocks, [members] each. */
extern "C" __global__ void __launch_bounds__(THREADS)
    evaluate(long long members, const sample *__restrict__ samples, long long blocks,
             const real *parameters, double *correct, double *loss) {
  TOGETHER([&](int thread) {
    const long long member = (long long)blockIdx.x * THREADS + thread;
    if (member >= members) return;
    network n = {};
    UNROLLED (int p = 0; p < N_PARAMETERS; p++)
      n.parameter[p] = parameters[member * N_PARAMETERS + p];
    double hits = 0, sum = 0;
    for (const sample *s = samples; s < samples + blocks * SAMPLES; s++) {
      const real logit = logit_of(n, *s);
      hits += is_right(logit, s->sign) ? (double)s->weight : 0.0;
      sum += (double)s->weight * loss_of(logit, s->sign);
    }
    correct[member] = hits;
    loss[member] = sum;
  });
}

#else

/* ---- A network in the shared memory of one block ---- */

/* Matrices are held in rows padded to whole packs of four numbers, and four more: then rows that
   are read together lie in different banks. Padded entries are masked; they take part in sums that
   nothing reads, and in no other. */
__device__ constexpr int padded(int n) { return (n + 3) / 4 * 4; }

__device__ constexpr int rows_below(int layer) {
  int n = 0;
  for (int l = 0; l < layer; l++) n += padded(size(l));
  return n;
}

__device__ constexpr int places_below(int layer) {
  int n = 0;
  for (int l = 0; l < layer; l++) n += padded(size(l + 1)) * (padded(size(l)) + 4);
  return n;
}

enum { ROW = SAMPLES + 4, N_ROWS = rows_below(N_LAYERS + 1) };
enum { FIRST_BIAS = places_below(N_LAYERS), N_BIASES = N_ROWS - padded(N_INPUTS) };
enum { N_PLACES = FIRST_BIAS + N_BIASES };

template <int L> struct place {
  enum { weights = places_below(L), stride = padded(size(L)) + 4 };
  enum { biases = FIRST_BIAS + rows_below(L + 1) - padded(N_INPUTS) };
  enum { in = rows_below(L) * ROW, out = rows_below(L + 1) * ROW }; /* activations */
};

struct alignas(16) network {
  real parameter[N_PLACES], velocity[N_PLACES], gradient[N_PLACES];
  /* [neuron][sample]; backwards, errors take the place of the activations they belong to. */
  real activation[N_ROWS * ROW];
  real sign[SAMPLES], weight[SAMPLES];
  double correct[SAMPLES], loss[SAMPLES];
  signed char mask[N_PLACES];
};
static_assert(sizeof(network) == SHARED_BYTES, "as the caller counts");

/* N numbers side by side, moved at once. */
template <int N> struct alignas(N * sizeof(real) < 16 ? N * sizeof(real) : 16) pack {
  real at[N];
};

template <int N> DEVICE pack<N> load(const real *from) {
  return *reinterpret_cast<const pack<N> *>(from);
}

template <int N> DEVICE void store(real *to, const pack<N> &from) {
  *reinterpret_cast<pack<N> *>(to) = from;
}

/* A matrix product is cut into tiles, and a thread computes one tile at a time in registers. Tiles
   are as large as they can be with work for all threads. */
__device__ constexpr int tiles(int n, int edge) { return (n + edge - 1) / edge; }

__device__ constexpr int tile_rows(int rows) { return rows < 3 ? rows : 4; }

__device__ constexpr int tile_columns(int rows) {
  int columns = 4;
  while (columns > 1 && tiles(rows, tile_rows(rows)) * tiles(SAMPLES, columns) < THREADS)
    columns /= 2;
  return columns;
}

/* outputs[o][s] = bias[o] + sum over i of weight[o][i] inputs[i][s]. The rows of a tile are spread
   over the matrix. */
template <int L = 0> DEVICE void forward(network &n) {
  using layer = flat<L>;
  using at = place<L>;
  constexpr int R = tile_rows(layer::out), C = tile_columns(layer::out);
  constexpr int row_tiles = tiles(layer::out, R), column_tiles = SAMPLES / C;
  constexpr int stride = at::stride;
  TOGETHER([&](int thread) {
    for (int t = thread; t < row_tiles * column_tiles; t += THREADS) {
      const int row = t / column_tiles, column = t % column_tiles * C;
      const real *weight = n.parameter + at::weights + row * stride;
      const real *input = n.activation + at::in + column;
      real sum[R][C];
      UNROLLED (int r = 0; r < R; r++)
        UNROLLED (int c = 0; c < C; c++)
          sum[r][c] = n.parameter[at::biases + row + r * row_tiles];
      UNROLLED (int k = 0; k < layer::in; k += 4) {
        pack<4> w[R];
        UNROLLED (int r = 0; r < R; r++) w[r] = load<4>(weight + r * row_tiles * stride + k);
        UNROLLED (int j = 0; j < (layer::in - k < 4 ? layer::in - k : 4); j++) {
          const pack<C> x = load<C>(input + (k + j) * ROW);
          UNROLLED (int r = 0; r < R; r++)
            UNROLLED (int c = 0; c < C; c++) sum[r][c] += w[r].at[j] * x.at[c];
        }
      }
      UNROLLED (int r = 0; r < R; r++) {
        pack<C> y;
        UNROLLED (int c = 0; c < C; c++) y.at[c] = L + 1 < N_LAYERS ? relu(sum[r][c]) : sum[r][c];
        store(n.activation + at::out + (row + r * row_tiles) * ROW + column, y);
      }
    }
  });
  if constexpr (L + 1 < N_LAYERS) forward<L + 1>(n);
}

/* gradient[o][i] += sum over s of errors[o][s] inputs[i][s]. Rows and columns of a tile are spread
   over the matrix. */
template <int L, int R = 4, int C = 4> DEVICE void add_gradient(network &n) {
  using layer = flat<L>;
  using at = place<L>;
  constexpr int row_tiles = tiles(layer::out, R), column_tiles = tiles(layer::in, C);
  if constexpr (row_tiles * column_tiles < THREADS && R > 1) {
    add_gradient<L, R == C ? R : R / 2, R == C ? C / 2 : C>(n);
  } else {
    TOGETHER([&](int thread) {
      for (int t = thread; t < row_tiles * column_tiles; t += THREADS) {
        const int row = t / column_tiles, column = t % column_tiles;
        const real *error = n.activation + at::out + row * ROW;
        const real *input = n.activation + at::in + column * ROW;
        real sum[R][C] = {};
        for (int s = 0; s < SAMPLES; s += 4) {
          pack<4> e[R], x[C];
          UNROLLED (int r = 0; r < R; r++) e[r] = load<4>(error + r * row_tiles * ROW + s);
          UNROLLED (int c = 0; c < C; c++) x[c] = load<4>(input + c * column_tiles * ROW + s);
          UNROLLED (int j = 0; j < 4; j++)
            UNROLLED (int r = 0; r < R; r++)
              UNROLLED (int c = 0; c < C; c++) sum[r][c] += e[r].at[j] * x[c].at[j];
        }
        UNROLLED (int r = 0; r < R; r++)
          UNROLLED (int c = 0; c < C; c++) {
            const int o = row + r * row_tiles, i = column + c * column_tiles;
            n.gradient[at::weights + o * at::stride + i] += sum[r][c];
          }
      }
    });
  }
}

/* inputs[i][s] becomes its error, sum over o of weight[o][i] errors[o][s], where it is positive. */
template <int L> DEVICE void propagate(network &n) {
  using layer = flat<L>;
  using at = place<L>;
  constexpr int R = tile_rows(layer::in), C = tile_columns(layer::in);
  constexpr int column_tiles = SAMPLES / C;
  TOGETHER([&](int thread) {
    for (int t = thread; t < tiles(layer::in, R) * column_tiles; t += THREADS) {
      const int row = t / column_tiles * R, column = t % column_tiles * C;
      real sum[R][C] = {};
      UNROLLED (int o = 0; o < layer::out; o++) {
        const pack<R> w = load<R>(n.parameter + at::weights + o * at::stride + row);
        const pack<C> e = load<C>(n.activation + at::out + o * ROW + column);
        UNROLLED (int r = 0; r < R; r++)
          UNROLLED (int c = 0; c < C; c++) sum[r][c] += w.at[r] * e.at[c];
      }
      UNROLLED (int r = 0; r < R; r++) {
        real *input = n.activation + at::in + (row + r) * ROW + column;
        pack<C> x = load<C>(input);
        UNROLLED (int c = 0; c < C; c++) x.at[c] = gated(sum[r][c], x.at[c]);
        store(input, x);
      }
    }
  });
}

template <int L = N_LAYERS - 1> DEVICE void backward(network &n) {
  add_gradient<L>(n);
  if constexpr (L > 0) {
    propagate<L>(n);
    backward<L - 1>(n);
  }
}

/* When all errors are known: a neuron's row of errors summed is the gradient of its bias. */
DEVICE void add_bias_gradient(network &n) {
  TOGETHER([&](int thread) {
    for (int b = thread; b < N_BIASES; b += THREADS) {
      real sum = 0;
      for (int s = 0; s < SAMPLES; s += 4) {
        const pack<4> e = load<4>(n.activation + (padded(N_INPUTS) + b) * ROW + s);
        UNROLLED (int j = 0; j < 4; j++) sum += e.at[j];
      }
      n.gradient[FIRST_BIAS + b] += sum;
    }
  });
}

DEVICE void logits_of(network &n, const sample *samples) {
  TOGETHER([&](int thread) {
    for (int s = thread; s < SAMPLES; s += THREADS) {
      UNROLLED (int i = 0; i < N_INPUTS; i++) n.activation[i * ROW + s] = samples[s].input[i];
      n.sign[s] = samples[s].sign;
      n.weight[s] = samples[s].weight;
    }
  });
  forward(n);
}

/* Calls `visit` with the place of each parameter in shared memory and in the flat vector, the
   parameters dealt out to the threads. */
template <int L = 0, class Visit> DEVICE void for_parameters(int thread, Visit visit) {
  using layer = flat<L>;
  using at = place<L>;
  for (int e = thread; e < layer::out * layer::in; e += THREADS)
    visit(at::weights + e / layer::in * at::stride + e % layer::in, layer::weights + e);
  for (int o = thread; o < layer::out; o += THREADS) visit(at::biases + o, layer::biases + o);
  if constexpr (L + 1 < N_LAYERS) for_parameters<L + 1>(thread, visit);
}

DEVICE void clear(network &n) {
  TOGETHER([&](int thread) {
    int *words = reinterpret_cast<int *>(&n);
    for (int w = thread; w < (int)(sizeof(network) / sizeof(int)); w += THREADS) words[w] = 0;
  });
}

/* Takes `steps` steps, each over `blocks` blocks of samples. parameters, velocity and mask (0 or 1)
   are [members][N_PARAMETERS]; rate, momentum and decay are [members]. */
extern "C" __global__ void __launch_bounds__(THREADS)
    advance(long long members, const sample *__restrict__ samples, long long steps,
            long long blocks, real *parameters, real *velocities, const signed char *masks,
            const real *rates, const real *momenta, const real *decays) {
  extern __shared__ network networks[];
  network &n = networks[0];
  const long long member = blockIdx.x, at = member * N_PARAMETERS;
  const real rate = rates[member], momentum = momenta[member], decay = decays[member];
  clear(n);
  TOGETHER([&](int thread) {
    for_parameters(thread, [&](int p, int f) {
      n.parameter[p] = parameters[at + f];
      n.velocity[p] = velocities[at + f];
      n.mask[p] = masks[at + f];
    });
  });
  const sample *block = samples;
  for (long long step = 0; step < steps; step++) {
    for (long long b = 0; b < blocks; b++, block += SAMPLES) {
      logits_of(n, block);
      TOGETHER([&](int thread) {
        real *logit = n.activation + place<N_LAYERS - 1>::out;
        for (int s = thread; s < SAMPLES; s += THREADS)
          logit[s] = output_error(logit[s], n.sign[s], n.weight[s]);
      });
      backward(n);
      add_bias_gradient(n);
    }
    TOGETHER([&](int thread) {
      for (int p = thread; p < N_PLACES; p += THREADS) {
        descend(n.parameter[p], n.velocity[p], n.gradient[p], n.mask[p], rate, momentum, decay);
        n.gradient[p] = 0;
      }
    });
  }
  TOGETHER([&](int thread) {
    for_parameters(thread, [&](int p, int f) {
      parameters[at + f] = n.parameter[p];
      velocities[at + f] = n.velocity[p];
    });
  });
}

/* Weighted numbers of correct samples and sums of losses over all blocks, [members] each. */
extern "C" __global__ void __launch_bounds__(THREADS)
    evaluate(long long members, const sample *__restrict__ samples, long long blocks,
             const real *parameters, double *correct, double *loss) {
  extern __shared__ network networks[];
  network &n = networks[0];
  const long long member = blockIdx.x;
  clear(n);
  TOGETHER([&](int thread) {
    for_parameters(thread, [&](int p, int f) {
      n.parameter[p] = parameters[member * N_PARAMETERS + f];
    });
  });
  for (const sample *block = samples; block < samples + blocks * SAMPLES; block += SAMPLES) {
    logits_of(n, block);
    TOGETHER([&](int thread) {
      const real *logit = n.activation + place<N_LAYERS - 1>::out;
      for (int s = thread; s < SAMPLES; s += THREADS) {
        n.correct[s] += is_right(logit[s], n.sign[s]) ? (double)n.weight[s] : 0.0;
        n.loss[s] += (double)n.weight[s] * loss_of(logit[s], n.sign[s]);
      }
    });
  }
  TOGETHER([&](int thread) {
    if (thread > 0) return;
    double hits = 0, sum = 0;
    for (int s = 0; s < SAMPLES; s++) {
      hits += n.correct[s];
      sum += n.loss[s];
    }
    correct[member] = hits;
    loss[member] = sum;
  });
}

#endif
