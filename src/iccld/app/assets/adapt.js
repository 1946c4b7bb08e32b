// Adaptation of the model to a folder of images: uploads the images, follows the training and fetches the results.
"use strict";

const REMEMBERED = "iccld-adaptation"; // key of the secret in localStorage, so that a reload finds the adaptation again
const POLL_EVERY = 2000; // milliseconds between two requests for the state

let adaptation = null; // secret of this page's adaptation
let watching = 0; // number of the current watch; an older watch ends
let suffixes = []; // extensions of images, in lower case
let shownStep = null; // number of steps of the shown picture

const part = (name) => $(`#adapt-${name}`);
const ofAdaptation = (path) => `/adaptations/${adaptation}/${path}`;
const order = (path, body) => ask(ofAdaptation(path), {method: "POST", headers: HEADERS, body: JSON.stringify(body || {})});

function offerAdaptation(proposed) {
  $("#adapt").hidden = false;
  suffixes = proposed.suffixes;
  part("model").textContent = proposed.model;
  part("steps").querySelector("input").value = proposed.steps;
  part("input").querySelector("input").addEventListener("change", (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    guarded(() => sendFolder(files));
  });
  const steps = () => Number(part("steps").querySelector("input").value);
  part("start").addEventListener("click", () => guarded(async () => { await order("start", {steps: steps()}); watch(); }));
  part("stop").addEventListener("click", () => guarded(async () => {
    say("Stopping after a checkpoint");
    await order("stop");
    watch();
  }));
  part("remove").addEventListener("click", () => guarded(remove));
  part("compare").addEventListener("click", () => guarded(() => compareWith(adaptation)));
  part("onnx").addEventListener("click", () => guarded(download));
  adaptation = localStorage.getItem(REMEMBERED);
  if (adaptation) watch();
}

// Runs an action of the user. A refusal is shown, and other actions stay possible.
async function guarded(action) {
  part("notice").hidden = true;
  try {
    await action();
  } catch (error) {
    if (error.status === 404) forget();
    part("notice").textContent = error.message;
    part("notice").hidden = false;
  }
}

function forget() {
  watching += 1;
  adaptation = shownStep = null;
  localStorage.removeItem(REMEMBERED);
  for (const name of ["status", "progress", "steps", "start", "stop", "compare", "zip", "onnx", "remove", "frames"]) {
    part(name).hidden = true;
  }
  part("input").hidden = false;
}

async function sendFolder(files) {
  const images = files.filter(({name}) => suffixes.some((suffix) => name.toLowerCase().endsWith(suffix)));
  if (!images.length) throw new Refused(400, "The folder contains no PNG, JPEG, WebP, BMP or TIFF images");
  part("input").hidden = true;
  const refused = [];
  try {
    adaptation = (await (await ask("/adaptations", {method: "POST"})).json()).secret;
    localStorage.setItem(REMEMBERED, adaptation);
    for (const [index, image] of images.entries()) {
      say(`Uploading image ${index + 1} of ${images.length}`);
      advance(index, images.length);
      try {
        await ask(ofAdaptation(`images?name=${encodeURIComponent(image.name)}`), {method: "POST", body: image});
      } catch (error) {
        if (error.status !== 400 && error.status !== 413) throw error;
        refused.push(error.message);
      }
    }
  } catch (error) {
    part("input").hidden = false;
    throw error;
  }
  await watch();
  if (refused.length) throw new Refused(400, `${refused.length} of ${images.length} images were not taken. The first reason: ${refused[0]}`);
}

// Follows the state until the training ends. Each call ends the earlier one.
async function watch() {
  const mine = ++watching;
  for (;;) {
    let state;
    try {
      state = await (await ask(ofAdaptation(""))).json();
    } catch (error) {
      if (mine !== watching) return;
      if (error.status === 404) {
        forget();
        return;
      }
      say(error.message);
    }
    if (mine !== watching) return;
    if (state) {
      paint(state);
      await paintFrames(state, mine).catch(() => {});
      if (state.state !== "running") return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_EVERY));
    if (mine !== watching) return;
  }
}

const WORDS = {
  collecting: (state) => `${state.images} images are here.`,
  running: (state) => (state.done ? [`Step ${state.done} of ${state.total}`, ...state.text.split("  ")].filter(Boolean).join(" · ") : state.text),
  stopped: (state) => `Stopped. ${state.newest} of ${state.steps} steps are saved.`,
  failed: (state) => `Failed: ${state.text}`,
  finished: (state) => `Finished after ${state.steps} steps on ${state.images} images. The model is in the folder ${state.name}.`,
};

function paint(state) {
  const {state: name} = state;
  say(WORDS[name](state));
  advance(state.done, state.total);
  part("progress").hidden = name === "collecting" || name === "failed";
  part("input").hidden = true;
  part("steps").hidden = name !== "collecting";
  if (state.steps) part("steps").querySelector("input").value = state.steps;
  part("start").hidden = name === "running" || name === "finished";
  part("start").textContent = name === "collecting" ? "Start" : "Resume";
  part("stop").hidden = name !== "running";
  part("remove").hidden = name === "running";
  for (const result of ["compare", "zip", "onnx"]) part(result).hidden = name !== "finished";
  part("zip").href = ofAdaptation("model.zip");
}

async function paintFrames(state, mine) {
  if (state.state === "collecting" || state.newest === shownStep) return;
  const [before, now] = part("frames").querySelectorAll("figure");
  const step = state.newest;
  now.hidden = !step;
  now.querySelector("figcaption").textContent = `after step ${step}`;
  for (const [index, figure] of [before, now].entries()) {
    if (figure.hidden) continue;
    const image = new Image();
    image.alt = `First image, segmented ${figure.querySelector("figcaption").textContent}`;
    image.src = ofAdaptation(`frame/${index}?step=${step}`);
    await image.decode();
    if (mine !== watching) return;
    figure.querySelector(".picture").replaceChildren(image);
  }
  shownStep = step;
  part("frames").hidden = false;
}

async function remove() {
  if (!confirm("Remove these images and the adapted model from the machine of the app?")) return;
  await order("remove");
  forget();
}

async function download() {
  const before = part("status").textContent;
  say("Exporting the model takes a minute or two");
  part("onnx").disabled = true;
  try {
    await order("onnx");
    const link = document.createElement("a");
    link.href = ofAdaptation("model.onnx");
    link.click();
  } finally {
    part("onnx").disabled = false;
    say(before);
  }
}

function say(text) {
  part("status").textContent = text;
  part("status").hidden = false;
}

function advance(done, total) {
  part("progress").hidden = false;
  if (done) Object.assign(part("progress"), {max: total, value: done});
  else part("progress").removeAttribute("value");
}

// Takes the drop of a folder if adaptation is offered and no adaptation is shown. Returns whether it was taken.
function takesFolder(event) {
  if ($("#adapt").hidden || part("input").hidden) return false;
  const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry() || item.getAsFile());
  const isFolder = entries.length > 1 || entries.some((entry) => entry.isDirectory);
  if (!isFolder && !part("input").contains(event.target)) return false;
  guarded(async () => sendFolder((await Promise.all(entries.map(filesIn))).flat()));
  return true;
}

// Returns the files of an entry that was dropped, also those in folders of a folder.
async function filesIn(entry) {
  if (entry instanceof File) return [entry];
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // one call returns at most a hundred entries
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) break;
    found.push(...batch);
  }
  found.sort((first, second) => (first.name < second.name ? -1 : 1));
  return (await Promise.all(found.map(filesIn))).flat();
}
