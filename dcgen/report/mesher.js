// Occupancy to a surface: the faces one can see, with light and shade baked into their corners.
// Runs in a worker and knows no page. A voxel's axes are x ahead, y left, z up, z running fastest.
"use strict";

const UNKNOWN = 255;
const AMBIENT = 0.6;
const DIFFUSE = 0.47;
const SKY = [0.05, 0.0, 0.13]; // what a face gets from the sky, by its axis
const OPENNESS = [0.62, 0.74, 0.84, 0.93, 1.0]; // by how many of the four cells at a corner are free
const SUN = [-0.45, 0.62, 0.9]; // in the world, where it stands still
const RIM = 1; // steps by which faces overlap, so that no gap shows where long ones meet short ones
const SHIFT = 4; // of all positions, which are whole numbers without a sign
const FACES = [[2, 1], [0, 1], [0, -1], [1, 1], [1, -1]]; // axis and sign; nobody sees a voxel from below

/** Steps of a position within a voxel: as many as let 16 bits hold the grid, at most 64. */
function fineness(shape) {
  return Math.max(2, Math.min(64, Math.floor(65000 / Math.max(...shape))));
}

/** Faces of the frames of one scene; `scene` has shape, voxel_m, palette, surfaces, movable and tall. */
class Mesher {
  constructor(scene) {
    const [nx, ny, nz] = scene.shape;
    this.scene = scene;
    this.fine = fineness(scene.shape);
    this.stride = [(ny + 2) * (nz + 2), nz + 2, 1];
    this.solid = new Uint8Array((nx + 2) * (ny + 2) * (nz + 2)); // class of each voxel, 0 where one sees through
    this.sun = new Uint8Array(this.solid.length);
    this.owner = new Uint16Array(this.solid.length);
    this.room = 1 << 14; // faces there is room for
    this.reserve();
  }

  reserve() {
    const grown = (old, made) => (old ? (made.set(old), made) : made);
    this.position = grown(this.position, new Uint16Array(this.room * 16));
    this.colour = grown(this.colour, new Uint8Array(this.room * 16));
  }

  /** One frame: `labels` and, a number for each voxel of a movable class, `owners`; `look` says what is drawn. */
  build(labels, owners, yaw, look) {
    const counts = this.fill(labels, owners, look);
    const sun = this.sunOf(yaw);
    this.shine(sun);
    this.paint(look.instances);
    this.quads = 0;
    for (const [axis, sign] of FACES) this.side(axis, sign, Math.max(0, sign * sun[axis]), look);
    const ends = this.quads * 16;
    return {
      quads: this.quads, counts, ground: this.ground(labels),
      position: this.position.slice(0, ends), colour: this.colour.slice(0, ends),
    };
  }

  /** Puts the classes that are shown into a box with a free border; returns how many voxels there are of each. */
  fill(labels, owners, look) {
    const [nx, ny, nz] = this.scene.shape;
    const { movable, palette } = this.scene;
    const counts = new Uint32Array(palette.length);
    const { solid, owner } = this;
    let at = 0;
    let mover = 0;
    for (let x = 1; x <= nx; x++) {
      for (let y = 1; y <= ny; y++) {
        let to = x * this.stride[0] + y * this.stride[1] + 1;
        for (let z = 0; z < nz; z++, at++, to++) {
          const label = labels[at];
          if (label === UNKNOWN) { solid[to] = 0; continue; }
          counts[label]++;
          solid[to] = look.shown[label] ? label : 0;
          owner[to] = owners && movable[label] ? owners[mover++] : 0;
        }
      }
    }
    return counts;
  }

  sunOf(yaw) {
    const [c, s] = [Math.cos(yaw), Math.sin(yaw)];
    const sun = [c * SUN[0] + s * SUN[1], c * SUN[1] - s * SUN[0], SUN[2]];
    const length = Math.hypot(...sun);
    return sun.map((v) => v / length);
  }

