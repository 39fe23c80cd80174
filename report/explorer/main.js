// The page: which network is shown, what is chosen in it, and what follows from a change.

const byId = (id) => document.getElementById(id);
const sources = JSON.parse(byId("networks").textContent);
const spiral = cubistSpiral();
const plane = new Plane(spiral);
const percent = (share, digits = 2) => `${signed(100 * share, digits)} %`;

class Page {
  constructor() {
    this.graph = new GraphView(byId("graph"), plane, {
      chooseNeuron: (layer, neuron) => this.choose(layer, neuron),
      chooseEdge: (edge) => this.chooseEdge(edge),
      preview: (place) => this.preview(place),
    });
    this.neuron = new NeuronView(byId("neuron"), byId("neuron-title"), {
      setWeight: (edge, value, source) => this.#change(edge.l, source, ({ weight }) => {
        weight[edge.to][edge.from] = Math.fround(value);
      }, edge),
      setKept: (edge, kept) => this.#change(edge.l, null, (layer) => {
        layer.kept[edge.to][edge.from] = Number(kept);
      }, edge),
      setBias: (layer, neuron, value, source) => this.#change(layer - 1, source, ({ bias }) => {
        bias[neuron] = Math.fround(value);
      }),
    });
    this.table = new TableView(byId("table"));
    this.view = new PlaneView(byId("plane"), plane);
    this.map = new MapView(byId("map"), byId("legend"), sources, spiral.y.length, (source, i) =>
      this.open(source, i),
    );
    this.#listen();
    this.open(0, sources[0].networks.length - 1);
  }

  // Show a network by its place in `sources`.
  open(source, i) {
    this.place = [source, i];
    this.found = sources[source].networks[i];
    this.#fillFields();
    byId("origin").textContent = this.#origin();
    this.reset();
  }

  reset() {
    this.network = new Network(this.found);
    this.original = new Network(this.found);
    this.onPlane = new Signals(this.network, plane.x);
    this.onPoints = new Signals(this.network, spiral.x);
    this.changed = false;
    this.graph.show(this.network);
    this.choose(this.network.depth, 0);
    this.#drawTable();
  }

  choose(layer, neuron, edge = null) {
    this.chosen = { layer, neuron, edge };
    this.neuron.show(this.network, this.original, layer, neuron);
    this.draw();
  }

  chooseEdge({ l, to, from }) {
    const key = `${l},${to},${from}`;
    this.choose(l + 1, to, key);
    this.neuron.focus(key);
  }

  // Show what a neuron emits while the pointer is on it.
  preview(place) {
    this.previewed = place;
    this.#drawPlane();
  }

  #change(first, source, change, edge = null) {
    change(this.network.layers[first]);
    this.chosen.edge = edge && `${edge.l},${edge.to},${edge.from}`;
    this.first = Math.min(this.first ?? first, first);
    this.changed = true;
    this.source = source;
    this.waiting ??= requestAnimationFrame(() => this.#update());
  }

  #update() {
    this.waiting = null;
    this.onPlane.update(this.first);
    this.onPoints.update(this.first);
    this.first = null;
    this.draw();
    this.source = null;
    this.#drawTable();
  }

  get result() {
    return {
      weights: this.network.edges().length,
      correct: countCorrect(this.onPoints.output, spiral.y),
    };
  }

  draw() {
    const result = this.result;
    this.graph.draw(this.onPlane, this.chosen);
    this.neuron.draw({ edge: this.chosen.edge, source: this.source, fires: this.#fires() });
    this.#drawPlane();
    this.#say(result);
    this.#follow(result);
    this.map.mark(this.place[0], this.trail);
  }

  // Where changes have led so far: a place for each number of weights in turn.
  #follow(result) {
    if (!this.changed) this.trail = [];
    if (this.trail.length > 1 && this.trail.at(-1).weights === result.weights) this.trail.pop();
    this.trail.push(result);
  }

  // Cut the edge of the weight that is smallest by magnitude.
  cutSmallest() {
    const edges = this.network.edges();
    if (!edges.length) return;
    const smallest = edges.reduce((one, other) =>
      Math.abs(other.weight) < Math.abs(one.weight) ? other : one,
    );
    this.choose(smallest.l + 1, smallest.to);
    this.#change(smallest.l, null, ({ kept }) => {
      kept[smallest.to][smallest.from] = 0;
    }, smallest);
  }

  // The share of points on which the chosen neuron emits something.
  #fires() {
    const signal = this.onPoints.values[this.chosen.layer][this.chosen.neuron];
    return signal.reduce((count, value) => count + (value > 0), 0) / signal.length;
  }

  #drawPlane() {
    const { layer, neuron } = this.previewed ?? this.chosen;
    const isOutput = layer === this.network.depth;
    this.view.draw(this.onPlane.values[layer][neuron], isOutput, this.onPoints.output);
    byId("plane-title").textContent = isOutput
      ? "Decision region"
      : `What ${neuronName(this.network, layer, neuron)} emits`;
    const [low, high] = range(this.onPlane.values[layer][neuron]);
    const [white, dark] = [Math.min(low, 0), high].map((value) => signed(value, 2));
    const ends = low === high ? `${signed(low, 2)} everywhere` : `from ${white} (white) to ${dark} (dark)`;
    if (!this.pointer) byId("readout").textContent = isOutput ? "" : ends;
    byId("plane").setAttribute("aria-label", isOutput
      ? `Decision region over the plane, ${percent(this.result.correct / spiral.y.length)} of the points right`
      : `${neuronTitle(this.network, layer, neuron)} over the plane, ${ends}`);
  }

  #say({ weights, correct }) {
    const n = spiral.y.length;
    const paths = this.network.paths();
    const effective = this.network.edges().filter((edge) => Network.effective(paths, edge)).length;
    byId("accuracy").textContent = percent(correct / n, 3);
    byId("change").textContent = this.changed ? `was ${percent(this.found.correct / n, 3)}` : "";
    byId("correct").textContent = `${correct.toLocaleString("en")} of ${n.toLocaleString("en")} points`;
    byId("counts").textContent = `${weights} weights, ${effective} on a path to the output`;
    byId("reset").disabled = !this.changed;
    byId("smallest").disabled = weights === 0;
    byId("said").textContent = `Accuracy ${percent(correct / n, 2)} with ${weights} weights`;
  }

  #drawTable() {
    this.table.draw(this.network, this.original);
  }

  // Offer the networks of the source, and say in both fields which is shown.
  #fillFields() {
    const [source, i] = this.place;
    const [of, which] = [byId("source"), byId("network")];
    if (which.dataset.source !== String(source)) {
      which.dataset.source = source;
      const texts = sources[source].networks.map(({ weights, correct, origin }) => {
        const file = sources[source].name === "own" ? `${origin}: ` : "";
        return `${file}${weights} weights, ${percent(correct / spiral.y.length)}`;
      });
      which.replaceChildren(...texts.map((text, place) => new Option(text, place)));
    }
    of.value = source;
    which.value = i;
  }

  #origin() {
    const widths = (sizes) => sizes.slice(1, -1).join("-");
    const { sizes, shape, origin } = this.found;
    const used = widths(sizes) === widths(shape) ? "" : ` of a ${widths(shape)} network`;
    return `Hidden neurons ${widths(sizes)}${used}; ${origin}.`;
  }

  #listen() {
    byId("source").replaceChildren(...sources.map(({ label }, i) => new Option(label, i)));
    byId("source").addEventListener("change", ({ target }) => {
      const source = Number(target.value);
      // The network of the new source that is nearest in size.
      const distances = sources[source].networks.map(({ weights }) => Math.abs(weights - this.found.weights));
      this.open(source, distances.indexOf(Math.min(...distances)));
    });
    byId("network").addEventListener("change", ({ target }) => {
      this.open(this.place[0], Number(target.value));
    });
    byId("reset").addEventListener("click", () => this.reset());
    byId("smallest").addEventListener("click", () => this.cutSmallest());
    byId("save").addEventListener("click", () => {
      const { weights } = this.result;
      saveAs(`network-of-${weights}-weights.npz`, npz(arraysOf(this.network)));
    });
    byId("plane").addEventListener("pointermove", (event) => this.#point(this.view.place(event)));
    byId("plane").addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.network && this.#drawPlane()).observe(byId("plane").parentElement);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.choose(this.network.depth, 0);
    });
  }

  // Say what the network makes of a place in the plane, and mark the neurons that fire there.
  #point(place) {
    this.pointer = place;
    const pixel = place ? plane.pixel(...place) : -1;
    this.graph.mark(this.onPlane, pixel);
    if (pixel < 0) {
      this.pointer = null;
      this.#drawPlane();
      return;
    }
    const logit = this.onPlane.output[pixel];
    const sure = 1 / (1 + Math.exp(-Math.abs(logit)));
    const [x1, x2] = place.map((value) => signed(value, 2));
    byId("readout").textContent =
      `(${x1}, ${x2}): class ${Number(logit > 0)}, ${percent(sure, 0)} sure, logit ${signed(logit, 2)}`;
  }
}

// For tests, and for the curious at the console.
window.explorer = { sources, spiral, page: new Page() };
