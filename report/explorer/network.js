// A network that can be changed, and what its neurons emit on a set of points.

// Weights and biases are single-precision numbers; all arithmetic is in double precision.
class Network {
  constructor({ sizes, edges, biases }) {
    this.sizes = sizes;
    this.layers = biases.map((bias, l) => ({
      weight: Array.from({ length: sizes[l + 1] }, () => new Float64Array(sizes[l])),
      kept: Array.from({ length: sizes[l + 1] }, () => new Uint8Array(sizes[l])),
      bias: Float64Array.from(bias, Math.fround),
    }));
    for (const [l, to, from, value] of edges) {
      this.layers[l].weight[to][from] = Math.fround(value);
      this.layers[l].kept[to][from] = 1;
    }
  }

  get depth() {
    return this.layers.length;
  }

  // All kept edges as {l, to, from, weight}; with `all`, also those that are not kept.
  edges(all = false) {
    return this.layers.flatMap(({ weight, kept }, l) =>
      weight.flatMap((row, to) =>
        Array.from(row, (value, from) => ({ l, to, from, weight: value, kept: kept[to][from] })),
      ),
    ).filter((edge) => all || edge.kept);
  }

  // For each layer of neurons, inputs first: which of them a path from an input leads to, and which
  // a path leads from to the output.
  paths() {
    const reached = [new Array(this.sizes[0]).fill(true)];
    for (const { kept } of this.layers) {
      const before = reached.at(-1);
      reached.push(kept.map((row) => before.some((arrives, from) => arrives && row[from])));
    }
    const read = [new Array(this.sizes.at(-1)).fill(true)];
    for (const { kept } of [...this.layers].reverse()) {
      const after = read[0];
      const ahead = Array.from(kept[0], (_, from) =>
        after.some((leadsOn, to) => leadsOn && kept[to][from]),
      );
      read.unshift(ahead);
    }
    return { reached, read };
  }

  // Whether an edge lies on a path from an input to the output.
  static effective({ reached, read }, { l, to, from }) {
    return reached[l][from] && read[l + 1][to];
  }
}

// What every neuron of a network emits on points x [coordinate][point]: `values` [layer][neuron],
// inputs first, after ReLU but for the output.
class Signals {
  constructor(network, x) {
    this.network = network;
    const empty = () => new Float64Array(x[0].length);
    this.values = [x, ...network.layers.map(({ bias }) => Array.from(bias, empty))];
    this.update();
  }

  get output() {
    return this.values.at(-1)[0];
  }

  // Compute anew, from the given layer of weights on.
  update(first = 0) {
    for (let l = first; l < this.network.depth; l += 1) {
      const { weight, kept, bias } = this.network.layers[l];
      const last = l === this.network.depth - 1;
      this.values[l + 1].forEach((signal, to) => {
        signal.fill(bias[to]);
        this.values[l].forEach((source, from) => {
          if (kept[to][from]) addScaled(signal, weight[to][from], source);
        });
        if (!last) rectify(signal);
      });
    }
  }
}

function addScaled(signal, factor, source) {
  for (let i = 0; i < signal.length; i += 1) signal[i] += factor * source[i];
}

function rectify(signal) {
  for (let i = 0; i < signal.length; i += 1) if (!(signal[i] > 0)) signal[i] = 0;
}

// How many points are on the right side: an output above 0 means class 1.
function countCorrect(output, y) {
  let correct = 0;
  for (let i = 0; i < y.length; i += 1) correct += Number(output[i] > 0) === y[i];
  return correct;
}
