// A trained agent in plain JavaScript: the same parts, names and formulas as in wmlib, one step of
// one world at a time, without a library.
//   D  size of the deterministic state h        S, K  latents z, each one of K classes (one-hot)
//   feature [h; z] (D + S*K)                    images are (rows, columns, channels), flat
//
// `new Agent(pack)` takes what wmlib.page.pack(agent) wrote: {config, parts, action, tensors, data}.
"use strict";

// ------------------------------------------------------------------ numbers

// A half-precision number from its 16 bits.
function half(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

// Base64 text -> Float32Array of numbers that were written in half or single precision.
function numbers(text, halves) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  if (!halves) return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), half);
}

// Random numbers that a seed repeats (sfc32).
class Dice {
  constructor(seed) {
    this.words = Uint32Array.of(0x9e3779b9, 0x243f6a88, seed >>> 0, 1);
    for (let i = 0; i < 15; i++) this.word();
  }
  word() {
    const w = this.words, sum = (w[0] + w[1] + w[3]) >>> 0;
    w[3]++;
    w[0] = w[1] ^ (w[1] >>> 9);
    w[1] = w[2] + (w[2] << 3);
    w[2] = ((w[2] << 21) | (w[2] >>> 11)) + sum;
    return sum;
  }
  uniform() { return this.word() / 2 ** 32; } // in [0, 1)
  below(n) { return Math.floor(this.uniform() * n); }
  normal() {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const symlog = (x) => Math.sign(x) * Math.log1p(Math.abs(x));
const symexp = (x) => Math.sign(x) * Math.expm1(Math.abs(x));

function join(...arrays) {
  const x = new Float32Array(arrays.reduce((size, array) => size + array.length, 0));
  arrays.reduce((at, array) => (x.set(array, at), at + array.length), 0);
  return x;
}

// Softmax of x[from ... from + k], mixed with a share of uniform.
function softmax(x, from, k, mix = 0, temperature = 1) {
  const p = new Float32Array(k);
  let top = -Infinity, sum = 0;
  for (let i = 0; i < k; i++) top = Math.max(top, x[from + i]);
  for (let i = 0; i < k; i++) sum += p[i] = Math.exp((x[from + i] - top) / temperature);
  for (let i = 0; i < k; i++) p[i] = (1 - mix) * p[i] / sum + mix / k;
  return p;
}

// The class that a uniform number chooses.
function draw(p, uniform) {
  let index = 0, edge = 0;
  while (index < p.length - 1 && (edge += p[index]) < uniform) index++;
  return index;
}

const likeliest = (p) => p.indexOf(Math.max(...p));

// Centres of the bins of reward and value, evenly spaced in symlog.
function symexpBins(count) {
  const middle = (count - 1) / 2;
  return Float32Array.from({ length: count }, (_, i) => symexp(20 * (i - middle) / middle));
}

// Expected value of the predicted bins; mirrored ones are subtracted before they are summed.
function twohotMean(logits, bins) {
  const top = Math.max(...logits), middle = (bins.length - 1) / 2;
  const p = Array.from(logits, (x) => Math.exp(x - top)); // not rounded: bins go up to 5e8
  let mean = 0, sum = p[middle];
  for (let i = 1; i <= middle; i++) {
    mean += (p[middle + i] - p[middle - i]) * bins[middle + i];
    sum += p[middle + i] + p[middle - i];
  }
  return mean / sum;
}

// ------------------------------------------------------------------ layers

// y = W x + b.
function linear(net, name, x) {
  const { data: w, shape: [rows, columns] } = net[name + ".weight"];
  const y = Float64Array.from(net[name + ".bias"].data);
  for (let i = 0, k = 0; i < rows; i++) {
    let sum = 0;
    for (let j = 0; j < columns; j++) sum += w[k++] * x[j];
    y[i] += sum;
  }
  return y;
}

// SiLU(RMSNorm(x)), in place, for every run of as many numbers as there are gains.
function normSilu(net, name, x) {
  const gain = net[name + ".gain"].data, size = gain.length;
  for (let from = 0; from < x.length; from += size) {
    let square = 0;
    for (let i = 0; i < size; i++) square += x[from + i] ** 2;
    const inverse = 1 / Math.sqrt(square / size + 1e-4);
    for (let i = 0; i < size; i++) {
      const y = x[from + i] * inverse * gain[i];
      x[from + i] = y * sigmoid(y);
    }
  }
  return x;
}

const nln = (net, name, x) => normSilu(net, name + ".norm", linear(net, name + ".linear", x));

function mlp(net, name, x) {
  for (let i = 0; net[`${name}.${i}.linear.weight`]; i++) x = nln(net, `${name}.${i}`, x);
  return x;
}

const head = (net, name, x) => linear(net, name + ".out", mlp(net, name + ".mlp", x));

// A block-diagonal matrix: each block sees its own part of x, and all of `shared`.
function blockLinear(net, name, x, shared = new Float32Array(0)) {
  const { data: w, shape: [blocks, inputs, outputs] } = net[name + ".weight"];
  const y = Float32Array.from(net[name + ".bias"].data), own = inputs - shared.length;
  for (let g = 0, k = 0; g < blocks; g++) {
    for (let i = 0; i < inputs; i++) {
      const value = i < own ? x[g * own + i] : shared[i - own];
      for (let o = 0; o < outputs; o++) y[g * outputs + o] += value * w[k++];
    }
  }
  return y;
}

// What an output pixel of a convolution sees: side x side pixels, from step times its own place minus
// pad. What doubles an image has four kernels, for even and odd rows a and columns b, in which tap s of
// the weights is at `place`. "up" is the transpose of "down"; "double" takes every pixel four times.
const MODES = {
  same: { side: 5, step: 1, zoom: 1, pad: () => 2, place: (s) => s },
  down: { side: 4, step: 2, zoom: 1, pad: () => 1, place: (s) => s },
  up: { side: 2, step: 1, zoom: 2, pad: (a) => 1 - a, place: (s, a) => (3 - a - s) / 2 },
  double: { side: 3, step: 1, zoom: 2, pad: () => 1, place: (s, a) => (a + s) >> 1 },
};

// Weights (out, in, taps, taps), of "up" (in, out, taps, taps) -> kernel (out, side, side, in).
function kernelOf({ data, shape: [first, second, taps] }, mode, a, b) {
  const { side, place } = MODES[mode], up = mode === "up";
  const [outputs, inputs] = up ? [second, first] : [first, second];
  const kernel = new Float64Array(outputs * side * side * inputs);
  for (let o = 0; o < outputs; o++) for (let c = 0; c < inputs; c++) {
    const from = (up ? c * outputs + o : o * inputs + c) * taps * taps;
    for (let s = 0; s < taps; s++) for (let t = 0; t < taps; t++) {
      const p = place(s, a), q = place(t, b);
      if (p % 1 === 0 && q % 1 === 0) // else it is one of another row or column
        kernel[((o * side + p) * side + q) * inputs + c] += data[from + s * taps + t];
    }
  }
  return kernel;
}

// Convolution of an image (rows, columns, inputs) -> [image, its shape].
function conv(net, name, x, [rows, columns, inputs], mode) {
  const weight = net[name + ".weight"], bias = net[name + ".bias"].data, outputs = bias.length;
  const { side, step, zoom, pad } = MODES[mode], run = side * inputs;
  const height = (rows * zoom) / step, width = (columns * zoom) / step;
  const y = new Float32Array(height * width * outputs), patch = new Float64Array(side * run);
  for (let a = 0; a < zoom; a++) for (let b = 0; b < zoom; b++) {
    const kernel = ((weight.kernels ??= [])[2 * a + b] ??= kernelOf(weight, mode, a, b));
    for (let i = 0; i < height / zoom; i++) for (let j = 0; j < width / zoom; j++) {
      const left = step * j - pad(b), skip = Math.max(0, -left), stop = Math.min(side, columns - left);
      for (let p = 0; p < side; p++) {
        const row = step * i - pad(a) + p, from = (row * columns + left) * inputs;
        const low = row < 0 || row >= rows ? run : skip * inputs, high = stop * inputs;
        for (let c = 0; c < run; c++) patch[p * run + c] = c < low || c >= high ? 0 : x[from + c];
      }
      products(kernel, patch, bias, y, ((i * zoom + a) * width + j * zoom + b) * outputs);
    }
  }
  return [y, [height, width, outputs]];
}

// y[to + o] = bias[o] + kernel[o] . x, for four o at a time: x is read once.
function products(kernel, x, bias, y, to) {
  let o = 0, size = x.length, outputs = bias.length;
  for (; o + 4 <= outputs; o += 4) {
    const k = o * size, l = k + size, m = l + size, n = m + size;
    let p = bias[o], q = bias[o + 1], r = bias[o + 2], s = bias[o + 3];
    for (let c = 0; c < size; c++) {
      const value = x[c];
      p += value * kernel[k + c]; q += value * kernel[l + c];
      r += value * kernel[m + c]; s += value * kernel[n + c];
    }
    y[to + o] = p; y[to + o + 1] = q;
    y[to + o + 2] = r; y[to + o + 3] = s;
  }
  for (; o < outputs; o++) {
    let sum = bias[o];
    for (let c = 0, k = o * size; c < size; c++) sum += x[c] * kernel[k + c];
    y[to + o] = sum;
  }
}

// The largest of every 2 x 2 pixels.
function maxPool(x, [rows, columns, channels]) {
  const y = new Float32Array(x.length / 4).fill(-Infinity);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) for (let c = 0; c < channels; c++) {
    const to = (((i >> 1) * columns) / 2 + (j >> 1)) * channels + c;
    y[to] = Math.max(y[to], x[(i * columns + j) * channels + c]);
  }
  return [y, [rows / 2, columns / 2, channels]];
}

// ------------------------------------------------------------------ observations

// One-hots of classes, in a row; sizes are how many classes each has.
function oneHot(values, sizes) {
  const x = new Float32Array(sizes.reduce((a, b) => a + b, 0));
  let at = 0;
  sizes.forEach((size, i) => { x[at + values[i]] = 1; at += size; });
  return x;
}

// One part of an observation -> what the posterior sees of it.
function encode(net, name, part, obs, config) {
  if (part.kind === "vector") return mlp(net, name + ".mlp", Float32Array.from(obs, symlog));
  if (part.kind === "discrete") return mlp(net, name + ".mlp", oneHot(obs, part.sizes));
  let x = Float32Array.from(obs, (v) => v / 255 - 0.5), shape = part.shape;
  for (let i = 0; net[`${name}.convs.${i}.weight`]; i++) {
    const mode = config.coder === "pooled" ? "same" : "down";
    [x, shape] = conv(net, `${name}.convs.${i}`, x, shape, mode);
    if (mode === "same") [x, shape] = maxPool(x, shape);
    normSilu(net, `${name}.norms.${i}`, x);
  }
  return x;
}

// One part of what a state stands for: an image in [0, 1], numbers, or probabilities of classes.
function decode(net, name, part, h, z, config) {
  if (part.kind !== "image") {
    const x = linear(net, name + ".out", mlp(net, name + ".mlp", join(z, h)));
    if (part.kind === "vector") return x.map(symexp);
    const most = x.length / part.sizes.length; // an element with fewer classes uses the first ones
    return join(...part.sizes.map((size, i) => softmax(x, i * most, size)));
  }
  const count = [...Array(9).keys()].find((i) => !net[`${name}.convs.${i}.weight`]);
  let shape = [part.shape[0] >> count, part.shape[1] >> count, net[name + ".norms.0.gain"].data.length];
  const tiles = blockLinear(net, name + ".from_h", h);
  let x = linear(net, name + ".from_z.1", nln(net, name + ".from_z.0", z));
  const own = shape[2] / config.blocks, pixels = shape[0] * shape[1]; // channels by blocks
  for (let g = 0; g < config.blocks; g++) for (let p = 0; p < pixels; p++) for (let c = 0; c < own; c++)
    x[p * shape[2] + g * own + c] += tiles[(g * pixels + p) * own + c];
  for (let i = 0; i < count; i++) {
    normSilu(net, `${name}.norms.${i}`, x);
    [x, shape] = conv(net, `${name}.convs.${i}`, x, shape, config.coder === "pooled" ? "double" : "up");
  }
  return x.map(sigmoid);
}

// ------------------------------------------------------------------ the agent

class Agent {
  constructor(pack, seed = 0) {
    const { config, parts, action, tensors, halves, data } = pack;
    const all = numbers(data, halves);
    let at = 0;
    this.net = {};
    for (const [name, shape] of tensors) {
      const size = shape.reduce((a, b) => a * b, 1);
      this.net[name] = { shape, data: all.subarray(at, at + size) };
      at += size;
    }
    Object.assign(this, { config, parts, action, dice: new Dice(seed) });
    this.bins = symexpBins(config.bins);
    this.pinned = {}; // latent -> class that it is held at
    this.reset();
  }

