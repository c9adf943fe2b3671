// The player: what is shown when, and what hands and keys do. Begins the page.
"use strict";

const CAMERAS = { chase: "Chase", birdseye: "Bird\u2019s-eye", ego: "Ego", orbit: "Orbit" };
const RATES = [0.5, 1, 2, 4];
const AHEAD = 4; // frames made before they are due
const ICONS = {
  play: "M7 4.5v15l13-7.5z", pause: "M6 4.5h4.5v15H6zM13.500 4.5H18v15h-4.500z", first: "M5 5h3v14H5zM19 5v14L9 12z",
  back: "M15.500 5v14L6 12z", on: "M8.500 5v14l9.500-7z",
  theme: "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

class Player {
  constructor(page, stage, workerText) {
    Object.assign(this, { page, stage, index: 0, playing: false, rate: 1, instances: false, due: 0, drawn: 0, resting: 0 });
    this.store = new FrameStore(page, workerText, (made) => this.ready(made), (fault) => notice(`The scene cannot be shown: ${fault}`));
    this.legend = new Legend(page, () => this.relook());
    this.relook();
    this.buttons();
    this.hands();
    new ResizeObserver(() => this.refresh()).observe(byId("stage"));
    requestAnimationFrame((now) => this.tick(now));
  }

  async open(number) {
    this.pause();
    this.shown = null;
    this.number = number;
    notice("Opening the scene \u2026");
    const scene = new SceneData(JSON.parse(byId(`scene-${number}`).textContent));
    await scene.open();
    this.scene = scene;
    this.index = 0;
    this.stage.frame = null;
    this.stage.open(scene);
    this.store.open(scene, (frame) => this.drop(frame));
    byId("scrub").max = scene.frames - 1;
    showFigures(scene);
    showTexts(scene, this.page.scenes[number].title);
    for (const button of byId("chooser").children) button.setAttribute("aria-pressed", button.dataset.number === String(number));
    this.go(0);
  }

  /** What is drawn has changed: all frames are built anew. */
  relook() {
    const shown = this.legend.shown();
    this.look = { shown, instances: this.instances, key: `${shown.join("")}${this.instances}` };
    if (this.scene) this.go(this.index);
  }

  go(index) {
    const { frames } = this.scene;
    this.index = ((index % frames) + frames) % frames;
    byId("scrub").value = this.index;
    const ahead = this.playing ? AHEAD : 1;
    this.store.want(Array.from({ length: Math.min(ahead + 1, frames) }, (_, k) => (this.index + k) % frames), this.look);
    const frame = this.store.get(this.index, this.look);
    if (frame) this.show(frame);
  }

  ready(made) {
    if (made.index === this.index && made.look === this.look.key) this.show(made);
  }

  show(frame) {
    frame.geometry ||= this.stage.geometry(frame);
    this.shown = frame;
    notice("");
    if (!this.stage.broken) this.stage.show(frame);
    this.legend.show(frame.counts);
    this.store.trim((old) => old !== frame && this.drop(old));
    this.refresh(true);
  }

  drop(frame) {
    if (frame.geometry) Stage.drop(frame.geometry);
    frame.geometry = null;
  }

  /** Draw once more, panels too where `all` or the page's size or style has changed. */
  refresh(all = true) {
    this.dirty = true;
    this.panels ||= all;
  }

  tick(now) {
    requestAnimationFrame((then) => this.tick(then));
    if (!this.shown) return;
    if (this.playing && now >= this.due && this.shown.index === this.index) {
      const step = (this.scene.step_s * 1000) / this.rate;
      this.due = Math.max(this.due + step, now - step);
      if (this.index + 1 >= this.scene.frames && !this.loop) this.pause();
      else this.go(this.index + 1);
    }
    const sharpen = !this.dirty && this.resting && now - this.resting > 250;
    if (!this.dirty && !sharpen) return;
    if (this.panels) this.drawPanels();
    this.dirty = this.stage.draw(sharpen);
    if (!sharpen && this.resting) this.stage.spare(now - this.resting);
    this.drawn++;
    this.resting = sharpen ? 0 : now;
  }

  drawPanels() {
    this.panels = false;
    const { index, layout } = this.shown;
    showMoment(this.scene, index);
    drawTimeline(this.scene, index);
    drawLayout(this.scene, layout);
    drawTrajectory(this.scene, index);
  }

  play() {
    if (this.scene.frames < 2) return;
    if (this.index === this.scene.frames - 1) this.go(0);
    this.playing = true;
    this.due = performance.now() + 100;
    this.go(this.index);
    this.showPlaying();
  }

  pause() {
    this.playing = false;
    this.showPlaying();
  }

  step(by) {
    this.pause();
    this.go(this.index + by);
  }

  showPlaying() {
    this.playButton.replaceChildren(icon(this.playing ? "pause" : "play"));
    this.playButton.setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  button(place, name, label, press, content) {
    const made = make("button", content ? "" : label, { type: "button", title: label, "data-name": name });
    if (content) { made.append(content); made.setAttribute("aria-label", label); }
    made.addEventListener("click", press);
    byId(place).append(made);
    return made;
  }

  buttons() {
    this.button("steps", "first", "First frame (Home)", () => { this.pause(); this.go(0); }, icon("first"));
    this.button("steps", "back", "One back (\u2190)", () => this.step(-1), icon("back"));
    this.playButton = this.button("steps", "play", "Play (space)", () => this.toggle(), icon("play"));
    this.playButton.classList.add("play");
    this.button("steps", "on", "One on (\u2192)", () => this.step(1), icon("on"));
    this.rateButton = this.button("steps", "rate", "Speed (S)", () => this.faster(), document.createTextNode("1\u00d7"));
    this.rateButton.classList.add("rate");
    for (const [name, label] of Object.entries(CAMERAS)) this.button("cameras", name, label, () => this.camera(name));
    this.lookButtons = {
      instances: this.button("looks", "instances", "Instances", () => { this.instances = !this.instances; this.relook(); this.press(); }),
      boxes: this.button("looks", "boxes", "Boxes", () => this.flip("boxes")),
      path: this.button("looks", "path", "Path", () => this.flip("path")),
    };
    byId("theme").append(icon("theme"));
    byId("theme").addEventListener("click", () => this.theme());
    this.press();
  }

  press() {
    for (const button of byId("cameras").children) button.setAttribute("aria-pressed", button.dataset.name === this.stage.rig.name);
    for (const [name, button] of Object.entries(this.lookButtons)) {
      button.setAttribute("aria-pressed", name === "instances" ? this.instances : this.stage.shown[name]);
    }
    this.refresh(false);
  }

  flip(name) {
    this.stage.shown[name] = !this.stage.shown[name];
    this.press();
  }

  camera(name) {
    this.stage.rig.look(name);
    this.press();
  }

  theme() {
    const { dataset } = document.documentElement;
    dataset.theme = dataset.theme === "dark" ? "light" : "dark";
    this.stage.theme();
    if (this.shown) this.stage.show(this.shown);
    this.refresh();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  faster() {
    this.rate = RATES[(RATES.indexOf(this.rate) + 1) % RATES.length];
    this.rateButton.textContent = `${this.rate}\u00d7`;
  }

  hands() {
    byId("scrub").addEventListener("input", (event) => { this.pause(); this.go(Number(event.target.value)); });
    const keys = {
      " ": () => this.toggle(), ArrowRight: () => this.step(1), ArrowLeft: () => this.step(-1),
      Home: () => this.step(-this.index), End: () => this.step(this.scene.frames - 1 - this.index),
      i: () => this.lookButtons.instances.click(), b: () => this.flip("boxes"), p: () => this.flip("path"),
      d: () => this.theme(), s: () => this.faster(),
    };
    Object.keys(CAMERAS).forEach((name, k) => { keys[k + 1] = () => this.camera(name); });
    document.addEventListener("keydown", (event) => {
      const press = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const busy = event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && event.target.closest?.("button, label"));
      if (!press || busy || !this.scene) return;
      event.preventDefault();
      press();
    });
    const changed = () => this.press();
    gestures(byId("view"), this.stage.rig, changed);
  }
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}
