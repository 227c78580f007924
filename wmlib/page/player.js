// The player: a world and a trained agent's dream of it, under the same keys. All that is on screen
// follows from the seed, the keys and the settings, so a dream can be played again and shared.
//
// PAGE = {title, world, pack, reference, rows, choices}, written by wmlib.page.write.
"use strict";

const $ = (id) => document.getElementById(id);
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
    const shut = t >= settings.context || !world.obs;
    if (shut) agent.imagine(vector, settings.temperature);
    else agent.observe(world.obs, vector, t === 0);
    const reward = t ? agent.reward() : 0;
    this.choice = this.actions.key(agent.act());
    this.real += world.reward;
    this.dreamt += reward;
    film.push({ real: world.obs, dream: agent.decode(), shut, action,
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

// ------------------------------------------------------------------ drawing

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// A canvas as sharp as the screen -> its context, in CSS pixels, cleared.
function sheet(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 300;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  canvas.style.height = height + "px";
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.imageSmoothingEnabled = false;
  return [pen, width, height];
}

function drawImage(canvas, values, [rows, columns, channels], scale) {
  const [pen, width, height] = sheet(canvas, (canvas.clientWidth * rows) / columns);
  if (!values) return;
  const small = new OffscreenCanvas(columns, rows), box = small.getContext("2d");
  const picture = box.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = scale * values[i * channels + Math.min(c, channels - 1)];
    picture.data[4 * i + 3] = 255;
  }
  box.putImageData(picture, 0, 0);
  pen.drawImage(small, 0, 0, width, height);
}

function drawCart(canvas, state, ink) {
  const [pen, width, height] = sheet(canvas, canvas.clientWidth * 0.6);
  if (!state) return;
  const unit = width / 4.8, x = width / 2 + state[0] * unit, y = height * 0.8;
  pen.fillStyle = colour("line");
  pen.fillRect(0, y + 12, width, 1);
  pen.fillStyle = pen.strokeStyle = colour(ink);
  pen.fillRect(x - 24, y - 12, 48, 24);
  pen.lineWidth = 7;
  pen.lineCap = "round";
  pen.beginPath();
  pen.moveTo(x, y - 12);
  pen.lineTo(x + Math.sin(state[2]) * unit, y - 12 - Math.cos(state[2]) * unit);
  pen.stroke();
}

// Every number over time: the world's in slate, the dream's in amber.
function drawLines(canvas, film, name, count, words) {
  const shown = film.slice(-80), rows = Math.min(count, 8), tall = 64;
  const [pen, width] = sheet(canvas, rows * tall);
  for (let k = 0; k < rows; k++) {
    const lines = [shown.map((f) => f.real?.[name][k]), shown.map((f) => f.dream[name][k])];
    const all = lines.flat().filter((x) => x !== undefined);
    const low = Math.min(...all), span = Math.max(Math.max(...all) - low, 0.1);
    const y = (value) => (k + 1) * tall - 6 - ((value - low) / span) * (tall - 28);
    pen.fillStyle = colour("line");
    pen.fillRect(0, (k + 1) * tall - 1, width, 1);
    pen.fillStyle = colour("soft");
    pen.font = "13px system-ui, sans-serif";
    pen.fillText(words?.[k] ?? `${name} ${k + 1}`, 2, k * tall + 14);
    lines.forEach((line, which) => {
      pen.strokeStyle = colour(which ? "dream" : "real");
      pen.lineWidth = which ? 2 : 3;
      pen.beginPath();
      line.forEach((v, t) => { if (v !== undefined) pen.lineTo((t / 79) * (width - 4) + 2, y(v)); });
      pen.stroke();
    });
  }
}

// Groups of bars side by side; series are [values of all groups, colour].
function drawBars(canvas, sizes, series, height) {
  const bars = sizes.reduce((a, b) => a + b, 0), columns = Math.min(sizes.length, 8);
  const lines = Math.ceil(sizes.length / columns), [pen, width] = sheet(canvas, lines * height);
  const cell = width / columns;
  sizes.forEach((size, g) => {
    const x = (g % columns) * cell, base = (Math.floor(g / columns) + 1) * height - 4;
    const bar = (cell - 8) / size;
    pen.fillStyle = colour("line");
    pen.fillRect(x, base, cell - 8, 1);
    series.forEach(([groups, ink], which) => groups?.[g].forEach((p, k) => {
      pen.fillStyle = colour(ink);
      const w = bar / series.length, tall = p * (height - 10);
      pen.fillRect(x + k * bar + which * w, base - tall, Math.max(w - 0.5, 0.5), tall);
    }));
  });
  return bars;
}

function drawHeat(canvas, h) {
  const [pen, width, height] = sheet(canvas, 28), step = width / h.length;
  const most = h.reduce((top, value) => Math.max(top, Math.abs(value)), 0.01);
  h.forEach((value, i) => {
    pen.globalAlpha = Math.abs(value) / most;
    pen.fillStyle = colour(value > 0 ? "ink" : "real");
    pen.fillRect(i * step, value > 0 ? 0 : height / 2, Math.ceil(step), height / 2);
  });
}

function drawSurprise(canvas, film) {
  const shown = film.slice(-80), [pen, width, height] = sheet(canvas, 56), step = width / Math.max(shown.length, 24);
  const top = Math.max(2, ...shown.map((f) => f.surprise));
  shown.forEach(({ shut, surprise }, i) => {
    pen.fillStyle = colour(shut ? "dream" : "real");
    const tall = shut ? 3 : 3 + (surprise / top) * (height - 6);
    pen.fillRect(i * step, height - tall, step - 2, tall);
  });
}

// ------------------------------------------------------------------ the player

class Player {
  constructor(page) {
    Object.assign(this, { page, playing: false, agentDrives: true, drivers: new Set(), waiting: null, held: null });
    this.scores = { you: [], agent: [] };
    this.streak = 0;
    this.settings = { context: page.context, temperature: 1, pinned: {} };
    this.dream = new Dream(page, 1, this.settings);
    this.names = page.choices ?? Array.from({ length: this.dream.actions.count }, (_, i) => String(i));
    const arrows = { 2: ["ArrowLeft", "ArrowRight"], 3: ["ArrowLeft", "ArrowDown", "ArrowRight"] };
    this.keys = this.dream.actions.continuous // rest, then less and more of every number
      ? ["ArrowDown", "ArrowLeft", "ArrowRight", ..."12345678"]
      : arrows[this.names.length] ?? [..."1234567890qwertyuiop"];
    this.build();
    this.read();
    setTimeout(() => this.test(), 50);
  }

  build() {
    const { parts } = this.dream.agent, { stoch, classes } = this.page.pack.config;
    const make = (parent, tag, fields) => parent.appendChild(Object.assign(document.createElement(tag), fields));
    this.views = parts.map((part) => {
      const view = { part, canvases: {} }, cart = this.page.world === "cartpole";
      for (const side of cart || part.kind !== "vector" ? ["real", "dream"] : []) {
        view.canvases[side] = make($(side), "canvas", { role: "img" });
      }
      if (part.kind === "vector") view.lines = make($("lines"), "canvas", { role: "img" });
      return view;
    });
    $("stage").hidden = !$("real").querySelector("canvas");
    if ($("stage").hidden) $("stage").after($("lines"));
    this.names.slice(0, 20).forEach((name, index) => {
      const button = make($("choices"), "button", { type: "button", textContent: name });
      button.title = "key: " + (this.keys[index] ?? "none").replace("Arrow", "arrow ");
      button.onpointerdown = () => { this.held = index; };
      button.onpointerup = button.onpointerleave = () => { this.held = null; };
      button.onclick = () => this.press(index);
    });
    for (let s = -1; s < stoch; s++) make($("latent"), "option", { value: s, textContent: s < 0 ? "none" : s + 1 });
    for (let k = 0; k < classes; k++) make($("class"), "option", { value: k, textContent: k + 1 });
    const clicks = { play: () => this.toggle(), step: () => this.tick(), hand: () => this.hand(), new: () => this.fresh() };
    for (const [id, act] of Object.entries(clicks)) $(id).onclick = act;
    $("context").value = this.settings.context;
    for (const id of ["context", "temperature", "latent", "class"]) $(id).oninput = () => this.set();
    $("player").onkeydown = (event) => this.key(event, clicks);
    $("player").onkeyup = () => { this.held = null; };
    addEventListener("resize", () => this.draw());
    addEventListener("hashchange", () => { if (location.hash !== this.code()) this.read(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  key(event, clicks) {
    const { target, key } = event, letters = { " ": "play", s: "step", h: "hand", n: "new" };
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT/.test(target.tagName)) return;
    if (target.tagName === "BUTTON" && key === " ") return;
    const index = this.keys.indexOf(key);
    if (index < 0 && !letters[key]) return;
    event.preventDefault();
    if (letters[key]) { if (!event.repeat) clicks[letters[key]](); return; }
    this.held = index;
    if (!event.repeat) this.press(index);
  }

  // ---- what happens

  press(index) {
    if (index >= this.names.length) return;
    this.agentDrives = false;
    this.waiting = index;
    if (!this.playing) this.tick();
    else this.draw();
  }

  tick() {
    const { dream } = this;
    if (dream.over || dream.keys.length > 999) return this.fresh();
    const idle = this.names.length === 3 && !dream.actions.continuous ? 1 : this.last ?? 0;
    const index = this.waiting ?? this.held ?? idle;
    this.drivers.add(this.agentDrives ? "agent" : "you");
    if (!this.agentDrives && this.names.length === 2) this.last = index;
    this.waiting = null;
    const before = dream.verdict()[0];
    dream.step(this.agentDrives ? dream.suggestion : dream.actions.choice(index));
    if (dream.over) this.finish();
    const [verdict, reason] = dream.verdict();
    if (verdict !== before || dream.over || !this.playing)
      this.log(`Frame ${dream.keys.length}: ${verdict}. ${reason}${dream.over ? " The episode is over." : ""}`);
    this.draw();
  }

  finish() {
    if (this.drivers.size === 1) this.scores[[...this.drivers][0]].push(this.dream.real);
    this.streak = this.dream.world.won ? this.streak + 1 : 0;
  }

  toggle() {
    this.playing = !this.playing;
    clearInterval(this.timer);
    if (this.playing) this.timer = setInterval(() => this.tick(), 1000 / this.dream.world.fps);
    this.draw();
  }

  hand() { this.agentDrives = !this.agentDrives; this.draw(); }

  fresh() { this.again((this.dream.seed % 999983) + 1, []); }

  // The same seed and keys under the settings of now.
  again(seed, keys) {
    this.drivers.clear();
    this.dream.begin(seed, this.settings);
    keys.forEach((key) => this.dream.step(key));
    if (keys.length) this.drivers.add("replay").add("either"); // counts for nobody
    this.draw();
  }

  set() {
    this.settings.context = Math.max(1, Math.round(+$("context").value) || 1);
    this.settings.temperature = +$("temperature").value;
    this.settings.pinned = +$("latent").value < 0 ? {} : { [$("latent").value]: +$("class").value };
    this.again(this.dream.seed, this.dream.keys);
  }

  // ---- the address: #seed.keys, then context, temperature and pin where they are not the usual

  code() {
    const { context, temperature, pinned } = this.settings, pin = Object.entries(pinned)[0];
    const more = [context, temperature * 10, ...(pin ?? [])].map(Math.round);
    const usual = context === this.page.context && temperature === 1 && !pin;
    return "#" + [this.dream.seed, this.dream.keys.join(""), ...(usual ? [] : more)].join(".");
  }

  read() {
    const [seed, keys = "", context, tenths, latent, klass] = location.hash.slice(1).split(".");
    if (context >= 1) $("context").value = context;
    if (tenths >= 1) $("temperature").value = tenths / 10;
    if (latent >= 0) [$("latent").value, $("class").value] = [latent, klass];
    this.dream.begin(Math.max(1, parseInt(seed) % 999983 || 1), this.settings);
    this.dream.keys = this.dream.actions.valid(keys).slice(0, 999);
    this.set();
  }

  // ---- what is shown

  log(text) { $("log").textContent = text; }

  draw() {
    const { dream, page } = this, frame = dream.film.at(-1), { stoch, classes } = page.pack.config;
    const [verdict, reason, parted] = dream.verdict(), t = dream.keys.length;
    document.body.classList.toggle("shut", frame.shut);
    for (const { part, canvases, lines } of this.views) this.drawPart(part, canvases, lines, frame);
    $("eyes").textContent = frame.shut ? "the dream, eyes closed" : "the model, eyes open";
    $("verdict").textContent = parted === undefined ? verdict : `${verdict}, parted at frame ${parted}`;
    $("verdict").className = verdict;
    $("reason").textContent = reason;
    const mean = (list) => (list.length ? list.reduce((a, b) => a + b) / list.length : NaN);
    const score = (list) => (list.length ? `${mean(list).toFixed(2)} (${list.length})` : "–");
    const facts = { frame: t, world: dream.real.toFixed(2), dreamt: dream.dreamt.toFixed(2),
      you: score(this.scores.you), agent: score(this.scores.agent), streak: this.streak };
    for (const [id, value] of Object.entries(facts)) $(id).textContent = value;
    $("play").textContent = this.playing ? "pause" : "play";
    $("hand").textContent = this.agentDrives ? "agent plays" : "you play";
    $("heat").textContent = this.settings.temperature.toFixed(1);
    drawHeat($("h"), frame.h);
    drawBars($("z"), Array(stoch).fill(classes), [[frame.prior, "dream"], [frame.posterior, "real"]], 52);
    drawSurprise($("surprise"), dream.film);
    if (location.hash !== this.code() && !this.playing) history.replaceState(null, "", this.code());
  }

  drawPart({ name, kind, shape, sizes }, canvases, lines, frame) {
    const { film } = this.dream, cart = this.page.world === "cartpole", what = name || "observation";
    for (const [side, canvas] of Object.entries(canvases)) {
      const values = frame[side]?.[name], ink = side === "dream" && frame.shut ? "dream" : "real";
      const whose = side === "real" ? "the real world" : "the model";
      canvas.setAttribute("aria-label", `${what} of ${whose}, frame ${film.length - 1}`);
      if (cart) drawCart(canvas, values, ink);
      else if (kind === "image") drawImage(canvas, values, shape, side === "real" ? 1 : 255);
      else {
        const hot = side === "real" ? values && oneHot(values, sizes) : values;
        let at = 0;
        drawBars(canvas, sizes, [[hot && sizes.map((k) => hot.slice(at, (at += k))), ink]], 40);
      }
    }
    lines?.setAttribute("aria-label", `${what} over time: the world's numbers, and the dream's`);
    const words = cart && ["position", "speed", "angle", "turning"];
    if (lines) drawLines(lines, film, name, shape.reduce((a, b) => a * b, 1), words || null);
  }

  test() {
    const { worst, where } = selfTest(this.page.pack, this.page.reference);
    const good = worst <= (this.page.pack.halves ? 2e-3 : 1e-5);
    $("test").className = good ? "good" : "bad";
    $("test").textContent = good
      ? `Self-test: this page computes what PyTorch computes (largest difference ${worst.toExponential(0)}).`
      : `Self-test failed: ${where} differs by ${worst.toExponential(1)}.`;
  }
}

// Images of a recording are bytes as text; its actions become keys.
for (const row of PAGE.rows ?? []) {
  row.key = new Actions(PAGE.pack.action).key(Float32Array.from(row.action));
  for (const [name, seen] of Object.entries(row.obs)) {
    if (typeof seen === "string") row.obs[name] = Uint8Array.from(atob(seen), (c) => c.charCodeAt(0));
  }
}
const player = new Player(PAGE);
