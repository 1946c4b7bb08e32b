// Editor of a label map: a brush that paints class ids. The edited map is downloaded and never sent to the server.
"use strict";

const brush = {
  dialog: document.querySelector("#brush"),
  canvas: document.querySelector("#brush canvas"),
  width: 0,
  height: 0,
  labels: null, // Uint8Array of ids, one per pixel
  pixels: null, // ImageData of the image without labels
  colors: new Map(), // id → [red, green, blue]
  history: [], // earlier versions of labels, the oldest first
  name: "",
};
const MOST_VERSIONS = 20;
const UNLABELED = 255;
const SHOWN_AS = 0.5; // opacity of the labels

async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none"});
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: bitmap.width, height: bitmap.height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

// Opens the editor. `map` is a gray PNG of ids. `classes` lists the id, name and color of each class.
async function openBrush(image, map, classes, name) {
  const ids = await decoded(map);
  const pixels = await decoded(image).catch(() => null);
  Object.assign(brush, {width: ids.width, height: ids.height, name, history: []});
  brush.labels = new Uint8Array(ids.width * ids.height).map((_, place) => ids.data[4 * place]);
  // Browsers cannot show some formats that the app reads, such as TIFF. The labels are then shown on gray.
  const fits = pixels && pixels.width === ids.width && pixels.height === ids.height;
  brush.pixels = fits ? pixels : new ImageData(new Uint8ClampedArray(ids.data.length).fill(128), ids.width, ids.height);
  brush.colors = new Map(classes.map((entry) => [entry.id, entry.color]));
  const options = [...classes, {id: UNLABELED, name: "ignored (255)"}].map((entry) => new Option(entry.name, entry.id));
  document.querySelector("#brush-class").replaceChildren(...options);
  Object.assign(brush.canvas, {width: ids.width, height: ids.height});
  zoom();
  undoable();
  paintRegion(0, 0, ids.width, ids.height);
  brush.dialog.showModal();
}

function paintRegion(left, top, right, bottom) {
  const width = right - left;
  const shown = new ImageData(width, bottom - top);
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const from = row * brush.width + column;
      const to = 4 * ((row - top) * width + column - left);
      const color = brush.colors.get(brush.labels[from]);
      for (let channel = 0; channel < 3; channel++) {
        const value = brush.pixels.data[4 * from + channel];
        shown.data[to + channel] = color ? (1 - SHOWN_AS) * value + SHOWN_AS * color[channel] : value;
      }
      shown.data[to + 3] = 255;
    }
  }
  brush.canvas.getContext("2d").putImageData(shown, left, top);
}

// Paints the pixels whose centers are within the radius of the line between two points.
function stroke(from, to) {
  const radius = Number(document.querySelector("#brush-size input").value) / 2;
  const id = Number(document.querySelector("#brush-class").value);
  const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const right = Math.min(brush.width, Math.ceil(Math.max(from.x, to.x) + radius));
  const bottom = Math.min(brush.height, Math.ceil(Math.max(from.y, to.y) + radius));
  if (left >= right || top >= bottom) return;
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const squared = dx * dx + dy * dy;
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const [x, y] = [column + 0.5 - from.x, row + 0.5 - from.y];
      const share = squared ? Math.min(1, Math.max(0, (x * dx + y * dy) / squared)) : 0;
      if (Math.hypot(x - share * dx, y - share * dy) <= radius) brush.labels[row * brush.width + column] = id;
    }
  }
  paintRegion(left, top, right, bottom);
}

function undoable() {
  document.querySelector("#brush-undo").disabled = !brush.history.length;
}

function undo() {
  if (!brush.history.length) return;
  brush.labels = brush.history.pop();
  paintRegion(0, 0, brush.width, brush.height);
  undoable();
}

function zoom() {
  const factor = Number(document.querySelector("#brush-zoom input").value);
  brush.canvas.style.width = `${100 * factor}%`;
}

async function save() {
  const map = new ImageData(brush.width, brush.height);
  brush.labels.forEach((id, place) => map.data.set([id, id, id, 255], 4 * place));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width: brush.width, height: brush.height});
  canvas.getContext("2d").putImageData(map, 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await new Promise((done) => { canvas.toBlob(done, "image/png"); }));
  link.download = `${brush.name}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}

let last = null; // last point of the stroke that is being drawn

function point(event) {
  const box = brush.canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * brush.width) / box.width,
    y: ((event.clientY - box.top) * brush.height) / box.height,
  };
}

brush.canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  brush.canvas.setPointerCapture(event.pointerId);
  brush.history.push(brush.labels.slice());
  if (brush.history.length > MOST_VERSIONS) brush.history.shift();
  undoable();
  last = point(event);
  stroke(last, last);
});
brush.canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const next = point(event);
  stroke(last, next);
  last = next;
});
for (const name of ["pointerup", "pointercancel"]) brush.canvas.addEventListener(name, () => { last = null; });
document.querySelector("#brush-undo").addEventListener("click", undo);
document.querySelector("#brush-save").addEventListener("click", save);
document.querySelector("#brush-close").addEventListener("click", () => {
  if (!brush.history.length || confirm("Close without the painted labels? Download them first to keep them.")) brush.dialog.close();
});
brush.dialog.addEventListener("cancel", (event) => { // the Escape key
  if (brush.history.length) event.preventDefault();
});
document.querySelector("#brush-zoom input").addEventListener("input", zoom);
brush.dialog.addEventListener("keydown", (event) => {
  const size = document.querySelector("#brush-size input");
  if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
  else if (event.key === "[") size.stepDown();
  else if (event.key === "]") size.stepUp();
  else return;
  event.preventDefault();
});
