// What is seen: the voxels of a frame, the ego and its path, and the agents' boxes.
// Everything stands in the ego frame of the shown moment: x ahead, y left, z up, metres.
"use strict";

const EGO = { size: [4.6, 1.9, 1.5], colour: [255, 96, 40], cabin: [255, 226, 205], path: [255, 150, 40] };

/** A box's five visible faces as positions and colours; the roof may be narrower. */
function boxFaces(low, high, rgb, taper, out) {
  const mid = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  const point = (x, y, z) => {
    const narrow = z ? taper : 1;
    const at = [x ? high[0] : low[0], y ? high[1] : low[1]];
    return [mid[0] + narrow * (at[0] - mid[0]), mid[1] + narrow * (at[1] - mid[1]), z ? high[2] : low[2]];
  };
  const sides = [
    [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1], 1], [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1], 0.88],
    [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1], 0.8], [[1, 1, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1], 0.92],
    [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], 0.72],
  ];
  for (const side of sides) {
    for (const k of [0, 1, 2, 0, 2, 3]) {
      out.position.push(...point(...side[k]));
      out.colour.push(...rgb.map((v) => (v / 255) * side[4]));
    }
  }
}

function coloured(out) {
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.Float32BufferAttribute(out.position, 3));
  geometry.setAttribute("color", new THREE.Float32BufferAttribute(out.colour, 3));
  return geometry;
}

