// The Cubist Spiral from its formula, to the bit as steps/sparselimit/datasets.py makes it.

const POINTS_PER_ARM = 25000;
const VERTICES = 17;
// Moments of the raw points in single precision.
const SPIRAL_MEAN = [145.14052, 182.72206].map(Math.fround);
const SPIRAL_STD = [86.02452, 82.99504].map(Math.fround);

// Vertices of the two arms, [class][vertex][coordinate], moved so that the smallest are zero.
function spiralArms() {
  const arms = [15, -15].map((offset) =>
    Array.from({ length: VERTICES }, (_, i) => {
      const theta = Math.PI + i * ((5 * Math.PI - Math.PI) / (VERTICES - 1)) + 0.4 * Math.PI;
      const radius = 10 * theta + Math.PI + offset;
      return [Math.cos(theta) * radius, Math.sin(theta) * radius];
    }),
  );
  const least = [0, 1].map((axis) => Math.min(...arms.flat().map((vertex) => vertex[axis])));
  return arms.map((arm) => arm.map((vertex) => vertex.map((value, axis) => value - least[axis])));
}

// All points: x [coordinate][point], y [point], and where each straight segment begins and ends.
function cubistSpiral() {
  const x = [[], []];
  const y = [];
  const segments = [];
  spiralArms().forEach((arm, label) => {
    const lengths = arm.slice(1).map(([a, b], i) => Math.hypot(a - arm[i][0], b - arm[i][1]));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    lengths.forEach((length, i) => {
      const n = Math.floor((POINTS_PER_ARM * length) / total);
      segments.push([y.length, y.length + n]);
      const step = Math.fround(1 / (n - 1));
      for (let point = 0; point < n; point += 1) {
        // Counted from the nearer end, in single precision.
        const t = Math.fround(point < n >> 1 ? step * point : 1 - step * (n - 1 - point));
        for (const axis of [0, 1]) {
          const raw = t * arm[i][axis] + Math.fround(1 - t) * arm[i + 1][axis];
          const centred = Math.fround(Math.fround(raw) - SPIRAL_MEAN[axis]);
          x[axis].push(Math.fround(centred / SPIRAL_STD[axis]));
        }
        y.push(label);
      }
    });
  });
  return { x: x.map((values) => Float64Array.from(values)), y: Uint8Array.from(y), segments };
}