  reset() {
    const { deter, stoch, classes } = this.config;
    this.h = new Float32Array(deter);
    this.z = new Float32Array(stoch * classes);
    this.prior = this.posterior = null; // lists of S probabilities (K)
  }

  // Another agent with the same memory, for a dream beside the real world.
  fork(seed = 0) {
    const twin = Object.assign(Object.create(Agent.prototype), this);
    return Object.assign(twin, { pinned: {}, dice: new Dice(seed) });
  }

  feature() { return join(this.h, this.z); }

  // h from h, z and the last action: a block GRU.
  remember(action) {
    const { net, h, z } = this, core = "world.rssm.core", { blocks, deter } = this.config;
    const token = action.map((a) => a / Math.max(1, Math.abs(a)));
    const x = join(nln(net, core + ".from_h", h), nln(net, core + ".from_z", z),
      nln(net, core + ".from_a", token));
    const mixed = normSilu(net, core + ".norm", blockLinear(net, core + ".mix", h, x));
    const gates = blockLinear(net, core + ".gates", mixed), own = deter / blocks;
    this.h = h.map((old, i) => {
      const at = Math.floor(i / own) * 3 * own + (i % own);
      const candidate = Math.tanh(sigmoid(gates[at]) * gates[at + own]);
      return old + sigmoid(gates[at + 2 * own] - 1) * (candidate - old);
    });
  }