  /** How much sun reaches each cell: what reaches the four cells a layer above, where its rays come from. */
  shine(sun) {
    const { shape, voxel_m: size } = this.scene;
    const [, , nz] = shape;
    const [sx, sy] = this.stride;
    const step = [0, 1].map((axis) => (sun[axis] / sun[2]) * (size[2] / size[axis]));
    const whole = step.map(Math.floor);
    const part = step.map((v, axis) => v - whole[axis]);
    const weights = [(1 - part[0]) * (1 - part[1]), (1 - part[0]) * part[1], part[0] * (1 - part[1]), part[0] * part[1]];
    const { solid, sun: lit } = this;
    const [wx, wy] = [shape[0] + 2, shape[1] + 2];
    const corners = [0, sy, sx, sx + sy];
    lit.fill(255);
    for (let z = nz; z >= 1; z--) {
      for (let x = 0; x < wx; x++) {
        for (let y = 0; y < wy; y++) {
          const [u, v] = [x + whole[0], y + whole[1]];
          if (u < 0 || v < 0 || u + 1 >= wx || v + 1 >= wy) continue; // rays from outside are not stopped
          const from = u * sx + v * sy + z + 1;
          let light = 0;
          for (let k = 0; k < 4; k++) {
            const cell = from + corners[k];
            if (solid[cell] === 0) light += weights[k] * lit[cell];
          }
          lit[x * sx + y * sy + z] = light;
        }
      }
    }
  }

  /** The colours: of classes, or of who is who, with all that stands still in grey. */
  paint(instances) {
    this.hues = this.scene.palette.map((rgb) => {
      if (!instances) return rgb;
      const grey = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2];
      return rgb.map((v) => 0.78 * (0.82 * grey + 0.18 * v) + 40);
    });
  }

  colourAt(cell, z, look) {
    const label = this.solid[cell];
    if (look.instances && this.owner[cell]) return instanceColour(this.owner[cell]);
    const light = this.scene.tall[label] ? 0.87 + 0.2 * ((z - 1) / Math.max(1, this.scene.shape[2] - 1)) : 1;
    return this.hues[label].map((v) => v * light);
  }

  /** All faces that look along `sign` of `axis`; even ones that touch along one row become one. */
  side(axis, sign, facing, look) {
    const { solid, stride } = this;
    const [u, v] = [axis === 1 ? 0 : 1, axis === 2 ? 0 : 2]; // a row runs along u: heights are tinted
    const [n, du, dv] = [sign * stride[axis], stride[u], stride[v]];
    const base = AMBIENT + SKY[axis] * (sign > 0 ? 1 : 0.6);
    const size = this.scene.shape;
    const corners = new Float64Array(4);
    for (let w = 1; w <= size[axis]; w++) {
      for (let j = 1; j <= size[v]; j++) {
        let run = null; // the even face before, where this one could go on
        for (let i = 1; i <= size[u]; i++) {
          const cell = w * stride[axis] + j * dv + i * du;
          if (!solid[cell] || solid[cell + n]) { run = null; continue; }
          this.shade(cell + n, du, dv, base, DIFFUSE * facing, corners);
          const z = axis === 2 ? w : j;
          const rgb = this.colourAt(cell, z, look);
          const even = corners[0] === corners[1] && corners[1] === corners[2] && corners[2] === corners[3];
          const key = even ? Math.round(corners[0] * 255) * 65536 * 256 + (rgb[0] << 16 | rgb[1] << 8 | rgb[2]) : -1;
          if (even && run && run.key === key) { this.stretch(run, u, i); continue; }
          const place = [0, 0, 0];
          place[axis] = w - 1; place[u] = i - 1; place[v] = j - 1;
          const quad = this.quad(place, axis, sign, u, v, corners, rgb);
          run = even ? { key, quad, ends: quad.ends } : null;
        }
      }
    }
  }

  /** Light at a face's corners, (-,-) (+,-) (+,+) (-,+) along u and v: of the four cells before the face that meet. */
  shade(front, du, dv, base, diffuse, out) {
    const { solid, sun } = this;
    for (let k = 0; k < 4; k++) {
      const a = k === 1 || k === 2 ? du : -du;
      const b = k >= 2 ? dv : -dv;
      const [left, right] = [solid[front + a] === 0, solid[front + b] === 0];
      const across = (left || right) && solid[front + a + b] === 0;
      let free = 1;
      let light = sun[front];
      if (left) { free++; light += sun[front + a]; }
      if (right) { free++; light += sun[front + b]; }
      if (across) { free++; light += sun[front + a + b]; }
      const shine = Math.round((light / free) / 17) / 15; // 16 steps, so that even faces are alike
      out[k] = (base + diffuse * (0.1 + 0.9 * shine)) * OPENNESS[free];
    }
  }

  quad(place, axis, sign, u, v, light, rgb) {
    if (this.quads === this.room) { this.room *= 2; this.reserve(); }
    const at = this.quads++ * 16;
    const outward = (sign > 0) === ((u + 1) % 3 === v); // counter-clockwise as seen from outside
    const flip = light[0] + light[2] < light[1] + light[3] ? 1 : 0; // the diagonal that keeps the shade even
    const ends = [];
    for (let k = 0; k < 4; k++) {
      const corner = outward ? (k + flip) % 4 : (4 - k + flip) % 4;
      const to = at + 4 * k;
      const far = corner === 1 || corner === 2;
      for (let c = 0; c < 3; c++) this.position[to + c] = place[c] * this.fine + SHIFT;
      if (sign > 0) this.position[to + axis] += this.fine;
      this.position[to + u] += far ? this.fine + RIM : -RIM;
      this.position[to + v] += corner >= 2 ? this.fine + RIM : -RIM;
      if (far) ends.push(to + u);
      for (let c = 0; c < 3; c++) this.colour[to + c] = Math.min(255, rgb[c] * light[corner]);
      this.colour[to + 3] = 255;
    }
    return { ends };
  }

  stretch(run, u, until) {
    for (const end of run.ends) this.position[end] = until * this.fine + SHIFT + RIM;
  }

  /** Height in voxels of the topmost road, ground or sidewalk of each column; the usual one where there is none. */
  ground(labels) {
    const [nx, ny, nz] = this.scene.shape;
    const top = new Uint8Array(nx * ny);
    const tally = new Uint32Array(nz + 1);
    for (let column = 0; column < top.length; column++) {
      for (let z = nz - 1; z >= 0 && !top[column]; z--) {
        if (this.scene.surfaces[labels[column * nz + z]]) top[column] = z + 1;
      }
      if (top[column]) tally[top[column]]++;
    }
    const usual = Math.max(1, tally.indexOf(Math.max(...tally)));
    return top.map((height) => height || usual);
  }
}

