// Script of the page: uploads the file and shows the predictions. Server texts are inserted as text, never as HTML.
"use strict";

const $ = (selector) => document.querySelector(selector);
const ALIVE_EVERY = 25000; // milliseconds between two requests that keep the session open
const HEADERS = {"content-type": "application/json"};

let token = null; // token of this page's session
let file = null; // file that the user selected
let kind = null; // "image" or "video", set after the upload
let answer = null; // result that the page shows
let panes = [];
let compared = null; // secret of the adaptation whose model is shown beside the model of the app
let largest = Infinity; // maximum file size in bytes

// -- talking to the server --------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "The app does not answer; is it still running?");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Refused(response.status, told.error || `The app answered ${response.status}`);
  }
  return response;
}

const within = (path) => `/sessions/${token}/${path}`;
const post = (path, body) => ask(within(path), {method: "POST", headers: HEADERS, body: JSON.stringify(body || {})});

async function begin() {
  let page = await (await ask("/sessions", {method: "POST"})).json();
  token = page.session;
  if (!compared) return page;
  try {
    page = await (await post(`compare/${compared}`)).json();
  } catch { // the adaptation was removed, so the page goes back to the models of the app
    compared = null;
    present(page);
  }
  return page;
}

// Runs an action in the session. If the session no longer exists, a new one is opened and the file is uploaded again.
async function inSession(action) {
  try {
    return await action();
  } catch (error) {
    if (error.status !== 404 || !file) throw error;
    await begin();
    await send();
    return action();
  }
}

async function send() {
  // The server also refuses large files, but a browser that is still uploading may not receive the error message.
  if (file.size > largest) throw new Refused(413, `${file.name}: is larger than the ${largest / 2 ** 20} MiB that are taken here`);
  const name = encodeURIComponent(file.name);
  const response = await ask(within(`upload?name=${name}`), {method: "POST", body: file});
  kind = (await response.json()).kind;
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

// Wraps an action so that it never runs twice at a time. Calls during a run cause one further run.
function lastOne(action) {
  let running = false;
  let again = false;
  return async () => {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await action();
      } while (again);
    } finally {
      running = false;
    }
  };
}

// -- segmenting -------------------------------------------------------------------------------------------

// Disabled sliders show values that an exported file fixes. The server ignores the values that the page sends for them.
const valueOf = (slider) => (slider.disabled ? 1 : Number(slider.value));
const settings = () => ({
  steps: valueOf($("#steps input")),
  draws: valueOf($("#draws input")),
  opacity: Number($("#opacity input").value),
  layer: $("#layer input:checked").value,
  hidden: [...document.querySelectorAll("#legend input:not(:checked)")].map((box) => box.value),
});

let sent = null; // the uploaded file
const segment = lastOne(async () => {
  const chosen = file;
  hush();
  if (!chosen) return;
  working("Segmenting");
  try {
    if (sent !== chosen) {
      working("Uploading");
      clearAnswer();
      await inSession(send);
      sent = chosen;
      working("Segmenting");
    }
    const response = await inSession(() => post("segment", settings()));
    let outcome = {error: "The app ended before it was done"};
    for await (const event of lines(response)) {
      if (event.progress) working(event.progress, event.done, event.total);
      else outcome = event;
    }
    if (chosen !== file) return; // the user selected another file meanwhile
    if (outcome.error) throw new Refused(400, outcome.error);
    await show(outcome.result);
  } catch (error) {
    clearAnswer();
    if (file === chosen) complain(error.message);
  } finally {
    $("#progress").hidden = true;
  }
});

async function show(result) {
  answer = result;
  paintLegend(result.legend);
  panes.forEach((pane, index) => {
    pane.facts.textContent = result.facts[index];
    pane.facts.hidden = false;
  });
  $("#agreement").textContent = result.agreement;
  $("#agreement").hidden = !result.agreement;
  $("#again").hidden = result.kind !== "video";
  if (result.kind === "video") {
    panes.forEach((pane, index) => showVideo(pane, index));
    return;
  }
  panes.forEach((pane) => { pane.edit.hidden = false; });
  await draw();
  $("#download").href = within(`masks?${result.answer}`);
  $("#download").hidden = false;
}

