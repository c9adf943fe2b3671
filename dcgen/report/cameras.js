// Where one looks from: four cameras, a hand that turns, shifts and nears the view, and glides in between.
"use strict";

const FOV_DEG = 42;
const GLIDE_MS = 380;

class Rig {
  constructor() {
    this.view = { target: [0, 0, 0], azimuth: 0, elevation: 0.5, distance: 50 };
    this.name = "chase";
    this.turn = 0; // of the world below an orbiting camera
  }

  open(stage) {
    this.stage = stage;
    this.look(this.name === "free" ? "chase" : this.name, false);
  }

  /** Where each camera stands, seen from what it looks at: azimuth 0 is behind it. */
  place(name) {
    const [x, y] = this.stage.middle;
    const near = Math.min(this.stage.reach, 60);
    return {
      chase: { target: [0.13 * near, 0, 0], azimuth: 0, elevation: 0.5, distance: 0.7 * near },
      birdseye: { target: [x, y, 0], azimuth: 0, elevation: Math.PI / 2 - 1e-3, distance: 1.56 * this.stage.reach },
      ego: { target: [9, 0, this.stage.frame ? this.stage.groundAt(0, 0) + 1.2 : 1.6], azimuth: 0, elevation: 0.03, distance: 8.4 },
      orbit: { target: [x, y, -0.02 * this.stage.reach], azimuth: 0.72, elevation: 0.6, distance: 1.55 * this.stage.reach },
    }[name];
  }

  look(name, glide = true) {
    this.name = name;
    this.turn = this.stage.scene.yaw[this.stage.frame ? this.stage.frame.index : 0];
    const from = this.view;
    this.view = this.place(name);
    this.glide = glide ? { from, to: this.view, start: performance.now() } : null;
  }

  /** A hand on the view: it becomes a free orbit from where it stands. */
  free() {
    if (this.name === "free") return;
    this.turn = this.stage.scene.yaw[this.stage.frame.index];
    if (this.name === "orbit") this.view.azimuth = this.azimuth();
    if (this.name === "ego") this.view = { ...this.place("chase"), azimuth: 0 };
    this.view = { ...this.view, target: [...this.view.target] };
    this.name = "free";
    this.glide = null;
  }

  orbit(dx, dy) {
    this.free();
    this.view.azimuth -= dx * 0.0065;
    this.view.elevation = Math.min(Math.PI / 2 - 1e-3, Math.max(0.03, this.view.elevation + dy * 0.0065));
  }

  pan(dx, dy) {
    this.free();
    const step = this.view.distance * 0.0013;
    const [c, s] = [Math.cos(this.azimuth()), Math.sin(this.azimuth())];
    this.view.target[0] += step * (c * dy - s * dx);
    this.view.target[1] += step * (s * dy + c * dx);
  }

  zoom(factor) {
    this.free();
    this.view.distance = Math.min(6 * this.stage.reach, Math.max(2, this.view.distance * factor));
  }

  /** An orbiting camera stands still in the world while the ego turns. */
  azimuth() {
    const world = this.name === "orbit" || this.name === "free";
    return this.view.azimuth - (world && this.stage.frame ? this.stage.scene.yaw[this.stage.frame.index] - this.turn : 0);
  }

  /** Whether the camera is still on its way. */
  aim(camera) {
    let view = { ...this.view, azimuth: this.azimuth() };
    let moving = false;
    if (this.glide) {
      const t = Math.min(1, (performance.now() - this.glide.start) / GLIDE_MS);
      const ease = t * t * (3 - 2 * t);
      const mix = (a, b) => a + (b - a) * ease;
      const { from } = this.glide;
      view = {
        target: view.target.map((v, k) => mix(from.target[k], v)), azimuth: mix(from.azimuth, view.azimuth),
        elevation: mix(from.elevation, view.elevation), distance: mix(from.distance, view.distance),
      };
      moving = t < 1;
      if (!moving) this.glide = null;
    }
    const narrow = this.name === "ego" ? 1 : Math.max(1, 1.2 / camera.aspect);
    const distance = view.distance * narrow;
    const level = Math.cos(view.elevation) * distance;
    camera.position.set(
      view.target[0] - level * Math.cos(view.azimuth), view.target[1] - level * Math.sin(view.azimuth),
      view.target[2] + Math.sin(view.elevation) * distance,
    );
    camera.lookAt(...view.target);
    return moving;
  }
}
