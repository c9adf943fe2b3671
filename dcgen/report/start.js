// Hands on the view, the list of scenes, and the beginning.
"use strict";

/** A drag turns, with shift or another button or two fingers shifts; the wheel and a pinch near. */
function gestures(canvas, rig, changed) {
  const held = new Map();
  const spread = () => {
    const [a, b] = [...held.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const before = held.size === 2 ? spread() : 0;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (held.size === 2) {
      rig.zoom(before / Math.max(1, spread()));
      rig.pan(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) rig.pan(dx, dy);
    else rig.orbit(dx, dy);
    changed();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    rig.zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.0016));
    changed();
  }, { passive: false });
}

/** A button with a picture for each scene, where there are several. */
function showChooser(page, player) {
  if (page.scenes.length < 2) return;
  byId("chooser").hidden = false;
  byId("chooser").append(...page.scenes.map(({ title, about, frames, picture }, number) => {
    const image = make("img", "", { src: `data:image/png;base64,${picture}`, alt: "" });
    const words = make("span", "", {}, make("b", title), make("small", about || `${frames} frames`));
    const button = make("button", "", { type: "button", "data-number": number }, image, words);
    button.addEventListener("click", () => player.open(number).catch(tellFault));
    return button;
  }));
}

function tellFault(fault) {
  notice(`The scene cannot be shown: ${(fault && fault.message) || fault}`);
}

/** Runs a text as a script of this page: a nonce lets it. */
function run(text, nonce) {
  const script = document.createElement("script");
  script.nonce = nonce;
  script.textContent = text;
  document.head.append(script);
}

async function begin(nonce) {
  if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.dataset.theme = "dark";
  if (typeof DecompressionStream === "undefined") {
    notice("This browser cannot open compressed data: use one of 2023 or later (Chrome 80, Firefox 113, Safari 16.4).");
    return;
  }
  const page = JSON.parse(byId("page").textContent);
  const workerText = byId("mesher").textContent;
  run(workerText, nonce);
  run(`${new TextDecoder().decode(await inflate(byId("three").textContent))}\nwindow.THREE = THREE;`, nonce);
  let stage;
  try {
    stage = new Stage(byId("view"), page);
  } catch {
    notice("This browser shows no 3D: turn WebGL 2 on in its settings, or use another one.");
    return;
  }
  byId("machine").textContent = Stage.software() ? "drawn by the processor" : "";
  const player = new Player(page, stage, workerText);
  showChooser(page, player);
  window.dcgen = player;
  await player.open(0);
}

begin(document.currentScript.nonce).catch(tellFault);
