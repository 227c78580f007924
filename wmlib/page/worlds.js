// Two worlds whose rules fit in a page, as in wmlib.envs.curtain and Gymnasium, and one that is a
// recording. A world has obs (by part), reward, t and over; reset(dice) and step(action index).
"use strict";

const LANES = 8, FIRST_HIDDEN = 2, MOVE_COST = 0.02, PAD_REWARD = 0.5;

// Catch the ball that comes out from behind the curtain; rules as wmlib's Rules.
class Curtain {
  constructor(rules) { Object.assign(this, { rules, last: rules.rows - 1, fps: 3 }); }

  // `given` may fix lane, offset, paddle, and flips (a function that returns the noise).
  reset(dice, given = {}) {
    const { offsets, probs } = this.rules;
    const drawn = { lane: 2 + dice.below(4), paddle: dice.below(LANES) };
    drawn.offset = offsets[draw(probs, dice.uniform())];
    const flips = () => Array.from({ length: this.rules.static }, () => dice.below(2));
    Object.assign(this, { t: 0, reward: 0, over: false, flips }, drawn, given);
    this.start = { lane: this.lane, offset: this.offset, paddle: this.paddle };
    this.obs = { "": Curtain.frame(this.rules, this, this.flips()) };
  }

  step(action) {
    this.t++;
    this.paddle = Math.min(LANES - 1, Math.max(0, this.paddle + action - 1));
    this.over = this.t === this.last;
    this.reward = (this.over ? this.payoff() : 0) - (action === 1 ? 0 : MOVE_COST);
    this.obs = { "": Curtain.frame(this.rules, this, this.flips()) };
  }

  payoff() {
    const { late, goal } = this.rules, { lane, offset, paddle } = this;
    const score = paddle === lane + offset ? 1 : late && paddle === lane ? PAD_REWARD : -1;
    return goal === "catch" ? score : -score;
  }

  // Pixels (2 rows, 16) of a scene, 0 or 255.
  static frame({ rows, reveal }, { t, lane, offset, paddle }, flips = []) {
    const wide = 2 * LANES, pixels = new Uint8Array(2 * rows * wide);
    const first = 2 * FIRST_HIDDEN * wide;
    for (let i = first; i < 2 * reveal * wide; i += 2) pixels[i] = 255;
    for (const side of [0, 1]) {
      pixels[(2 * rows - 1) * wide + 2 * paddle + side] = 255;
      const ball = 2 * (lane + (t >= reveal ? offset : 0)) + side;
      if (t < FIRST_HIDDEN || t >= reveal) for (const row of [2 * t, 2 * t + 1]) pixels[row * wide + ball] = 255;
    }
    flips.forEach((flip, i) => { pixels[first + i] = 255 * flip; });
    return pixels;
  }

  // Together, luck or error: which outcomes of the coin explain what was seen and dreamt? As
  // wmlib.widgets.dream_session.judge. film: {real, dream (in [0, 1]), shut, action} per frame.
  judge(film) {
    const { rules } = this, noise = 2 * FIRST_HIDDEN * 2 * LANES;
    const wrong = (frame, truth) => frame.reduce((n, x, i) =>
      n + ((i < noise || i >= noise + rules.static) && Math.abs(x - truth[i] / 255) > 0.5), 0);
    const frames = film.map(({ real, dream, shut }) => (shut ? dream : real.map((x) => x > 127)));
    if (!film.some(({ shut }) => shut))
      return ["together", "The eyes are open: the model sees what the world shows."];
    const parted = film.findIndex(({ real }, t) => wrong(frames[t], real) > 1);
    if (parted < 0) return ["together", "So far the dream shows what the world shows."];
    const scene = { lane: film[0].real.indexOf(255) >> 1 };
    scene.paddle = film[0].real.subarray(-2 * LANES).indexOf(255) >> 1;
    let open = rules.offsets.filter((_, i) => rules.probs[i] > 0);
    const sides = open;
    for (let t = 0; t < film.length; t++) {
      if (t) scene.paddle = Math.min(LANES - 1, Math.max(0, scene.paddle + film[t].action - 1));
      const off = new Map(sides.map((offset) =>
        [offset, wrong(frames[t], Curtain.frame(rules, { ...scene, t, offset }))]));
      const fits = sides.filter((offset) => off.get(offset) <= 1);
      open = film[t].shut ? open.filter((offset) => fits.includes(offset)) : fits;
      if (open.length) continue;
      const why = fits.length ? "the ball changes sides" : `${Math.min(...off.values())} pixels are wrong`;
      return ["error", `Frame ${t} cannot be: ${why}.`, parted];
    }
    return ["luck", "The dream's coin fell on another side, which the world allows.", parted];
  }

  get won() { return this.reward > 0; }
}

// CartPole-v1 by its equations (Barto, Sutton and Anderson 1983), integrated by Euler's method.
class CartPole {
  constructor() { this.fps = 25; }

  reset(dice, state = null) {
    this.state = state ?? Array.from({ length: 4 }, () => 0.1 * dice.uniform() - 0.05);
    Object.assign(this, { t: 0, reward: 0, over: false, obs: { "": Float32Array.from(this.state) } });
  }

  step(action) {
    const gravity = 9.8, mass = 0.1, total = 1.1, half = 0.5, tau = 0.02;
    const [x, speed, angle, turn] = this.state, force = action ? 10 : -10;
    const sine = Math.sin(angle), cosine = Math.cos(angle);
    const push = (force + mass * half * turn ** 2 * sine) / total;
    const turning = (gravity * sine - cosine * push) / (half * (4 / 3 - (mass * cosine ** 2) / total));
    const moving = push - (mass * half * turning * cosine) / total;
    this.state = [x + tau * speed, speed + tau * moving, angle + tau * turn, turn + tau * turning];
    this.t++;
    this.fell = Math.abs(this.state[0]) > 2.4 || Math.abs(this.state[2]) > (12 * 2 * Math.PI) / 360;
    Object.assign(this, { reward: 1, over: this.fell || this.t === 500 });
    this.obs = { "": Float32Array.from(this.state) };
  }

  get won() { return this.over && !this.fell; }
}

// An episode that was played when the page was written: real for as long as its actions are taken.
class Recorded {
  constructor(rows) { Object.assign(this, { rows, fps: 8 }); }

  reset() { Object.assign(this, { t: 0, reward: 0, over: false, obs: this.rows[0].obs }); }

  get next() { return this.obs ? this.rows[this.t + 1]?.key : undefined; } // recorded action

  step(key) {
    const row = this.next === key ? this.rows[this.t + 1] : null;
    this.t++;
    Object.assign(this, { obs: row?.obs ?? null, reward: row?.reward ?? 0 }); // the dream goes on
  }

  get won() { return false; }
}
