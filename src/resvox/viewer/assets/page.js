/* The page of `resvox view`: NiiVue draws the scan and the label maps, this script connects the controls to it. */
"use strict";

const scene = JSON.parse(document.getElementById("scene").textContent);
const element = (id) => document.getElementById(id);

/** A preset or slider sets the intensities that are drawn black (low) and white (high). */
const state = {
  view: scene.spatial_dims === 2 ? "axial" : "planes",
  window: scene.windows[0].name,
  low: scene.windows[0].low,
  high: scene.windows[0].high,
  mode: "prediction",
  opacity: 0.5,
  outline: false,
  hidden: new Set(),
  noted: 0,
};
let nv = null;
const images = new Map(); // role of a label map -> NVImage
const voxels = new Map(); // role of a label map -> its voxels, hidden labels included

const VIEWS = [
  { name: "planes", title: "Planes + 3D", key: "1" },
  { name: "axial", title: "Axial", key: "2" },
  { name: "coronal", title: "Coronal", key: "3" },
  { name: "sagittal", title: "Sagittal", key: "4" },
  { name: "render", title: "3D", key: "5" },
];
const DISAGREEMENT = [
  { index: 1, name: "only in the prediction", colour: "#e69f00" },
  { index: 2, name: "only in the reference", colour: "#56b4e9" },
  { index: 3, name: "another label", colour: "#cc79a7" },
];
const KEYS = [
  ["1 to 5", "planes, axial, coronal, sagittal, 3D"],
  ["W", "next window preset"],
  ["L", "labels on or off"],
  ["O", "outline or filled"],
  ["+ and -", "opacity of the labels"],
  ["C", "prediction, reference, both, disagreement"],
  ["N and P", "next and previous label"],
  ["Wheel", "through the slices"],
];

function parts(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

/** NiiVue's lookup table of a label map: one colour per index. */
function colourTable(layer, white) {
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  for (const label of layer.labels) {
    const [red, green, blue] = white ? [255, 255, 255] : parts(label.colour);
    table.R.push(red); table.G.push(green); table.B.push(blue);
    table.A.push(255);
    table.I.push(label.index); table.labels.push(label.name);
  }
  return table;
}

/** Which label maps a mode of comparison draws, and whether as white outlines. */
function shown(role) {
  if (!scene.layers.some((layer) => layer.role === "reference")) return role === "prediction";
  return { prediction: ["prediction"], reference: ["reference"], both: ["prediction", "reference"],
    disagreement: ["disagreement"] }[state.mode].includes(role);
}

/** The voxels of a label map without the labels that are hidden: NiiVue outlines whatever is in the data. */
function visible(layer) {
  const whole = voxels.get(layer.role);
  const hidden = new Set(layer.labels.filter((label) => state.hidden.has(label.name)).map((label) => label.index));
  if (!shown(layer.role)) return new whole.constructor(whole.length);
  return hidden.size ? whole.map((index) => (hidden.has(index) ? 0 : index)) : whole;
}

function drawLabels() {
  const both = state.mode === "both";
  const outline = (state.outline || both) && state.opacity > 0;
  for (const layer of scene.layers) {
    const image = images.get(layer.role);
    image.img = visible(layer);
    image.setColormapLabel(colourTable(layer, both && layer.role === "reference"));
    // An outline is opaque whatever the opacity of the inside; 0 would skip the label map altogether.
    nv.volumes[nv.volumes.indexOf(image)].opacity = outline ? 0.001 : state.opacity;
  }
  nv.opts.atlasOutline = outline ? 1 : 0;
  nv.updateGLVolume();
  nv.drawScene();
}

function setWindow(name, low, high) {
  state.window = name; state.low = low; state.high = Math.max(high, low + scene.step);
  nv.volumes[0].cal_min = state.low;
  nv.volumes[0].cal_max = state.high;
  nv.updateGLVolume();
  showControls();
}

function setView(name) {
  state.view = name;
  const types = { planes: nv.sliceTypeMultiplanar, axial: nv.sliceTypeAxial, coronal: nv.sliceTypeCoronal,
    sagittal: nv.sliceTypeSagittal, render: nv.sliceTypeRender };
  nv.setSliceType(types[name]);
  showControls();
}

function setMode(mode) { state.mode = mode; drawLabels(); showControls(); }

function buttons(parent, items, chosen, act) {
  parent.replaceChildren(...items.map((item) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = item.title || item.name;
    button.setAttribute("aria-pressed", String(item.name === chosen));
    button.addEventListener("click", () => { act(item); element("canvas").focus(); });
    return button;
  }));
}

function modes() {
  return ["prediction", "reference", "both", "disagreement"].map((name) => ({
    name, title: { prediction: "Prediction", reference: "Reference", both: "Both outlines", disagreement: "Disagreement" }[name],
  }));
}