async function correct(pane) {
  const index = panes.indexOf(pane);
  const chosen = file;
  try {
    const map = await (await ask(within(`labels/${index}?${answer.answer}`))).blob();
    if (chosen !== file) return; // the user selected another file meanwhile
    await openBrush(chosen, map, pane.classes, chosen.name.replace(/\.[^.]*$/, ""));
    hush();
  } catch (error) {
    complain(error.message);
  }
}

function showVideo(pane, index) {
  const video = document.createElement("video");
  Object.assign(video, {controls: true, autoplay: true, muted: true, loop: true, playsInline: true});
  video.src = within(`clip/${index}?${answer.answer}`);
  video.setAttribute("aria-label", `Overlay by ${pane.name}`);
  pane.frame.replaceChildren(video);
  pane.save.href = within(`clip/${index}?download`);
  pane.save.hidden = false;
}

const draw = lastOne(async () => {
  $("#scale").hidden = $("#layer input:checked").value !== "uncertainty";
  if (!answer || answer.kind !== "image") return;
  const drawn = answer;
  const {opacity, layer, hidden} = settings();
  const query = new URLSearchParams([["answer", drawn.answer], ["opacity", opacity], ["layer", layer]]);
  hidden.forEach((name) => query.append("hidden", name));
  try {
    await Promise.all(panes.map(async (pane, index) => {
      const image = new Image();
      image.alt = `Image with ${layer} by ${pane.name}`;
      image.src = within(`picture/${index}?${query}`);
      await image.decode();
      if (answer === drawn) pane.frame.replaceChildren(image);
    }));
    hush();
  } catch {
    complain("This answer is no longer kept; upload the image again");
  }
});

// -- what the page says -----------------------------------------------------------------------------------

function complain(message) {
  $("#notice").textContent = message.endsWith(".") ? message : `${message}.`;
  $("#notice").hidden = false;
}

function hush() {
  $("#notice").hidden = true;
}

function working(text, done, total) {
  const bar = $("#progress progress");
  if (total) {
    bar.max = total;
    bar.value = done;
  } else {
    bar.removeAttribute("value");
  }
  $("#progress span").textContent = text;
  $("#progress").hidden = false;
}

function clearAnswer() {
  answer = null;
  panes.forEach((pane) => {
    pane.frame.replaceChildren("No picture yet");
    pane.facts.hidden = pane.save.hidden = pane.edit.hidden = true;
  });
  for (const name of ["#agreement", "#download", "#again"]) $(name).hidden = true;
}

function paintLegend(entries) {
  const hidden = new Set(settings().hidden);
  const answered = entries.some((entry) => entry.occurs);
  $("#legend .classes").replaceChildren(...entries.map((entry) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    Object.assign(box, {type: "checkbox", value: entry.name, checked: !hidden.has(entry.name)});
    const mark = document.createElement("i");
    const color = `rgb(${entry.color.join(" ")})`;
    mark.style.background = box.style.accentColor = color;
    const text = document.createElement("span");
    text.textContent = entry.text;
    label.classList.toggle("absent", answered && !entry.occurs);
    label.append(box, mark, text);
    return label;
  }));
}

