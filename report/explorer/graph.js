// The network as a graph: neurons as buttons that show what they emit over the plane, weights as
// lines between them, inputs on the left.

const SVG = "http://www.w3.org/2000/svg";

function svgElement(name, attributes = {}, parent = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

function htmlElement(name, properties = {}, parent = null) {
  const element = Object.assign(document.createElement(name), properties);
  parent?.append(element);
  return element;
}

// What neurons are called: x1 and x2, h1.2 for the second in the first hidden layer, y.
function neuronName(network, layer, neuron) {
  if (layer === 0) return ["x₁", "x₂"][neuron] ?? `x${neuron + 1}`;
  if (layer === network.depth) return "y";
  return `h${layer}.${neuron + 1}`;
}

function neuronTitle(network, layer, neuron) {
  if (layer === 0) return `Input ${neuronName(network, layer, neuron)}`;
  if (layer === network.depth) return "Output";
  return `Neuron ${neuronName(network, layer, neuron)}`;
}

class GraphView {
  // `events` has chooseNeuron(layer, neuron), chooseEdge(edge), and preview(layer, neuron) or
  // preview(null) when the pointer comes and goes.
  constructor(container, plane, events) {
    this.container = container;
    this.plane = plane;
    this.events = events;
    new ResizeObserver(() => this.network && this.#place()).observe(container);
  }

  // Build the graph of a network; further calls of `draw` only change how it looks.
  show(network) {
    this.network = network;
    this.largest = Math.max(1e-9, ...network.edges().map(({ weight }) => Math.abs(weight)));
    this.container.replaceChildren();
    this.svg = svgElement("svg", { "aria-hidden": "true" }, this.container);
    this.edges = new Map();
    this.titles = network.sizes.map((_, layer) =>
      htmlElement("span", { className: "layer" }, this.container),
    );
    this.nodes = network.sizes.map((size, layer) =>
      Array.from({ length: size }, (_, neuron) => this.#node(layer, neuron)),
    );
    this.#place();
  }

  // Draw weights, signals over the plane, and what is chosen.
  draw(signals, chosen) {
    this.#drawEdges(chosen);
    const paths = this.network.paths();
    this.nodes.forEach((layer, l) =>
      layer.forEach(({ button, canvas }, i) => {
        const isOutput = l === this.network.depth;
        drawSignal(canvas, this.plane, signals.values[l][i], isOutput, 4);
        const isChosen = chosen.layer === l && chosen.neuron === i;
        button.setAttribute("aria-pressed", String(isChosen));
        button.classList.toggle("idle", !(paths.reached[l][i] && paths.read[l][i]));
      }),
    );
  }

  // Mark the neurons that emit something at a pixel of the plane; none for pixel -1.
  mark(signals, pixel) {
    this.nodes.slice(1, -1).forEach((layer, l) =>
      layer.forEach(({ button }, i) => {
        const fires = pixel >= 0 && signals.values[l + 1][i][pixel] > 0;
        button.classList.toggle("fires", fires);
      }),
    );
  }

  focus(layer, neuron) {
    this.nodes[layer][neuron].button.focus();
  }

  #node(layer, neuron) {
    const title = neuronTitle(this.network, layer, neuron);
    const button = htmlElement("button", { className: "node", type: "button", title });
    button.setAttribute("aria-label", title);
    const canvas = htmlElement("canvas", {}, button);
    const name = htmlElement("span", {
      className: "node-name",
      textContent: neuronName(this.network, layer, neuron),
    });
    button.addEventListener("click", () => this.events.chooseNeuron(layer, neuron));
    button.addEventListener("pointerenter", () => this.events.preview({ layer, neuron }));
    button.addEventListener("pointerleave", () => this.events.preview(null));
    this.container.append(button, name);
    return { button, canvas, name };
  }

  // Put everything in its place: columns of neurons, as high as the largest layer needs.
  #place() {
    const { network, container } = this;
    const width = container.clientWidth;
    const most = Math.max(...network.sizes);
    const column = width / network.sizes.length;
    this.size = Math.round(Math.min(most > 8 ? 34 : 52, 0.62 * column));
    const pitch = this.size + (most > 8 ? 16 : 26);
    const top = 26;
    const height = Math.max(most, 3) * pitch;
    container.style.height = `${top + height}px`;
    const titles = network.sizes.map((size, l) =>
      l === 0 ? "inputs" : l === network.depth ? "output" : `layer ${l}`,
    );
    this.places = this.nodes.map((layer, l) =>
      layer.map((_, i) => {
        const below = (i - (layer.length - 1) / 2) * pitch;
        return [(l + 0.5) * column, top + height / 2 + below - 6];
      }),
    );
    this.nodes.forEach((layer, l) => {
      this.titles[l].textContent = titles[l];
      this.titles[l].style.left = `${(l + 0.5) * column}px`;
      layer.forEach(({ button, name }, i) => {
        const [x, y] = this.places[l][i];
        const high = this.size;
        const wide = Math.round((high * this.plane.columns) / this.plane.rows);
        Object.assign(button.style, {
          left: `${x}px`,
          top: `${y}px`,
          width: `${wide}px`,
          height: `${high}px`,
        });
        Object.assign(name.style, { left: `${x}px`, top: `${y + high / 2 + 4}px` });
      });
    });
    for (const { edge, group } of this.edges.values()) this.#bend(edge, group);
  }

  // One group of lines for each edge that is kept, or was when the network was found.
  #drawEdges(chosen) {
    const paths = this.network.paths();
    for (const edge of this.network.edges(true)) {
      const { l, to, from, weight, kept } = edge;
      const key = `${l},${to},${from}`;
      if (!kept && !this.edges.has(key)) continue;
      if (!this.edges.has(key)) this.edges.set(key, { edge, group: this.#edge(edge) });
      const { group } = this.edges.get(key);
      const idle = kept && !Network.effective(paths, edge);
      const isChosen = chosen.edge === key;
      group.setAttribute(
        "class",
        ["edge", weight < 0 && "negative", idle && "idle", !kept && "cut", isChosen && "chosen"]
          .filter(Boolean)
          .join(" "),
      );
      const thick = 0.9 + Math.min(6 * (Math.abs(weight) / this.largest), 9);
      const dashes = weight < 0 ? `${2.4 + 1.6 * thick} ${1.4 + 0.7 * thick}` : "";
      Object.assign(group.querySelector(".seen").style, {
        strokeWidth: kept ? `${thick}px` : "",
        strokeDasharray: kept ? dashes : "",
      });
      const names = [[l, from], [l + 1, to]].map((place) => neuronName(this.network, ...place));
      const what = kept ? signed(weight, 3) : "cut";
      group.querySelector("title").textContent = `${names.join(" → ")}: ${what}`;
    }
  }

  #edge(edge) {
    const group = svgElement("g", {}, this.svg);
    svgElement("title", {}, group);
    svgElement("path", { class: "touch" }, group);
    svgElement("path", { class: "seen" }, group);
    group.dataset.edge = `${edge.l},${edge.to},${edge.from}`;
    group.addEventListener("click", () => this.events.chooseEdge(edge));
    this.#bend(edge, group);
    return group;
  }

  #bend({ l, to, from }, group) {
    const half = (this.size * this.plane.columns) / this.plane.rows / 2;
    const [[x0, y0], [x1, y1]] = [this.places[l][from], this.places[l + 1][to]];
    const middle = (x0 + x1) / 2;
    const path = `M${x0 + half} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1 - half} ${y1}`;
    for (const line of group.querySelectorAll("path")) line.setAttribute("d", path);
  }
}