function swatch(colour) {
  const spot = document.createElement("span");
  spot.className = "swatch";
  spot.style.background = colour;
  return spot;
}

function showControls() {
  buttons(element("views"), scene.spatial_dims === 2 ? VIEWS.slice(1, 2) : VIEWS, state.view, (item) => setView(item.name));
  buttons(element("windows"), scene.windows, state.window, (item) => setWindow(item.name, item.low, item.high));
  buttons(element("compare"), modes(), state.mode, (item) => setMode(item.name));
  const digits = scene.step < 0.1 ? 3 : 0;
  const level = (state.low + state.high) / 2, width = state.high - state.low;
  element("level").value = level; element("level-value").textContent = level.toFixed(digits);
  element("width").value = width; element("width-value").textContent = width.toFixed(digits);
  const legend = element("compare-legend");
  legend.replaceChildren();
  if (state.mode === "disagreement") {
    for (const each of DISAGREEMENT) legend.append(swatch(each.colour), each.name);
  } else if (state.mode === "both") {
    legend.textContent = "Prediction in its colours, reference in white.";
  }
  element("outline").checked = state.outline;
  element("opacity").value = state.opacity;
}

function listed() {
  const wanted = element("filter").value.trim().toLowerCase();
  const layer = scene.layers.find((each) => each.role === "prediction");
  return layer ? layer.labels.filter((label) => label.name.toLowerCase().includes(wanted)) : [];
}

function showLabels() {
  const rows = listed().map((label) => {
    const row = document.createElement("tr");
    row.dataset.name = label.name;
    const choice = document.createElement("input");
    choice.type = "checkbox";
    choice.checked = !state.hidden.has(label.name);
    choice.setAttribute("aria-label", `Show ${label.name}`);
    choice.addEventListener("change", () => {
      if (choice.checked) state.hidden.delete(label.name); else state.hidden.add(label.name);
      drawLabels();
    });
    const go = document.createElement("button");
    go.type = "button";
    go.textContent = label.name;
    go.title = label.centre ? "Go to this label" : "This label is empty";
    go.disabled = !label.centre;
    go.addEventListener("click", () => goTo(label));
    const cells = [document.createElement("td"), document.createElement("td"), document.createElement("td")];
    cells[0].append(choice, " ", swatch(label.colour));
    cells[1].append(go);
    cells[2].textContent = label.millilitres === null ? "" : label.millilitres >= 100 ? label.millilitres.toFixed(0) : label.millilitres.toFixed(2);
    row.append(...cells);
    return row;
  });
  element("labels").tBodies[0].replaceChildren(...rows);
}

function goTo(label) {
  if (!label.centre) return;
  nv.scene.crosshairPos = nv.mm2frac(label.centre);
  nv.createOnLocationChange();
  nv.drawScene();
}

function nextLabel(direction) {
  const present = listed().filter((label) => label.centre);
  if (!present.length) return;
  const current = present.findIndex((label) => label.name === state.current);
  const next = present[(current + direction + present.length) % present.length];
  state.current = next.name;
  goTo(next);
}

/** The names of the labels under the crosshair, one per label map: [{layer, name}]. */
function labelsAt(location) {
  return scene.layers.filter((layer) => layer.role !== "disagreement").map((layer) => {
    const image = images.get(layer.role), drawn = image.img;
    const found = location.values.find((value) => value.id === image.id);
    image.img = voxels.get(layer.role); // a hidden label has its name all the same
    const index = found ? Math.round(image.getValue(...found.vox)) : 0;
    image.img = drawn;
    const label = layer.labels.find((each) => each.index === index);
    return { layer: layer.title, name: label ? label.name : "" };
  });
}

function showLocation(location) {
  const [x, y, z] = location.mm;
  const where = scene.spatial_dims === 2 ? `${Math.abs(x).toFixed(1)}, ${Math.abs(y).toFixed(1)} mm`
    : `${x < 0 ? "L" : "R"} ${Math.abs(x).toFixed(1)}  ${y < 0 ? "P" : "A"} ${Math.abs(y).toFixed(1)}  ${z < 0 ? "I" : "S"} ${Math.abs(z).toFixed(1)} mm`;
  const value = location.values.length ? location.values[0].value : 0;
  const number = Number.isInteger(value) ? String(value) : value.toPrecision(4);
  const status = element("status");
  status.replaceChildren(`${where}   value ${number}${scene.unit ? ` ${scene.unit}` : ""}   `);
  const found = labelsAt(location);
  for (const each of found) {
    if (!each.name && found.length === 1) continue;
    const name = document.createElement("span");
    name.className = "name";
    name.textContent = each.name || "no label";
    status.append(found.length > 1 ? `${each.layer}: ` : "", name, "   ");
  }
  const here = found.length ? found[0].name : "";
  for (const row of element("labels").tBodies[0].rows) row.classList.toggle("current", row.dataset.name === here);
}

