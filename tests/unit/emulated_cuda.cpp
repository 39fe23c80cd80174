/* Runs fused_cuda.cu on the CPU: blocks one after another, and in each phase of a block its threads
   one after another, forwards or backwards. Where the order makes a difference, threads of one phase
   get in each other's way, which on a GPU would be a race. */

#include <math.h>
#include <string.h>

#define __device__
#define __global__
#define __shared__
#define __forceinline__ inline
#define __launch_bounds__(threads)

static struct {
  int x;
} blockIdx;

static bool backwards;

#define TOGETHER together
template <class Part> static void together(Part part) {
  for (int t = 0; t < THREADS; t++) part(backwards ? THREADS - 1 - t : t);
}

#include "fused_cuda.cu"

#if ONE_THREAD
slow_memory memories[1];
#define SHARED memories
#else
network networks[1];
#define SHARED networks
#endif

extern "C" void set_backwards(bool value) { backwards = value; }

/* As cuLaunchKernel: shared memory holds whatever was there before. */
template <class... Arguments>
static void launch(void (*kernel)(Arguments...), int blocks, Arguments... arguments) {
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
    memset((void *)SHARED, 0xff, SHARED_BYTES);
    kernel(arguments...);
  }
}

extern "C" void launch_advance(int blocks, long long members, const sample *samples,
                               long long steps, long long sample_blocks, real *parameters,
                               real *velocities, const signed char *masks, const real *rates,
                               const real *momenta, const real *decays) {
  launch(advance, blocks, members, samples, steps, sample_blocks, parameters, velocities, masks,
         rates, momenta, decays);
}

extern "C" void launch_evaluate(int blocks, long long members, const sample *samples,
                                long long sample_blocks, const real *parameters, double *correct,
                                double *loss) {
  launch(evaluate, blocks, members, samples, sample_blocks, parameters, correct, loss);
}
