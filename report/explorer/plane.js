// The plane: what the output, or one neuron, makes of every point of it, and the spiral on top.

// Pixels that signals are computed on: square, 8% more each way than the spiral reaches.
class Plane {
  static ROWS = 360;

  constructor(spiral) {
    const [across, up] = spiral.x.map((values) => {
      const [low, high] = range(values);
      const margin = 0.08 * (high - low);
      return [low - margin, high + margin];
    });
    this.spiral = spiral;
    [this.left, this.right] = across;
    [this.bottom, this.top] = up;
    this.rows = Plane.ROWS;
    this.columns = Math.round((this.rows * (this.right - this.left)) / (this.top - this.bottom));
    const n = this.rows * this.columns;
    this.x = [new Float64Array(n), new Float64Array(n)];
    for (let i = 0; i < n; i += 1) {
      this.x[0][i] = this.left + (((i % this.columns) + 0.5) / this.columns) * (this.right - this.left);
      const row = Math.floor(i / this.columns);
      this.x[1][i] = this.top - ((row + 0.5) / this.rows) * (this.top - this.bottom);
    }
  }

  // Index of the pixel at a place in the plane, or -1 outside.
  pixel(x1, x2) {
    const column = Math.floor((this.columns * (x1 - this.left)) / (this.right - this.left));
    const row = Math.floor((this.rows * (this.top - x2)) / (this.top - this.bottom));
    const inside = column >= 0 && column < this.columns && row >= 0 && row < this.rows;
    return inside ? row * this.columns + column : -1;
  }
}

const CSS = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const CLASS_COLOURS = ["--class-0", "--class-1"].map((name) => rgb(CSS(name)));

// From the least to the strongest signal: even steps of lightness, whatever the eye's colours.
const RAMP = ["#ffffff", "#dcebe6", "#a9d2cb", "#6fb0b3", "#45879b", "#33597d", "#27305a"].map(rgb);
const SHADES = 256;
const HALF = SHADES / 2;

// Colours as pixels of an image: [SHADES], each four bytes.
function palette(colour) {
  const bytes = new Uint8ClampedArray(4 * SHADES);
  for (let i = 0; i < SHADES; i += 1) bytes.set([...colour(i), 255], 4 * i);
  return new Uint32Array(bytes.buffer);
}

const NEURON_PALETTE = palette((i) => {
  const place = (i / (SHADES - 1)) * (RAMP.length - 1);
  const below = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[below].map((part, j) => part + (place - below) * (RAMP[below + 1][j] - part));
});

// The class as a tint, deeper where the network is more certain.
const OUTPUT_PALETTE = palette((i) => {
  const certainty = i < HALF ? (HALF - 1 - i) / (HALF - 1) : (i - HALF) / (HALF - 1);
  const depth = 0.2 + 0.26 * certainty;
  return CLASS_COLOURS[Number(i >= HALF)].map((part) => 255 + depth * (part - 255));
});

function outputShade(logit) {
  const certainty = Math.abs(2 / (1 + Math.exp(-logit)) - 1);
  const steps = Math.round(certainty * (HALF - 1));
  return logit > 0 ? HALF + steps : HALF - 1 - steps;
}

function range(signal) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < signal.length; i += 1) {
    if (signal[i] < low) low = signal[i];
    if (signal[i] > high) high = signal[i];
  }
  return [low, high];
}

// What is white and what is darkest: after ReLU zero is white, and a constant in between.
function shownRange(signal) {
  const [low, high] = range(signal);
  return [Math.min(low, 0), low === high ? 2 * high : high];
}

// Draw a signal over the plane into a canvas, every `stride`th pixel of it: the output by class, a
// neuron by its value.
function drawSignal(canvas, plane, signal, isOutput, stride = 1) {
  const [width, height] = [plane.columns, plane.rows].map((n) => Math.ceil(n / stride));
  if (canvas.width !== width) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [low, high] = shownRange(signal);
  const scale = high > low ? (SHADES - 1) / (high - low) : 0;
  for (let row = 0, at = 0; row < height; row += 1) {
    const first = row * stride * plane.columns;
    for (let column = 0; column < width; column += 1, at += 1) {
      const value = signal[first + column * stride];
      pixels[at] = isOutput
        ? OUTPUT_PALETTE[outputShade(value)]
        : NEURON_PALETTE[Math.round((value - low) * scale)];
    }
  }
  context.putImageData(image, 0, 0);
}

