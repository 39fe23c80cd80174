// All networks by weights and accuracy: where one stands, and where changes lead.

const LEVELS = [0.8, 0.9, 0.95, 0.99, 0.995];

// Stretched towards 100%, where networks differ by tenths; as the figures of the report.
const stretched = (accuracy) => -Math.log10(Math.max(1.005 - accuracy, 1e-6));

class MapView {
  // `choose(source, network)` is called with places in `sources`.
  constructor(svg, legend, sources, points, choose) {
    Object.assign(this, { svg, legend, sources, points, choose });
    this.margin = { left: 38, right: 8, top: 8, bottom: 34 };
    this.#drawLegend();
    new ResizeObserver(() => this.#drawAll()).observe(svg);
  }

  // Mark a network and where changes have led from it, places by weights and correct points; bring
  // the networks of its source to the front.
  mark(source, trail) {
    this.marked = [source, trail];
    if (!this.width) return;
    for (const [place, group] of this.groups.entries()) group.classList.toggle("front", place === source);
    this.way.before(this.groups[source]);
    const places = trail.map(({ weights, correct }) => this.#at(weights, correct).join(" "));
    this.here.setAttribute("transform", `translate(${places[0]})`);
    this.you.setAttribute("transform", `translate(${places.at(-1)})`);
    this.you.style.display = places.length > 1 ? "" : "none";
    this.way.setAttribute("d", `M${places.join("L")}`);
  }

  #drawLegend() {
    for (const { label, color, filled, marker } of this.sources) {
      const entry = htmlElement("span", {}, this.legend);
      const svg = svgElement("svg", { viewBox: "-1.4 -1.4 2.8 2.8", "aria-hidden": "true" }, entry);
      svgElement(
        "path",
        {
          ...{ d: marker, transform: "scale(1 -1)", stroke: color, fill: filled ? color : "#fff" },
          ...{ "stroke-width": 1, "vector-effect": "non-scaling-stroke" },
        },
        svg,
      );
      entry.append(label);
    }
  }

  #at(weights, correct) {
    const { left, right, top, bottom } = this.margin;
    const [low, high] = this.weights.map(Math.log);
    const across = (Math.log(Math.max(weights, 1)) - low) / (high - low);
    const [least, most] = this.accuracies.map(stretched);
    const up = (stretched(correct / this.points) - least) / (most - least);
    return [
      left + Math.min(Math.max(across, 0), 1) * (this.width - left - right),
      this.height - bottom - Math.max(up, 0) * (this.height - top - bottom),
    ];
  }

  #drawAll() {
    const { svg, margin } = this;
    [this.width, this.height] = [svg.clientWidth, svg.clientHeight];
    if (!this.width) return;
    svg.replaceChildren();
    const networks = this.sources.flatMap((source) => source.networks);
    const most = Math.max(...networks.map(({ correct }) => correct)) / this.points;
    const counts = networks.map(({ weights }) => weights);
    this.weights = [Math.min(...counts) / 1.3, Math.max(...counts) * 1.15];
    this.accuracies = [0.5, Math.min(1, most + 0.25 * (1.005 - most))];
    const low = this.height - margin.bottom;
    for (const level of [0.5, ...LEVELS, 1]) {
      const [, y] = this.#at(1, level * this.points);
      if (y < margin.top - 1) continue;
      const line = { x1: margin.left, x2: this.width - margin.right, y1: y, y2: y };
      if (level > 0.5) svgElement("line", { ...line, class: "level" }, svg);
      this.#text(margin.left - 6, y + 4, `${100 * level}`, "end");
    }
    const axis = `M${margin.left} ${margin.top}V${low}H${this.width - margin.right}`;
    svgElement("path", { d: axis, class: "axis" }, svg);
    let free = -Infinity;
    for (const count of [5, 6, 8, 10, 12, 15, 20, 30, 50, 100, 200, 500]) {
      const [x] = this.#at(count, 0);
      if (count < this.weights[0] || count > this.weights[1] || x < free) continue;
      free = x + 24;
      svgElement("path", { d: `M${x} ${low}v4`, class: "axis" }, svg);
      this.#text(x, low + 16, String(count), "middle");
    }
    this.#text((margin.left + this.width) / 2, low + 31, "weights kept", "middle");
    const label = this.#text(0, 0, "accuracy (%)", "middle");
    label.setAttribute("transform", `translate(10 ${(margin.top + low) / 2}) rotate(-90)`);
    this.groups = this.sources.map((source, place) => this.#drawSource(place, source));
    // The first source in front: it is what all others are measured against.
    [...this.groups].reverse().forEach((group) => this.svg.append(group));
    this.way = svgElement("path", { class: "way" }, svg);
    this.here = svgElement("circle", { class: "here", r: 7.5 }, svg);
    this.you = svgElement("circle", { class: "you", r: 4.5 }, svg);
    if (this.marked) this.mark(...this.marked);
  }

  #drawSource(place, { label, color, filled, marker, networks }) {
    const group = svgElement("g");
    const places = networks.map(({ weights, correct }) => this.#at(weights, correct));
    const line = places.map(([x, y]) => `${x} ${y}`).join("L");
    svgElement("path", { class: "along", d: `M${line}`, stroke: color }, group);
    networks.forEach(({ weights, correct }, i) => {
      const [x, y] = places[i];
      const symbol = svgElement(
        "path",
        {
          ...{ class: "network", d: marker, transform: `translate(${x} ${y}) scale(3.2 -3.2)` },
          ...{ fill: filled ? color : "#fff", stroke: color },
        },
        group,
      );
      const accuracy = ((100 * correct) / this.points).toFixed(2);
      svgElement("title", {}, symbol).textContent = `${label}: ${weights} weights, ${accuracy} %`;
      symbol.addEventListener("click", () => this.choose(place, i));
    });
    return group;
  }

  #text(x, y, text, anchor) {
    const element = svgElement("text", { x, y, "text-anchor": anchor }, this.svg);
    element.textContent = text;
    return element;
  }
}
