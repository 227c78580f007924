// The player: what is on screen of a Dream, and what keys, clicks and time do to it.
//
// mount(host, page) puts one into an element of any page. It lives in a shadow tree: no style and no
// key passes between it and the page around it.
"use strict";

// ------------------------------------------------------------------ drawing

const palette = {}; // colours of the theme, by name; all players of a page share it
const colour = (name) => palette[name];

// A canvas as sharp as the screen -> its context, in CSS pixels, cleared.
function sheet(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 300;
  const pen = canvas.getContext("2d"), size = [width, height].map((x) => Math.round(x * ratio));
  if (canvas.width !== size[0] || canvas.height !== size[1]) {
    [canvas.width, canvas.height] = size;
    canvas.style.height = height + "px";
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  Object.assign(pen, { imageSmoothingEnabled: false, globalAlpha: 1 });
  return [pen, width, height];
}

// Between two frames: a share of the way from one list of numbers to the next.
function between(before, now, share) {
  return before && now && share < 1 ? now.map((x, i) => before[i] + share * (x - before[i])) : now;
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

const signed = (x) => x.toFixed(2).replace("-", "−");
const FADE = 120; // ms from one frame to the next, at most

class Player {
  // address: the address of the page holds the dream, and is read. code: of a dream to begin with,
  // else the agent takes so many actions: `played`. heard: gets a report whenever the player rests.
  constructor(host, page, { address = false, code = "", played = 0, heard = () => {} } = {}) {
    this.host = host;
    this.root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
    this.root.innerHTML = TEMPLATE;
    host.dataset.lmSuppressShortcuts = "true"; // keys typed here are no commands of JupyterLab
    Object.assign(this, { page, address, heard, playing: false, agentDrives: true, drivers: new Set(),
      waiting: null, held: null, then: 0, ticked: 0, frames: 0 });
    this.scores = { you: [], agent: [] };
    this.streak = 0;
    this.settings = { context: page.context, horizon: page.horizon, temperature: 1, pinned: {} };
    this.dream = new Dream(page, 1, this.settings);
    this.names = page.choices ?? Array.from({ length: this.dream.actions.count }, (_, i) => String(i));
    const arrows = { 2: ["ArrowLeft", "ArrowRight"], 3: ["ArrowLeft", "ArrowDown", "ArrowRight"] };
    this.keys = this.dream.actions.continuous // rest, then less and more of every number
      ? ["ArrowDown", "ArrowLeft", "ArrowRight", ..."12345678"]
      : arrows[this.names.length] ?? [..."1234567890qwertyuiop"];
    this.build();
    this.paint();
    this.read(address ? location.hash.slice(1) : code);
    if (!this.dream.keys.length && !address) for (let k = 0; k < played; k++) this.dream.step(this.dream.suggestion);
    this.draw();
    this.rest();
    setTimeout(() => this.test(), 50);
  }

  $(id) { return this.root.getElementById(id); }

  build() {
    const { parts } = this.dream.agent, { stoch, classes } = this.page.pack.config, $ = (id) => this.$(id);
    const make = (parent, tag, fields) => parent.appendChild(Object.assign(document.createElement(tag), fields));
    $("title").textContent = this.page.title;
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
    for (const id of ["context", "horizon"]) $(id).value = this.settings[id];
    for (const id of ["context", "horizon", "temperature", "latent", "class"]) $(id).oninput = () => this.set();
    $("player").onkeydown = (event) => this.key(event, clicks);
    $("player").onkeyup = (event) => { this.held = null; event.stopPropagation(); };
    $("player").onfocusout = () => { this.held = null; };
    $("stage").onclick = () => $("player").focus();
    let width = 0;
    new ResizeObserver(() => {
      if (width !== (width = $("player").clientWidth)) this.draw(); // the height follows from it
    }).observe($("player"));
    if (this.address) addEventListener("hashchange", () => { if (location.hash.slice(1) !== this.code()) this.read(location.hash.slice(1)); });
    const repaint = () => { this.paint(); this.draw(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    for (const node of [document.documentElement, document.body])
      new MutationObserver(repaint).observe(node, { attributes: true });
  }

  // Colours of the theme: of the page around it, where that names one, else of the system.
  paint() {
    const { jpThemeLight } = document.body.dataset, { theme } = document.documentElement.dataset;
    const named = { true: "light", false: "dark" }[jpThemeLight] ?? theme;
    this.host.style.colorScheme = ["light", "dark"].includes(named) ? named : "light dark";
    const probe = this.$("probe");
    for (const name of ["ink", "soft", "line", "real", "dream"]) {
      probe.style.color = `var(--${name})`;
      palette[name] = getComputedStyle(probe).color;
    }
  }

  key(event, clicks) {
    const { target, key } = event, letters = { " ": "play", s: "step", h: "hand", n: "new" };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    if (/INPUT|SELECT/.test(target.tagName)) return;
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
    this.rest();
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
    this.then = performance.now();
    if (this.playing) requestAnimationFrame((now) => this.run(now));
    this.draw();
    this.rest();
  }

  // Once per frame of the screen: steps that are due, and the way from the last frame to this one.
  run(now) {
    if (!this.playing || !this.host.isConnected) return;
    const pause = 1000 / this.dream.world.fps;
    if (now - this.then >= pause) {
      this.then = now - this.then > 2 * pause ? now : this.then + pause; // what was missed is missed
      this.tick();
    }
    this.frames++;
    this.drawStage(Math.min(1, (now - this.then) / Math.min(pause, FADE)));
    requestAnimationFrame((later) => this.run(later));
  }

  rest() { if (!this.playing || this.dream.over) this.heard({ ...this.dream.report(), code: this.code() }); }

  // Go on with other weights: the agent has learnt.
  learn(pack) {
    this.page = { ...this.page, pack };
    this.dream.agent.net = new Agent(pack).net;
    Object.assign(this.$("test"), { className: "", textContent: "The agent has learnt on since the self-test." });
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
    const $ = (id) => this.$(id);
    for (const id of ["context", "horizon"]) this.settings[id] = Math.max(1, Math.round(+$(id).value) || 1);
    this.settings.temperature = +$("temperature").value;
    this.settings.pinned = +$("latent").value < 0 ? {} : { [$("latent").value]: +$("class").value };
    this.again(this.dream.seed, this.dream.keys);
    this.rest();
  }

  // ---- the code of a dream: seed.keys, then context, horizon, temperature, pin where they are not the usual

  code() {
    const { context, horizon, temperature, pinned } = this.settings, pin = Object.entries(pinned)[0];
    const more = [context, horizon, temperature * 10, ...(pin ?? [])].map(Math.round), { page } = this;
    const usual = context === page.context && horizon === page.horizon && temperature === 1 && !pin;
    return [this.dream.seed, this.dream.keys.join(""), ...(usual ? [] : more)].join(".");
  }

  read(code) {
    const [seed, keys = "", context, horizon, tenths, latent, klass] = code.split(".");
    const $ = (id) => this.$(id);
    if (context >= 1) $("context").value = context;
    if (horizon >= 1) $("horizon").value = horizon;
    if (tenths >= 1) $("temperature").value = tenths / 10;
    if (latent >= 0) [$("latent").value, $("class").value] = [latent, klass];
    this.dream.begin(Math.max(1, parseInt(seed) % 999983 || this.page.seed), this.settings);
    this.dream.keys = this.dream.actions.valid(keys).slice(0, 999);
    this.set();
  }

  // ---- what is shown

  log(text) { this.$("log").textContent = text; }

  draw() {
    const { dream, page } = this, frame = dream.film.at(-1), { stoch, classes } = page.pack.config;
    const $ = (id) => this.$(id);
    const [verdict, reason, parted] = dream.verdict(), t = dream.keys.length;
    $("player").classList.toggle("shut", frame.shut);
    this.drawStage(this.playing && dream.keys.length ? 0 : 1);
    for (const { part, lines } of this.views) if (lines) this.drawNumbers(part, lines);
    $("eyes").textContent = frame.shut ? "the dream, eyes closed" : "the model, eyes open";
    $("verdict").textContent = parted === undefined ? verdict : `${verdict}, parted at frame ${parted}`;
    $("verdict").className = verdict;
    $("reason").textContent = reason;
    const mean = (list) => (list.length ? list.reduce((a, b) => a + b) / list.length : NaN);
    const score = (list) => (list.length ? `${signed(mean(list))} (${list.length})` : "–");
    const facts = { frame: t, world: signed(dream.real), dreamt: signed(dream.dreamt),
      you: score(this.scores.you), agent: score(this.scores.agent), streak: this.streak };
    for (const [id, value] of Object.entries(facts)) $(id).textContent = value;
    $("play").textContent = this.playing ? "pause" : "play";
    $("hand").textContent = this.agentDrives ? "agent plays" : "you play";
    $("heat").textContent = this.settings.temperature.toFixed(1);
    drawHeat($("h"), frame.h);
    drawBars($("z"), Array(stoch).fill(classes), [[frame.prior, "dream"], [frame.posterior, "real"]], 52);
    drawSurprise($("surprise"), dream.film);
    if (this.address && location.hash.slice(1) !== this.code() && !this.playing) history.replaceState(null, "", "#" + this.code());
  }

  // The newest frame of the world and of the model, or what lies between it and the one before.
  drawStage(share) {
    const { film } = this.dream, frame = film.at(-1), before = film.at(-2);
    const soft = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : share;
    for (const { part, canvases } of this.views) {
      for (const [side, canvas] of Object.entries(canvases)) {
        const values = between(before?.[side]?.[part.name], frame[side]?.[part.name], soft);
        this.drawPart(part, canvas, values, side, side === "dream" && frame.shut ? "dream" : "real");
      }
    }
  }

  drawPart({ name, kind, shape, sizes }, canvas, values, side, ink) {
    const whose = side === "real" ? "the real world" : "the model";
    canvas.setAttribute("aria-label", `${name || "observation"} of ${whose}, frame ${this.dream.keys.length}`);
    if (this.page.world === "cartpole") drawCart(canvas, values, ink);
    else if (kind === "image") drawImage(canvas, values, shape, side === "real" ? 1 : 255);
    else {
      const hot = side === "real" ? values && oneHot(values.map(Math.round), sizes) : values;
      let at = 0;
      drawBars(canvas, sizes, [[hot && sizes.map((k) => hot.slice(at, (at += k))), ink]], 40);
    }
  }

  drawNumbers({ name, shape }, canvas) {
    canvas.setAttribute("aria-label", `${name || "observation"} over time: the world's numbers, and the dream's`);
    const words = this.page.world === "cartpole" && ["position", "speed", "angle", "turning"];
    drawLines(canvas, this.dream.film, name, shape.reduce((a, b) => a * b, 1), words || null);
  }

  test() {
    const { worst, where } = selfTest(this.page.pack, this.page.reference);
    const good = worst <= (this.page.pack.halves ? 2e-3 : 1e-5);
    const note = this.$("test");
    note.className = good ? "good" : "bad";
    note.textContent = good
      ? `Self-test: this page computes what PyTorch computes (largest difference ${worst.toExponential(0)}).`
      : `Self-test failed: ${where} differs by ${worst.toExponential(1)}.`;
  }
}

// Put a player into an element; returns it. Images of a recording are bytes as text, and its actions
// become keys.
function mount(host, page, options) {
  for (const row of page.rows ?? []) {
    row.key = new Actions(page.pack.action).key(Float32Array.from(row.action));
    for (const [name, seen] of Object.entries(row.obs)) {
      if (typeof seen === "string") row.obs[name] = Uint8Array.from(atob(seen), (c) => c.charCodeAt(0));
    }
  }
  return new Player(host, page, options);
}