/** A colour that tells a number from its neighbours: hues a golden angle apart. */
function instanceColour(number) {
  const hue = ((number * 0.61803398875) % 1) * 6;
  const lift = 0.14 * ((number * 7) % 3);
  return [5, 3, 1].map((shift) => {
    const k = (shift + hue) % 6;
    return 255 * (0.93 - 0.76 * Math.max(0, Math.min(k, 4 - k, 1)) * (1 - lift));
  });
}

/** The bytes of a base64 text that holds a zlib stream. */
async function inflate(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Opens a scene's blocks as they are asked for and builds its frames. */
class FrameMaker {
  constructor(scene) {
    this.scene = scene;
    this.mesher = new Mesher(scene);
    this.opened = new Map();
  }

  open(block) {
    if (!this.opened.has(block)) this.opened.set(block, inflate(this.scene.blocks[block].data));
    return this.opened.get(block);
  }

  async frame(index, look) {
    const block = this.scene.blocks.findIndex(({ stop }) => index < stop);
    const { start, stop, instances } = this.scene.blocks[block];
    const whole = await this.open(block);
    const [nx, ny, nz] = this.scene.shape;
    const [voxels, cells] = [nx * ny * nz, nx * ny];
    const at = index - start;
    const labels = new Uint8Array(whole, at * voxels, voxels);
    const layout = new Uint8Array(whole, (stop - start) * voxels + at * cells, cells);
    const from = (stop - start) * (voxels + cells);
    const [first, last] = [instances[at], instances[at + 1]];
    const owners = last > first ? new Uint16Array(whole.slice(from + 2 * first, from + 2 * last)) : null;
    const started = performance.now();
    const built = this.mesher.build(labels, owners, this.scene.yaw[index], look);
    return { ...built, index, look: look.key, generation: look.generation, layout: layout.slice(), took_ms: performance.now() - started };
  }
}

/** What the worker does: {scene} opens one, {index, look} asks for a frame of it. */
function serve(post) {
  let maker = null;
  return async ({ data }) => {
    try {
      if (data.scene) { maker = new FrameMaker(data.scene); return; }
      const made = await maker.frame(data.index, data.look);
      post(made, [made.position.buffer, made.colour.buffer, made.ground.buffer, made.layout.buffer]);
    } catch (fault) {
      post({ fault: String(fault && fault.message || fault) }, []);
    }
  };
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  self.onmessage = serve((message, handed) => self.postMessage(message, handed));
}
