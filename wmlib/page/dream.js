// A world and a trained agent's dream of it, under the same keys. All of it follows from the seed, the
// keys and the settings, so a dream can be played again and shared.
//
// page = {world, pack, reference, rows, rules, choices, context, horizon}, from wmlib.page.content.
"use strict";

const DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz";
const LEVELS = DIGITS.length ** 2; // of one number of a continuous action, two digits each

// Keys: actions as text of a fixed width, and as the model takes them.
class Actions {
  constructor(action) {
    this.action = action;
    this.continuous = action.kind === "continuous";
    this.count = this.continuous ? 1 + 2 * action.size : action.sizes.reduce((a, b) => a * b, 1);
    this.width = this.continuous ? 2 * action.size : this.count > DIGITS.length ? 2 : 1;
  }

  text(number) { // in base 36
    const digits = number.toString(DIGITS.length);
    return digits.padStart(this.continuous ? 2 : this.width, "0");
  }

  // The key of what a person can choose: an index, or for numbers: rest, -1 and +1 of each.
  choice(index) {
    if (!this.continuous) return this.text(index);
    const numbers = new Float32Array(this.action.size);
    if (index) numbers[(index - 1) >> 1] = index % 2 ? -1 : 1;
    return this.key(numbers);
  }

  key(vector) { // what the model takes -> text
    const level = (x) => Math.round(((Math.max(-1, Math.min(1, x)) + 1) / 2) * (LEVELS - 1));
    if (this.continuous) return Array.from(vector, (x) => this.text(level(x))).join("");
    let at = 0, number = 0;
    for (const size of this.action.sizes) {
      number = number * size + vector.subarray(at, at + size).indexOf(1);
      at += size;
    }
    return this.text(number);
  }

  vector(key) { // text -> what the model takes
    const pairs = this.continuous ? key.match(/../g) : [];
    const number = parseInt(key, DIGITS.length);
    if (this.continuous)
      return Float32Array.from(pairs, (pair) => (2 * parseInt(pair, DIGITS.length)) / (LEVELS - 1) - 1);
    let rest = number;
    const chosen = [...this.action.sizes].reverse().map((size) => {
      const part = rest % size;
      rest = (rest - part) / size;
      return part;
    });
    return oneHot(chosen.reverse(), this.action.sizes);
  }

  valid(keys) {
    const parts = keys.match(new RegExp(`.{1,${this.width}}`, "g")) ?? [];
    const good = (key) => key.length === this.width && /^[0-9a-z]+$/.test(key)
      && (this.continuous || parseInt(key, DIGITS.length) < this.count);
    return parts.every(good) ? parts : [];
  }
}

// One episode: frames of the world and of the model, from a seed, keys and settings.
class Dream {
  constructor(page, seed, settings) {
    const makers = { curtain: () => new Curtain(page.rules), cartpole: () => new CartPole() };
    this.world = (makers[page.world] ?? (() => new Recorded(page.rows)))();
    this.agent = new Agent(page.pack);
    this.actions = new Actions(page.pack.action);
    this.begin(seed, settings);
  }

  begin(seed, settings) {
    Object.assign(this, { seed, settings, keys: [], film: [], dreamt: 0, real: 0 });
    this.world.reset(new Dice(seed));
    this.agent.pinned = settings.pinned;
    this.see(new Float32Array(this.actions.vector(this.actions.choice(0)).length), null);
  }

  // Chance depends on the seed and the frame only: the same keys give the same dream.
  see(vector, action) {
    const { agent, world, settings, film } = this, t = film.length;
    agent.dice = new Dice(this.seed * 1009 + t);
    const shut = t % (settings.context + settings.horizon) >= settings.context || !world.obs;
    if (shut) agent.imagine(vector, settings.temperature);
    else agent.observe(world.obs, vector, t === 0);
    const reward = t ? agent.reward() : 0;
    this.choice = this.actions.key(agent.act());
    this.real += world.reward;
    this.dreamt += reward;
    const { stoch, classes } = agent.config;
    const z = Array.from({ length: stoch }, (_, s) => agent.z.indexOf(1, s * classes) - s * classes);
    film.push({ real: world.obs, dream: agent.decode(), shut, action, z,
      surprise: agent.surprise(), prior: agent.prior, posterior: agent.posterior, h: agent.h });
  }

  get over() { return this.world.over; }
  get suggestion() { return this.world.next ?? this.choice; } // of the agent, or of its recording

  step(key) {
    if (this.over) return;
    this.keys.push(key);
    const vector = this.actions.vector(key);
    const action = this.world.rows ? key : parseInt(key, DIGITS.length);
    this.world.step(action);
    this.see(vector, action);
  }

  // All that wmlib needs to compute this dream again.
  report() {
    const { seed, settings, world, keys, film } = this, { context, horizon, temperature } = settings;
    return { seed, context, horizon, temperature, start: world.start ?? null,
      actions: keys.map((key) => parseInt(key, DIGITS.length)), latents: film.map(({ z }) => z) };
  }

  // Verdict and sentence; the third is the frame where the two parted.
  verdict() {
    const { world, film } = this, shut = film.at(-1).shut;
    if (world.judge)
      return world.judge(film.map((f) => ({ ...f, real: f.real[""], dream: f.dream[""] })));
    if (!world.obs) return ["dreaming", "The recording does not go on like this: free play in the dream."];
    if (!shut) return ["together", "The eyes are open: the model sees what the world shows."];
    const apart = distance(this.agent.parts, film.at(-1));
    return [apart > 0.5 ? "apart" : "dreaming",
      `Eyes closed: dream and world are ${apart.toFixed(2)} apart. Error or luck takes an oracle.`];
  }
}

// Mean difference of a frame and its dream, in brightness, symlog or probability.
function distance(parts, { real, dream }) {
  const off = parts.map(({ name, kind, sizes }) => {
    const target = kind === "discrete" ? oneHot(real[name], sizes) : real[name];
    const as = { image: (x, d) => x / 255 - d, vector: (x, d) => symlog(x) - symlog(d) }[kind] ?? ((x, d) => x - d);
    return dream[name].reduce((sum, d, i) => sum + Math.abs(as(target[i], d)), 0) / target.length;
  });
  return off.reduce((a, b) => a + b, 0) / off.length;
}