  probabilities(logits, temperature = 1) {
    const { stoch, classes, unimix } = this.config;
    return Array.from({ length: stoch }, (_, s) =>
      softmax(logits, s * classes, classes, unimix, temperature));
  }

  expect(temperature) {
    const { net } = this, name = "world.rssm.prior_net";
    const hidden = nln(net, name + ".1", nln(net, name + ".0", this.h));
    this.prior = this.probabilities(linear(net, name + ".2", hidden), temperature);
  }

  // Draw z; `given` (S classes) is taken instead, as the self-test does.
  choose(probabilities, given) {
    const { classes } = this.config;
    this.z = new Float32Array(this.z.length);
    probabilities.forEach((p, s) => {
      const drawn = draw(p, this.dice.uniform());
      this.z[s * classes + (given?.[s] ?? this.pinned[s] ?? drawn)] = 1;
    });
  }

  // One real row: what was seen (by part), and the action before it.
  observe(obs, action, first = false, given = null) {
    if (first) this.reset();
    this.remember(first ? new Float32Array(action.length) : action);
    this.expect();
    const { net, parts, config } = this, name = "world.rssm.posterior_net";
    const seen = parts.map((part) =>
      encode(net, "world.encoder" + part.place, part, obs[part.name], config));
    this.embed = join(...seen);
    const hidden = nln(net, name + ".0", join(this.h, this.embed));
    this.posterior = this.probabilities(linear(net, name + ".1", hidden));
    this.choose(this.posterior, given);
  }

