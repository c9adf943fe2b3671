// A scene of the page: its tracks opened, and its frames, which a worker builds as they are wanted.
"use strict";

const MOST_CACHED_BYTES = 192 << 20; // of faces kept ready
const MOST_ASKED = 2; // frames the worker is asked for at once

class SceneData {
  constructor(record) {
    Object.assign(this, record);
    this.frames = this.time_s.length;
    this.step_s = this.frames > 1 ? (this.time_s[this.frames - 1] - this.time_s[0]) / (this.frames - 1) : 0.2;
  }

  /** Opens the poses and tracks. */
  async open() {
    if (this.poses) return;
    const numbers = new Float32Array(await inflate(this.tracks));
    this.poses = numbers.subarray(0, 12 * this.frames);
    this.moves = numbers.subarray(12 * this.frames);
  }

  /** A point of the world in the ego frame of a moment. */
  toEgo(index, x, y, z) {
    const p = this.poses.subarray(12 * index, 12 * index + 12);
    const d = [x - p[3], y - p[7], z - p[11]];
    return [0, 1, 2].map((axis) => d[0] * p[axis] + d[1] * p[4 + axis] + d[2] * p[8 + axis]);
  }

  /** [x, y, moment] of the ego's way, every 0.4 m or so, in the ego frame of a moment. */
  pathFrom(index) {
    const points = [];
    for (let t = 0; t < this.frames; t++) {
      const [x, y] = this.toEgo(index, this.poses[12 * t + 3], this.poses[12 * t + 7], this.poses[12 * t + 11]);
      const last = points[points.length - 1];
      const pieces = last ? Math.ceil(Math.hypot(x - last[0], y - last[1]) / 0.4) : 1;
      for (let k = 1; k <= pieces; k++) {
        const mix = (axis, to) => (last ? last[axis] + ((to - last[axis]) * k) / pieces : to);
        points.push([mix(0, x), mix(1, y), k === pieces ? t : t - 1]);
      }
    }
    return points;
  }

  /** The agents that are there at a moment, in its ego frame. */
  agentsAt(index) {
    const there = [];
    const { id, class_id: classes, size_m: sizes } = this.agents;
    for (let n = 0; n < id.length; n++) {
      const [x, y, z, yaw, speed] = this.moves.subarray(5 * (n * this.frames + index), 5 * (n * this.frames + index) + 5);
      if (Number.isNaN(x)) continue;
      const [ex, ey, ez] = this.toEgo(index, x, y, z);
      there.push({ id: id[n], class_id: classes[n], size: sizes[n], x: ex, y: ey, z: ez, yaw: yaw - this.yaw[index], speed });
    }
    return there;
  }
}

/** Frames as they come from the worker, kept until there are too many. */
class FrameStore {
  constructor(page, workerText, onFrame, onFault) {
    this.page = page;
    this.onFrame = onFrame;
    this.kept = new Map(); // "look index" -> frame, the longest unused first
    this.asked = new Set();
    this.wanted = [];
    this.bytes = 0;
    const hear = (message) => {
      if (message.fault) onFault(message.fault);
      else this.take(message);
    };
    this.post = FrameStore.worker(workerText, hear);
  }

  /** Something to post to: a worker, or where the browser starts none, this page itself. */
  static worker(text, hear) {
    try {
      const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => hear(data);
      return (message) => worker.postMessage(message);
    } catch {
      const answer = serve(hear);
      return (message) => setTimeout(() => answer({ data: message }));
    }
  }

  open(scene, drop) {
    this.clear(drop);
    this.scene = scene;
    const { palette, surfaces, movable, tall } = this.page;
    const { shape, voxel_m, blocks, yaw } = scene;
    this.post({ scene: { shape, voxel_m, blocks, yaw, palette, surfaces, movable, tall } });
  }

  clear(drop) {
    for (const frame of this.kept.values()) drop(frame);
    this.kept.clear();
    this.bytes = 0;
    this.wanted = [];
    this.generation = (this.generation || 0) + 1;
    this.asked.clear();
  }

  get(index, look) {
    const key = `${look.key} ${index}`;
    const frame = this.kept.get(key);
    if (frame) { this.kept.delete(key); this.kept.set(key, frame); }
    return frame;
  }

  /** Have these frames built, the first first; what was wanted before and not yet begun is forgotten. */
  want(indices, look) {
    this.look = look;
    this.wanted = indices.filter((index) => !this.kept.has(`${look.key} ${index}`) && !this.asked.has(`${look.key} ${index}`));
    this.ask();
  }

  ask() {
    while (this.asked.size < MOST_ASKED && this.wanted.length) {
      const index = this.wanted.shift();
      this.asked.add(`${this.look.key} ${index}`);
      this.post({ index, look: { ...this.look, generation: this.generation } });
    }
  }

  take(made) {
    if (made.generation !== this.generation) return; // of a scene that was left
    const key = `${made.look} ${made.index}`;
    this.asked.delete(key);
    this.kept.set(key, made);
    this.bytes += made.position.byteLength + made.colour.byteLength;
    this.onFrame(made);
    this.ask();
  }

  /** Forget the longest unused until there is room; `drop` gets each. */
  trim(drop) {
    for (const [key, frame] of this.kept) {
      if (this.bytes <= MOST_CACHED_BYTES || this.kept.size < 8) return;
      this.kept.delete(key);
      this.bytes -= frame.position.byteLength + frame.colour.byteLength;
      drop(frame);
    }
  }
}