// The large picture of the plane, with axes.
class PlaneView {
  constructor(canvas, plane) {
    this.canvas = canvas;
    this.plane = plane;
    this.picture = document.createElement("canvas");
    this.margin = { left: 30, bottom: 34, top: 4, right: 4 };
  }

  // Draw a signal, and the spiral: in black where `output`, of its points, is on the wrong side.
  draw(signal, isOutput, output) {
    const { plane, canvas, margin } = this;
    const dense = window.devicePixelRatio || 1;
    this.width = canvas.clientWidth - margin.left - margin.right;
    this.height = (this.width * (plane.top - plane.bottom)) / (plane.right - plane.left);
    const tall = this.height + margin.top + margin.bottom;
    canvas.style.height = `${tall}px`;
    canvas.width = Math.round(canvas.clientWidth * dense);
    canvas.height = Math.round(tall * dense);
    const context = canvas.getContext("2d");
    context.setTransform(dense, 0, 0, dense, 0, 0);
    drawSignal(this.picture, plane, signal, isOutput);
    context.drawImage(this.picture, margin.left, margin.top, this.width, this.height);
    this.#drawSpiral(context, output, !isOutput);
    this.#drawAxes(context);
  }

  at(x1, x2) {
    const { plane, margin } = this;
    return [
      margin.left + (this.width * (x1 - plane.left)) / (plane.right - plane.left),
      margin.top + (this.height * (plane.top - x2)) / (plane.top - plane.bottom),
    ];
  }

  // The place in the plane under a pointer.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const { plane, margin } = this;
    const across = (event.clientX - box.left - margin.left) / this.width;
    const down = (event.clientY - box.top - margin.top) / this.height;
    return [
      plane.left + across * (plane.right - plane.left),
      plane.top - down * (plane.top - plane.bottom),
    ];
  }

  // Points lie on straight segments: each run of them on one side of the boundary is a line, on a
  // white one where the ground may be dark.
  #drawSpiral(context, output, onDark) {
    const { x, y, segments } = this.plane.spiral;
    context.lineCap = "round";
    const lines = { wrong: new Path2D(), right: [new Path2D(), new Path2D()] };
    for (const [begin, end] of segments) {
      for (let first = begin; first < end; ) {
        const isRight = (i) => Number(output[i] > 0) === y[i];
        let last = first;
        while (last + 1 < end && isRight(last + 1) === isRight(first)) last += 1;
        const path = isRight(first) ? lines.right[y[first]] : lines.wrong;
        path.moveTo(...this.at(x[0][first], x[1][first]));
        path.lineTo(...this.at(x[0][last], x[1][last]));
        first = last + 1;
      }
    }
    context.strokeStyle = "#fff";
    context.lineWidth = 4;
    if (onDark) for (const path of [...lines.right, lines.wrong]) context.stroke(path);
    context.lineWidth = 2.2;
    lines.right.forEach((path, label) => {
      context.strokeStyle = CSS(`--class-${label}`);
      context.stroke(path);
    });
    context.strokeStyle = "#000";
    context.stroke(lines.wrong);
  }

  #drawAxes(context) {
    const { margin, width, height } = this;
    const low = margin.top + height;
    context.font = '11px "DejaVu Sans", Verdana, sans-serif';
    context.fillStyle = CSS("--dark");
    context.strokeStyle = "#000";
    context.lineWidth = 0.8;
    context.beginPath();
    context.moveTo(margin.left, margin.top);
    context.lineTo(margin.left, low);
    context.lineTo(margin.left + width, low);
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const tick of [-1, 0, 1]) {
      const [across] = this.at(tick, 0);
      context.moveTo(across, low);
      context.lineTo(across, low + 4);
      context.fillText(signed(tick), across, low + 6);
    }
    context.fillText("x₁", margin.left + width / 2, low + 20);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of [-2, -1, 0, 1]) {
      const [, down] = this.at(0, tick);
      context.moveTo(margin.left, down);
      context.lineTo(margin.left - 4, down);
      context.fillText(signed(tick), margin.left - 6, down);
    }
    context.fillText("x₂", margin.left - 14, (this.at(0, -0.5)[1]));
    context.stroke();
  }
}

// A number with a minus sign that is one, and no more digits than asked for.
function signed(value, digits = 0) {
  return value.toFixed(digits).replace("-", "−");
}
