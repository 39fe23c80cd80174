// A network as an npz file: what numpy reads, and steps/score.py and steps/explorer.py take.

// mask_i, weight_i [out, in] and bias_i [out] of each layer, with their numpy types.
function arraysOf(network) {
  const arrays = {};
  network.layers.forEach(({ weight, kept, bias }, l) => {
    const shape = [weight.length, network.sizes[l]];
    const values = weight.flatMap((row, to) => Array.from(row, (w, from) => (kept[to][from] ? w : 0)));
    arrays[`mask_${l}`] = { type: "|u1", shape, values: Uint8Array.from(kept.flatMap((row) => [...row])) };
    arrays[`weight_${l}`] = { type: "<f4", shape, values: Float32Array.from(values) };
    arrays[`bias_${l}`] = { type: "<f4", shape: [bias.length], values: Float32Array.from(bias) };
  });
  return arrays;
}

// The npy format, version 1.0: a magic string, a header padded to 64 bytes, the values.
function npy({ type, shape, values }) {
  const dimensions = shape.map((size) => `${size},`).join(" ");
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${dimensions}), }`;
  const padded = header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11) + "\n";
  const before = [0x93, ...encoded("NUMPY"), 1, 0, padded.length & 255, padded.length >> 8];
  return Uint8Array.from([...before, ...encoded(padded), ...new Uint8Array(values.buffer)]);
}

// A zip archive of arrays, not compressed: each file with its header, then the directory.
function npz(arrays) {
  const [files, directory] = [[], []];
  let offset = 0;
  for (const [name, array] of Object.entries(arrays)) {
    const [data, path] = [npy(array), encoded(`${name}.npy`)];
    // Version 2.0, stored, on 1 January 1980.
    const facts = [2, 20, 2, 0, 2, 0, 2, 0, 2, 33, 4, crc32(data), 4, data.length, 4, data.length, 2, path.length, 2, 0];
    const local = [...littleEndian([4, 0x04034b50, ...facts]), ...path];
    files.push(Uint8Array.from(local), data);
    const more = [2, 0, 2, 0, 2, 0, 4, 0, 4, offset];
    directory.push(...littleEndian([4, 0x02014b50, 2, 20, ...facts, ...more]), ...path);
    offset += local.length + data.length;
  }
  const n = Object.keys(arrays).length;
  const end = littleEndian([4, 0x06054b50, 2, 0, 2, 0, 2, n, 2, n, 4, directory.length, 4, offset, 2, 0]);
  return new Blob([...files, Uint8Array.from([...directory, ...end])]);
}

const encoded = (text) => new TextEncoder().encode(text);

// Pairs of a size in bytes and a number.
function littleEndian(pairs) {
  const bytes = [];
  for (let i = 0; i < pairs.length; i += 2) {
    for (let byte = 0; byte < pairs[i]; byte += 1) bytes.push((pairs[i + 1] >>> (8 * byte)) & 255);
  }
  return bytes;
}

// The checksum of zip files: CRC-32, reflected polynomial 0xedb88320.
function crc32(data) {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

function saveAs(name, blob) {
  const link = htmlElement("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
