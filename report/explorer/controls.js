// What can be changed, by numbers: the bias and the weights of one neuron; the table of all.

// One line of a weight or a bias: name, slider, number, and for a weight a button that cuts it.
class Row {
  constructor(parent, name, value, { change, cut }) {
    this.element = htmlElement("div", { className: "row" }, parent);
    htmlElement("span", { className: "name", textContent: name }, this.element);
    const reach = Math.max(1, 2 * Math.abs(value));
    this.slider = htmlElement("input", {
      ...{ type: "range", min: -reach, max: reach, step: reach / 400 },
    });
    this.number = htmlElement("input", { type: "number", step: "any" });
    for (const [input, what] of [[this.slider, "slider"], [this.number, "value"]]) {
      input.setAttribute("aria-label", `${name}, ${what}`);
      input.addEventListener("input", () => {
        if (Number.isFinite(input.valueAsNumber)) change(input.valueAsNumber, input);
      });
      this.element.append(input);
    }
    if (cut) {
      this.button = htmlElement("button", { type: "button" }, this.element);
      this.button.addEventListener("click", cut);
      this.name = name;
    }
  }

  // Show a value; the input that it came from stays as it was typed.
  set(value, kept, source) {
    if (source !== this.slider) this.slider.value = value;
    if (source !== this.number) this.number.value = rounded(value);
    this.element.classList.toggle("positive", value > 0);
    this.element.classList.toggle("negative", value < 0);
    this.element.classList.toggle("cut", !kept);
    if (!this.button) return;
    this.slider.disabled = !kept;
    this.number.disabled = !kept;
    this.button.textContent = kept ? "Cut" : "Restore";
    this.button.setAttribute("aria-label", `${this.button.textContent} ${this.name}`);
  }
}

// Five digits that count.
const rounded = (value) => String(Number(value.toPrecision(5)));

// The bias of a neuron and the weights that lead to it, and those from an input.
class NeuronView {
  // `events` has setWeight(edge, value), setKept(edge, kept), setBias(layer, neuron, value).
  constructor(container, title, events) {
    Object.assign(this, { container, title, events });
  }

  // `original` is the network as it was found: what has been cut of it can be restored.
  show(network, original, layer, neuron) {
    Object.assign(this, { network, original, layer, neuron });
    this.container.replaceChildren();
    this.rows = new Map();
    this.title.textContent = neuronTitle(network, layer, neuron);
    this.said = htmlElement("p", { className: "said" }, this.container);
    if (layer === 0) {
      this.said.textContent = "Choose a neuron, the output or an edge to change a weight or a bias.";
      return;
    }
    const lines = htmlElement("div", {}, this.container);
    this.bias = new Row(lines, "bias", this.#layer.bias[neuron], {
      change: (value, source) => this.events.setBias(layer, neuron, value, source),
    });
    this.lines = lines;
    this.add = htmlElement("label", { className: "add", textContent: "Add an edge from " });
    this.choice = htmlElement("select", {}, this.add);
    this.choice.addEventListener("change", () => {
      const from = Number(this.choice.value);
      this.events.setKept({ l: layer - 1, to: neuron, from }, true);
    });
    this.container.append(this.add);
    this.draw({});
  }

  get #layer() {
    return this.network.layers[this.layer - 1];
  }

  draw({ edge, source, fires }) {
    if (this.layer === 0) return;
    const { bias, weight, kept } = this.#layer;
    const [l, to] = [this.layer - 1, this.neuron];
    if (fires !== undefined) this.said.textContent = this.#words(fires);
    this.bias.set(bias[to], true, source);
    const free = [];
    weight[to].forEach((value, from) => {
      const key = `${l},${to},${from}`;
      const listed = kept[to][from] || this.original.layers[l].kept[to][from];
      if (listed && !this.rows.has(key)) this.rows.set(key, this.#row({ l, to, from }));
      this.rows.get(key)?.set(value, kept[to][from], source);
      this.rows.get(key)?.element.classList.toggle("chosen", key === edge);
      if (!this.rows.has(key)) free.push(from);
    });
    this.add.hidden = free.length === 0;
    this.choice.replaceChildren(new Option("…", ""));
    for (const from of free) {
      this.choice.add(new Option(neuronName(this.network, l, from), String(from)));
    }
  }

  focus(edge) {
    this.rows.get(edge)?.slider.focus();
  }

  #row(edge) {
    const { l, to, from } = edge;
    const name = `from ${neuronName(this.network, l, from)}`;
    return new Row(this.lines, name, this.#layer.weight[to][from], {
      change: (value, source) => this.events.setWeight(edge, value, source),
      cut: () => this.events.setKept(edge, !this.#layer.kept[to][from]),
    });
  }

  #words(fires) {
    if (this.layer === this.network.depth) return "Above zero the network says class 1, else class 0.";
    const paths = this.network.paths();
    const [arrives, leadsOn] = [paths.reached, paths.read].map((all) => all[this.layer][this.neuron]);
    const share = `Fires on ${(100 * fires).toFixed(1)} % of the points.`;
    if (!leadsOn) return `${share} No path leads from here to the output.`;
    if (!arrives) return "No path leads here from an input: it emits the same everywhere.";
    return share;
  }
}

// All weights and biases, as they are and as they were found.
class TableView {
  constructor(body) {
    this.body = body;
  }

  draw(network, found) {
    const rows = [];
    network.layers.forEach(({ bias, kept, weight }, l) => {
      bias.forEach((value, to) => {
        const name = neuronName(network, l + 1, to);
        weight[to].forEach((now, from) => {
          const was = found.layers[l];
          if (!kept[to][from] && !was.kept[to][from]) return;
          rows.push([l + 1, neuronName(network, l, from), name, kept[to][from] ? now : null,
            was.kept[to][from] ? was.weight[to][from] : null]);
        });
        rows.push([l + 1, "bias", name, value, found.layers[l].bias[to]]);
      });
    });
    this.body.replaceChildren(...rows.map(([layer, from, to, now, was]) => {
      const line = htmlElement("tr");
      line.classList.toggle("cut", now === null);
      line.classList.toggle("changed", now !== was);
      const numbers = [now ?? "cut", was ?? "–"].map((value) =>
        typeof value === "number" ? signed(value, 4) : value,
      );
      for (const text of [layer, from, to, ...numbers]) htmlElement("td", { textContent: text }, line);
      return line;
    }));
  }
}