class Stage {
  constructor(canvas, page) {
    THREE.ColorManagement.enabled = false; // colours are baked: what is computed is what is shown
    const context = canvas.getContext("webgl2", { antialias: !Stage.software(), powerPreference: "high-performance" });
    if (!context) throw new Error("no WebGL 2");
    this.renderer = new THREE.WebGLRenderer({ canvas, context });
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
    this.canvas = canvas;
    this.page = page;
    this.world = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(FOV_DEG, 1, 0.2, 2000);
    this.camera.up.set(0, 0, 1);
    this.shown = { boxes: true, path: true };
    this.ratio = Stage.software() ? 1 : Math.min(2, window.devicePixelRatio || 1);
    const basic = { vertexColors: true, side: THREE.DoubleSide };
    this.voxels = this.add(new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial({ vertexColors: true })));
    this.ego = this.add(new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial(basic)));
    this.path = this.add(new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial(basic)));
    this.boxes = this.add(new THREE.LineSegments(new THREE.BufferGeometry(), new THREE.LineBasicMaterial({ vertexColors: true })));
    this.plinth = this.add(new THREE.Mesh(new THREE.BufferGeometry(), new THREE.MeshBasicMaterial(basic)));
    this.rig = new Rig();
  }

  add(object) {
    object.frustumCulled = false;
    object.matrixAutoUpdate = false;
    this.world.add(object);
    return object;
  }

  /** Whether a processor draws: then fewer pixels are drawn while things move, more when they rest. */
  static software() {
    if (Stage.renderer === undefined) {
      const gl = document.createElement("canvas").getContext("webgl2");
      const info = gl && gl.getExtension("WEBGL_debug_renderer_info");
      Stage.renderer = gl ? String(gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "";
      gl?.getExtension("WEBGL_lose_context")?.loseContext();
    }
    return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(Stage.renderer);
  }

  open(scene) {
    this.scene = scene;
    this.extent = scene.shape.map((n, axis) => n * scene.voxel_m[axis]);
    this.reach = Math.max(this.extent[0], this.extent[1]);
    this.middle = [0, 1].map((axis) => scene.origin_m[axis] + this.extent[axis] / 2);
    const step = scene.voxel_m.map((v) => v / fineness(scene.shape));
    this.voxels.matrix.makeScale(...step).setPosition(...scene.origin_m.map((v, axis) => v - SHIFT * step[axis]));
    this.index = new THREE.BufferAttribute(new Uint32Array(0), 1);
    this.theme();
    this.rig.open(this);
  }

  /** Colours of the page's style, read anew when it turns dark or light. */
  theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => new THREE.Color(style.getPropertyValue(name).trim());
    this.dark = document.documentElement.dataset.theme === "dark";
    this.renderer.setClearColor(colour("--stage"), 1);
    if (!this.scene) return;
    const { origin_m: low } = this.scene;
    const [rim, thick] = [0.012 * this.reach, 0.02 * this.reach];
    const out = { position: [], colour: [] };
    const rgb = colour("--plinth").toArray().map((v) => v * 255);
    const high = low.map((v, axis) => v + this.extent[axis]);
    boxFaces([low[0] - rim, low[1] - rim, low[2] - thick], [high[0] + rim, high[1] + rim, low[2] - 0.01], rgb, 1, out);
    this.replace(this.plinth, coloured(out));
  }

  replace(object, geometry) {
    object.geometry.dispose();
    object.geometry = geometry;
  }

  /** A geometry of what the worker built. All share one index, which grows. */
  geometry(made) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(made.position, 4));
    geometry.setAttribute("color", new THREE.BufferAttribute(made.colour, 4, true));
    if (this.index.count < made.quads * 6) {
      const index = new Uint32Array(Math.ceil(made.quads * 1.5) * 6);
      for (let i = 0, v = 0; i < index.length; i += 6, v += 4) index.set([v, v + 1, v + 2, v, v + 2, v + 3], i);
      this.index = new THREE.BufferAttribute(index, 1);
    }
    geometry.setIndex(this.index);
    geometry.setDrawRange(0, made.quads * 6);
    return geometry;
  }

  static drop(geometry) {
    geometry.setIndex(null); // others still use it
    geometry.dispose();
  }

  show(frame) {
    this.frame = frame;
    this.voxels.geometry = frame.geometry;
    this.drawEgo();
    this.drawPath();
    this.drawBoxes();
  }

  groundAt(x, y) {
    const { shape, voxel_m: size, origin_m: low } = this.scene;
    const [i, j] = [x, y].map((v, axis) => Math.min(shape[axis] - 1, Math.max(0, Math.floor((v - low[axis]) / size[axis]))));
    return low[2] + this.frame.ground[i * shape[1] + j] * size[2];
  }

  inside(x, y, rim = 0) {
    return [x, y].every((v, axis) => Math.abs(v - this.middle[axis]) < this.extent[axis] / 2 - rim);
  }

  drawEgo() {
    const out = { position: [], colour: [] };
    const [length, width, height] = EGO.size;
    const z = this.groundAt(0, 0) + 0.05;
    const waist = z + 0.55 * height;
    boxFaces([-length / 2, -width / 2, z + 0.2], [length / 2, width / 2, waist], EGO.colour, 0.97, out);
    boxFaces([-length * 0.4, -width * 0.46, waist], [length * 0.22, width * 0.46, z + height], EGO.cabin, 0.8, out);
    this.replace(this.ego, coloured(out));
  }

  /** A ribbon along the whole way, pale where the ego has been. */
  drawPath() {
    const out = { position: [], colour: [] };
    const points = this.scene.pathFrom(this.frame.index);
    const ahead = EGO.path.map((v) => v / 255);
    const behind = ahead.map((v) => 0.45 * v + (this.dark ? 0.18 : 0.5));
    for (let k = 0; k + 1 < points.length; k++) {
      const [a, b] = [points[k], points[k + 1]];
      const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
      const length = Math.hypot(dx, dy);
      if (length < 1e-3 || !this.inside(...a, 0.3) || !this.inside(...b, 0.3)) continue;
      const [nx, ny] = [(-dy / length) * 0.32, (dx / length) * 0.32];
      const rim = [a, b].map(([x, y]) => [x, y, this.groundAt(x, y) + 0.07]);
      const corner = (p, side) => [p[0] + side * nx, p[1] + side * ny, p[2]];
      const quad = [corner(rim[0], 1), corner(rim[0], -1), corner(rim[1], -1), corner(rim[1], 1)];
      for (const i of [0, 1, 2, 0, 2, 3]) {
        out.position.push(...quad[i]);
        out.colour.push(...(a[2] >= this.frame.index ? ahead : behind));
      }
    }
    this.replace(this.path, coloured(out));
  }

  drawBoxes() {
    const out = { position: [], colour: [] };
    for (const agent of this.scene.agentsAt(this.frame.index)) {
      if (!this.inside(agent.x, agent.y)) continue;
      const rgb = this.page.palette[agent.class_id].map((v) => (this.dark ? 120 + 0.53 * v : 0.42 * v) / 255);
      const [c, s] = [Math.cos(agent.yaw), Math.sin(agent.yaw)];
      const [length, width, height] = agent.size.map((v, axis) => v / (axis < 2 ? 2 : 1));
      const z = this.groundAt(agent.x, agent.y) + 0.03;
      const at = (u, v, w) => [agent.x + u * c - v * s, agent.y + u * s + v * c, z + w];
      const line = (a, b) => { out.position.push(...at(...a), ...at(...b)); out.colour.push(...rgb, ...rgb); };
      const ring = [[length, width], [length, -width], [-length, -width], [-length, width]];
      ring.forEach(([u, v], k) => {
        const [p, q] = ring[(k + 1) % 4];
        for (const w of [0, height]) line([u, v, w], [p, q, w]);
        line([u, v, 0], [u, v, height]);
      });
      for (const side of [1, -1]) line([length, side * width, height], [0.15 * length, 0, height]);
    }
    this.replace(this.boxes, coloured(out));
  }

  size(ratio) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.camera.aspect = width / height;
    this.camera.fov = this.rig.name === "ego" ? 62 : FOV_DEG;
    this.camera.updateProjectionMatrix();
    if (this.drawn === `${width} ${height} ${ratio}`) return;
    this.drawn = `${width} ${height} ${ratio}`;
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
  }

  /** Fewer pixels while a processor draws too slowly, more again when there is time; told the time a drawing took. */
  spare(took_ms) {
    if (!Stage.software() || took_ms > 200) return;
    this.pace = 0.9 * (this.pace ?? 24) + 0.1 * took_ms;
    if (this.pace > 19 && this.pace < 30) return;
    this.ratio = this.pace >= 30 ? Math.max(0.6, this.ratio * 0.88) : Math.min(1, this.ratio * 1.08);
    this.pace = 24;
  }

  /** Draw; `sharp` when nothing moves. Returns whether the camera is on its way. */
  draw(sharp = false) {
    if (!this.frame) return false;
    const moving = this.rig.aim(this.camera);
    this.size(sharp && Stage.software() ? 2 : this.ratio);
    this.ego.visible = this.rig.name !== "ego";
    this.path.visible = this.shown.path;
    this.boxes.visible = this.shown.boxes;
    this.renderer.render(this.world, this.camera);
    return moving;
  }
}