function makePane(model) {
  const figure = document.createElement("figure");
  figure.className = "pane";
  const caption = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = model.name;
  const frame = document.createElement("div");
  frame.className = "picture";
  frame.textContent = "No picture yet";
  const full = document.createElement("button");
  full.type = "button";
  full.textContent = "Full screen";
  full.addEventListener("click", () => frame.requestFullscreen());
  const save = document.createElement("a");
  Object.assign(save, {className: "button", textContent: "Download video", hidden: true});
  const edit = document.createElement("button");
  Object.assign(edit, {type: "button", className: "edit", textContent: "Correct the labels", hidden: true});
  const facts = document.createElement("p");
  facts.className = "facts facts-of-model";
  facts.hidden = true;
  caption.append(name, full);
  figure.append(caption, frame, facts, save, edit);
  $("#panes").append(figure);
  const pane = {name: model.name, classes: model.palette, frame, facts, save, edit};
  edit.addEventListener("click", () => correct(pane));
  return pane;
}

// -- what the visitor does --------------------------------------------------------------------------------

function choose(chosen) {
  file = chosen || null;
  $("#chosen").textContent = file ? file.name : "";
  $("#chosen").hidden = $("#clear").hidden = !file;
  if (file) {
    segment();
    return;
  }
  sent = null;
  clearAnswer();
  hush();
  post("clear").catch(() => {});
}

function connect() {
  const input = $("#upload input");
  input.addEventListener("change", () => {
    if (input.files.length) choose(input.files[0]);
    input.value = ""; // so that the same file can be selected again
  });
  $("#clear").addEventListener("click", () => choose(null));
  const drop = $("#upload");
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
  document.addEventListener("dragover", () => drop.classList.add("over"));
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    if (takesFolder(event)) return;
    if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
  for (const name of ["#opacity", "#steps", "#draws"]) {
    $(`${name} input`).addEventListener("input", () => {
      $(`${name} output`).textContent = $(`${name} input`).value;
    });
  }
  $("#opacity input").addEventListener("input", draw);
  for (const name of ["#layer", "#legend"]) $(name).addEventListener("change", draw);
  for (const name of ["#steps", "#draws"]) {
    $(`${name} input`).addEventListener("change", () => {
      if (kind === "image" && file) segment(); // a video is segmented only when the button is clicked
    });
  }
  $("#again").addEventListener("click", segment);
  for (const [name, checked] of [["#show-all", true], ["#hide-all", false]]) {
    $(name).addEventListener("click", () => {
      document.querySelectorAll("#legend input").forEach((box) => { box.checked = checked; });
      draw();
    });
  }
  addEventListener("pagehide", (event) => {
    if (!event.persisted) navigator.sendBeacon(within("end"));
  });
  setInterval(() => post("alive").catch(() => {}), ALIVE_EVERY);
}

function setSlider(name, facts) {
  const slider = $(`${name} input`);
  Object.assign(slider, {max: facts.max, value: facts.value, disabled: !facts.free});
  $(`${name} output`).textContent = facts.value;
}

// Shows the models of the page. Earlier panes are replaced.
function present(page) {
  largest = page.max_upload_bytes;
  $("#panes").replaceChildren();
  panes = page.models.map(makePane);
  $("#models").textContent = page.models.map((m) => `${m.name} (${m.classes} classes)`).join(" and ");
  $("#hint").textContent = page.hint;
  $("#settings-note").textContent = page.settings_note;
  $("#settings-note").hidden = !page.settings_note;
  const of = page.models.length > 1 ? `, ${page.models.map((m) => m.name).join(" / ")}` : "";
  $("#legend legend").textContent = `Classes, share of pixels${of}`;
  setSlider("#steps", page.steps);
  setSlider("#draws", page.draws);
  paintLegend(page.legend);
}

// Shows an adapted model beside the model of the app. A selected image is segmented again.
async function compareWith(secret) {
  const page = await (await inSession(() => post(`compare/${secret}`))).json();
  compared = secret;
  clearAnswer();
  present(page);
  if (file) segment();
}

(async () => {
  try {
    const page = await begin();
    present(page);
    connect();
    if (page.adaptation) offerAdaptation(page.adaptation);
    document.body.dataset.ready = "yes";
  } catch (error) {
    complain(error.message);
  }
})();