  // One step with eyes closed.
  imagine(action, temperature = 1, given = null) {
    this.remember(action);
    this.expect(temperature);
    this.posterior = null;
    this.choose(this.prior, given);
  }

  // KL[posterior || prior] in nats: how much of what was seen memory did not predict.
  surprise() {
    if (!this.posterior) return 0;
    let nats = 0;
    this.posterior.forEach((q, s) => q.forEach((p, k) => { nats += p * Math.log(p / this.prior[s][k]); }));
    return nats;
  }

  decode() {
    const { net, parts, config } = this;
    return Object.fromEntries(parts.map((part) =>
      [part.name, decode(net, "world.decoder" + part.place, part, this.h, this.z, config)]));
  }

  reward() { return twohotMean(head(this.net, "world.reward_head", this.feature()), this.bins); }
  continues() { return sigmoid(head(this.net, "world.continue_head", this.feature())[0]); }
  value() { return twohotMean(head(this.net, "critic.fast", this.feature()), this.bins); }

  // Probabilities of every choice, or mean and standard deviation of every number.
  policy() {
    const { net, action, config } = this, x = mlp(net, "actor.mlp", this.feature());
    const out = linear(net, "actor.out", x);
    if (action.kind === "continuous") {
      const std = linear(net, "actor.out_std", x).map((s) => 0.9 * sigmoid(s + 2) + 0.1);
      return { mean: out.map(Math.tanh), std };
    }
    let at = 0;
    return action.sizes.map((size) => softmax(out, (at += size) - size, size, config.unimix));
  }

  // An action as the model takes it: one-hots in a row, or numbers from -1 to 1.
  act(mode = false) {
    const policy = this.policy();
    if (this.action.kind === "continuous")
      return policy.mean.map((mean, i) => mean + (mode ? 0 : policy.std[i] * this.dice.normal()));
    const chosen = policy.map((p) => (mode ? likeliest(p) : draw(p, this.dice.uniform())));
    return oneHot(chosen, this.action.sizes);
  }
}
