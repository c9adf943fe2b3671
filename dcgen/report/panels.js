// What stands around the stage: figures, legend, timeline, layout picture, trajectory, scenario, provenance, scores.
// Text out of a scene becomes text alone, never markup.
"use strict";

const LAYOUT_COLOURS = {
  road: [108, 98, 124], junction: [90, 80, 105], sidewalk: [205, 140, 200], crosswalk: [236, 232, 244], marking: [214, 208, 226],
  route: [255, 150, 40], vehicle: [40, 110, 230], bicycle: [20, 200, 210], pedestrian: [230, 40, 70],
};

const byId = (id) => document.getElementById(id);

/** An element with text, attributes and children. */
function make(tag, text = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (text !== "") element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A canvas's context, cleared and scaled so that one unit is one pixel of the page. */
function paper(canvas) {
  const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const draw = canvas.getContext("2d");
  draw.scale(ratio, ratio);
  return { draw, width, height };
}

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const count = (n) => n.toLocaleString("en");

function showFigures(scene) {
  const seconds = scene.time_s[scene.frames - 1];
  const mean = seconds > 0 ? (scene.distance_m / seconds) * 3.6 : 0;
  const facts = [
    ["frames", count(scene.frames), ""], ["duration", seconds.toFixed(1), "s"], ["driven", scene.distance_m.toFixed(0), "m"],
    ["mean speed", mean.toFixed(0), "km/h", "more"], ["agents", count(scene.agents.id.length), ""],
    ["voxels a frame", scene.shape.join(" \u00d7 "), "", "more"],
  ];
  byId("figures").replaceChildren(...facts.map(([name, value, unit, more]) =>
    make("div", "", more ? { class: more } : {}, make("dt", name), make("dd", value, {}, make("small", unit ? ` ${unit}` : "")))));
}

function showTexts(scene, title) {
  byId("title").textContent = title;
  byId("about").textContent = scene.about;
  document.title = title;
  byId("scenario").textContent = scene.scenario || "The file tells none.";
  const rows = Object.entries(scene.provenance).flatMap(([name, text]) => [make("span", name), make("b", text)]);
  byId("provenance").replaceChildren(...rows);
  const scores = scene.scores.flatMap(([planner, figures]) => [...(planner ? [make("h3", planner)] : []),
    ...Object.entries(figures).flatMap(([name, value]) => [make("span", name), scoreOf(value)])]);
  byId("scores").hidden = !scores.length;
  byId("scores").querySelector(".table").replaceChildren(...scores);
}

/** A number, with a bar where it is a share; or a text. */
function scoreOf(value) {
  if (typeof value !== "number") return make("b", String(value));
  const share = value > 0 && value < 1 ? [make("meter", "", { min: 0, max: 1, value })] : [];
  return make("b", "", {}, ...share, value.toLocaleString("en", { maximumFractionDigits: 4 }));
}

/** One row a class, a box to tick each; `changed` hears of it. */
class Legend {
  constructor(page, changed) {
    this.boxes = [];
    this.counts = [];
    const rows = page.class_names.map((name, kind) => {
      if (kind === 0) return null;
      const box = make("input", "", { type: "checkbox" });
      box.checked = true;
      box.addEventListener("change", changed);
      const swatch = make("i");
      swatch.style.setProperty("--own", `rgb(${page.palette[kind]})`);
      this.boxes[kind] = box;
      this.counts[kind] = make("output", "0");
      return make("li", "", {}, make("label", "", { "data-class": name }, box, swatch, make("span", name), this.counts[kind]));
    });
    byId("legend").replaceChildren(...rows.filter(Boolean));
    const presets = {
      All: () => true, None: () => false, Movers: (kind) => page.movable[kind], "No ground": (kind) => !page.surfaces[kind],
    };
    byId("presets").replaceChildren(...Object.entries(presets).map(([name, keep]) => {
      const button = make("button", name, { type: "button" });
      button.addEventListener("click", () => { this.boxes.forEach((box, kind) => { box.checked = keep(kind); }); changed(); });
      return button;
    }));
  }

  /** 1 for each class that is shown. */
  shown() {
    return Array.from(this.boxes, (box) => (box && box.checked ? 1 : 0));
  }

  show(counts) {
    this.counts.forEach((output, kind) => {
      output.textContent = count(counts[kind]);
      output.parentElement.classList.toggle("none", !counts[kind]);
    });
  }
}

/** Speed as a curve over the commands as bands, and where one is. */
function drawTimeline(scene, index) {
  const { draw, width, height } = paper(byId("curve"));
  const last = Math.max(1, scene.frames - 1);
  const at = (t) => 6 + (t / last) * (width - 12);
  const band = 7;
  for (let t = 0; t < scene.frames; t++) {
    draw.fillStyle = scene.command_colours[scene.command[t]];
    const [from, to] = [Math.max(0, at(t - 0.5)), Math.min(width, at(t + 0.5))];
    draw.fillRect(from, height - band, to - from + 0.5, band);
  }
  const top = Math.max(5, ...scene.speed_mps) * 1.1;
  const y = (v) => height - band - 3 - (v / top) * (height - band - 8);
  draw.beginPath();
  draw.moveTo(at(0), height - band - 3);
  scene.speed_mps.forEach((v, t) => draw.lineTo(at(t), y(v)));
  draw.lineTo(at(scene.frames - 1), height - band - 3);
  draw.fillStyle = ink("--tint");
  draw.fill();
  draw.beginPath();
  scene.speed_mps.forEach((v, t) => (t ? draw.lineTo(at(t), y(v)) : draw.moveTo(at(t), y(v))));
  draw.strokeStyle = ink("--soft");
  draw.lineWidth = 1.5;
  draw.stroke();
  draw.fillStyle = ink("--accent");
  draw.fillRect(at(index) - 1.25, 0, 2.5, height);
  draw.beginPath();
  draw.arc(at(index), y(scene.speed_mps[index]), 4.5, 0, 7);
  draw.fill();
}

/** The raster the model was given, ahead up; `codes` is a frame's [X, Y]. */
function drawLayout(scene, codes) {
  const [nx, ny] = scene.shape;
  const image = new ImageData(ny, nx);
  for (let i = 0; i < nx; i++) {
    for (let j = 0; j < ny; j++) {
      const code = codes[i * ny + j];
      if (code) image.data.set([...LAYOUT_COLOURS[scene.layout_codes[code - 1]], 255], 4 * ((nx - 1 - i) * ny + (ny - 1 - j)));
    }
  }
  const small = make("canvas", "", { width: ny, height: nx });
  small.getContext("2d").putImageData(image, 0, 0);
  const { draw, width, height } = paper(byId("layout"));
  const scale = Math.min(width / (ny * scene.voxel_m[1]), height / (nx * scene.voxel_m[0])); // pixels a metre
  const [w, h] = [ny * scene.voxel_m[1] * scale, nx * scene.voxel_m[0] * scale];
  const [left, top] = [(width - w) / 2, (height - h) / 2];
  draw.fillStyle = ink("--tint");
  draw.beginPath();
  draw.roundRect(left, top, w, h, 8);
  draw.fill();
  draw.clip();
  draw.imageSmoothingEnabled = false;
  draw.drawImage(small, left, top, w, h);
  const x = left + w + scene.origin_m[1] * scale;
  const y = top + h + scene.origin_m[0] * scale;
  draw.fillStyle = ink("--accent");
  draw.strokeStyle = "#fff";
  draw.beginPath();
  draw.roundRect(x - 0.95 * scale, y - 2.3 * scale, 1.9 * scale, 4.6 * scale, 0.5 * scale);
  draw.fill();
  draw.stroke();
}

/** The whole way from above as it was given, the first pose looking up; commands by colour. */
function drawTrajectory(scene, index) {
  const { draw, width, height } = paper(byId("trajectory"));
  const points = Array.from({ length: scene.frames }, (_, t) => {
    const [x, y] = scene.toEgo(0, scene.poses[12 * t + 3], scene.poses[12 * t + 7], scene.poses[12 * t + 11]);
    return [x, y];
  });
  const low = [0, 1].map((axis) => Math.min(...points.map((p) => p[axis])));
  const high = [0, 1].map((axis) => Math.max(...points.map((p) => p[axis])));
  const long = high[0] - low[0] > high[1] - low[1]; // then it lies from left to right
  const spans = long ? [high[0] - low[0], high[1] - low[1]] : [high[1] - low[1], high[0] - low[0]];
  const scale = Math.min((width - 40) / Math.max(spans[0], 8), (height - 56) / Math.max(spans[1], 8));
  const mid = [0, 1].map((axis) => (low[axis] + high[axis]) / 2);
  const at = ([x, y]) => (long ? [width / 2 + (x - mid[0]) * scale, height / 2 - 8 - (y - mid[1]) * scale]
    : [width / 2 - (y - mid[1]) * scale, height / 2 - 8 - (x - mid[0]) * scale]);
  draw.lineCap = "butt"; // pale pieces must not overlap
  draw.lineWidth = 5;
  for (let t = 0; t + 1 < points.length; t++) {
    draw.strokeStyle = scene.command_colours[scene.command[t]];
    draw.globalAlpha = t < index ? 1 : 0.38;
    draw.beginPath();
    draw.moveTo(...at(points[t]));
    draw.lineTo(...at(points[t + 1]));
    draw.stroke();
  }
  draw.globalAlpha = 1;
  draw.fillStyle = ink("--accent");
  draw.strokeStyle = ink("--card");
  draw.lineWidth = 2;
  draw.beginPath();
  draw.arc(...at(points[index]), 7, 0, 7);
  draw.fill();
  draw.stroke();
  drawScale(draw, width, height, scale);
}

function drawScale(draw, width, height, scale) {
  const metres = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].find((m) => m * scale > 56) || 1;
  draw.strokeStyle = draw.fillStyle = ink("--soft");
  draw.lineWidth = 1.5;
  draw.beginPath();
  draw.moveTo(8, height - 8);
  draw.lineTo(8 + metres * scale, height - 8);
  draw.stroke();
  draw.font = "12px system-ui, sans-serif";
  draw.fillText(`${metres} m`, 14 + metres * scale, height - 4);
}

/** The moment in words. */
function showMoment(scene, index) {
  const command = scene.commands[scene.command[index]];
  byId("command").textContent = command;
  byId("command").style.background = scene.command_colours[scene.command[index]];
  byId("now").textContent = `${(scene.speed_mps[index] * 3.6).toFixed(0)} km/h`;
  const total = scene.time_s[scene.frames - 1];
  byId("clock").replaceChildren(`${scene.time_s[index].toFixed(1)} / ${total.toFixed(1)} s`, make("small", `frame ${index + 1} of ${scene.frames}`));
  const tally = scene.commands.map((name, kind) => [name, scene.command.filter((c) => c === kind).length]).filter(([, n]) => n);
  byId("way").textContent = tally.map(([name, n]) => `${name} ${n} frame${n === 1 ? "" : "s"}`).join(", ");
}