function onKey(event) {
  if (event.target instanceof HTMLInputElement && event.target.type === "search") return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const view = VIEWS.find((each) => each.key === event.key);
  if (view && (scene.spatial_dims === 3 || view.name === "axial")) return setView(view.name);
  const act = {
    w: () => {
      const names = scene.windows.map((each) => each.name);
      const next = scene.windows[(names.indexOf(state.window) + 1) % names.length];
      setWindow(next.name, next.low, next.high);
    },
    l: () => { state.opacity = state.opacity > 0 ? 0 : 0.5; drawLabels(); showControls(); },
    o: () => { state.outline = !state.outline; drawLabels(); showControls(); },
    "+": () => { state.opacity = Math.min(1, state.opacity + 0.1); drawLabels(); showControls(); },
    "-": () => { state.opacity = Math.max(0, state.opacity - 0.1); drawLabels(); showControls(); },
    c: () => {
      if (element("compare-section").hidden) return;
      const names = modes().map((each) => each.name);
      setMode(names[(names.indexOf(state.mode) + 1) % names.length]);
    },
    n: () => nextLabel(1),
    p: () => nextLabel(-1),
  }[event.key === "=" ? "+" : event.key.toLowerCase()];
  if (act) { act(); event.preventDefault(); event.stopPropagation(); }
}

function connect() {
  for (const text of scene.notes) {
    const note = document.createElement("p");
    note.textContent = text;
    element("notes").append(note);
  }
  for (const [key, what] of KEYS) {
    const term = document.createElement("dt"), meaning = document.createElement("dd");
    term.textContent = key; meaning.textContent = what;
    element("keys").append(term, meaning);
  }
  const reach = scene.range[1] - scene.range[0];
  Object.assign(element("level"), { min: scene.range[0], max: scene.range[1] });
  Object.assign(element("width"), { min: scene.step, max: Math.max(reach, scene.step) });
  const slide = () => {
    const level = Number(element("level").value), width = Number(element("width").value);
    setWindow("", level - width / 2, level + width / 2);
  };
  element("level").addEventListener("input", slide);
  element("width").addEventListener("input", slide);
  element("opacity").addEventListener("input", (event) => { state.opacity = Number(event.target.value); drawLabels(); });
  element("outline").addEventListener("change", (event) => { state.outline = event.target.checked; drawLabels(); });
  element("all").addEventListener("change", (event) => {
    for (const label of listed()) { if (event.target.checked) state.hidden.delete(label.name); else state.hidden.add(label.name); }
    showLabels(); drawLabels();
  });
  element("filter").addEventListener("input", showLabels);
  document.addEventListener("keydown", onKey, true);
  element("labels-section").hidden = scene.layers.length === 0;
  element("compare-section").hidden = !scene.layers.some((layer) => layer.role === "reference");
}

async function start() {
  connect();
  nv = new niivue.Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: true, dragAndDropEnabled: false,
    crosshairColor: [0.42, 0.73, 0.93, 0.7], crosshairWidth: 0.3, crosshairWidthUnit: "percent", isRadiologicalConvention: true, logLevel: "error",
    multiplanarShowRender: scene.spatial_dims === 3 ? 1 : 0, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "" });
  await nv.attachToCanvas(element("canvas"));
  const scan = await niivue.NVImage.loadFromBase64({ base64: scene.scan, name: "scan.nii.gz", colormap: "gray",
    cal_min: state.low, cal_max: state.high });
  nv.addVolume(scan);
  for (const layer of scene.layers) {
    const image = await niivue.NVImage.loadFromBase64({ base64: layer.data, name: `${layer.role}.nii.gz`, opacity: 0 });
    image.setColormapLabel(colourTable(layer, false));
    nv.addVolume(image);
    images.set(layer.role, image);
    voxels.set(layer.role, image.img);
  }
  nv.setInterpolation(false);
  nv.onLocationChange = showLocation;
  setWindow(state.window, state.low, state.high);
  setView(state.view);
  drawLabels();
  showControls();
  showLabels();
  const first = listed().find((label) => label.centre);
  if (first) goTo(first); else nv.createOnLocationChange();
  document.documentElement.dataset.ready = "true";
}

// For scripts and tests: what is shown, and the viewer itself.
window.resvox = { scene, state, images, labelsAt, goTo, setView, setMode, setWindow, viewer: () => nv };
start().catch((error) => {
  element("problem").hidden = false;
  element("problem").textContent = `This page needs WebGL 2 (${error.message || error}). Try another browser, or turn on hardware acceleration.`;
  document.documentElement.dataset.ready = "failed";
});
