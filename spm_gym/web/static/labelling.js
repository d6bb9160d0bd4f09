// Keys press the buttons that carry them; the image has the chosen view, and the next are fetched.
"use strict";

const keysOff = () => localStorage.getItem("keys") === "off";
const views = () => [...document.querySelectorAll("[name=view]")];
const scan = () => document.querySelector("#desk .image");
let peeking = false;
let fetched = [];

function pressed(event) {
  if (keysOff() || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (target.matches("input:not([type=radio], [type=checkbox]), textarea, select")) return;
  if (event.key === " " && target.matches("button, a, [type=radio], [type=checkbox]")) return; // it is pressed itself
  if (event.key.startsWith("Arrow") && target.matches("[type=radio]")) return;
  const name = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (name === "v" && views().length) {
    event.preventDefault();
    showNextView();
    return;
  }
  const button = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key.split(" ").includes(name));
  if (!button) return;
  event.preventDefault();
  if (!event.repeat) button.click();
}

function showNextView() {
  const all = views();
  const next = all[(all.findIndex((view) => view.checked) + 1) % all.length];
  next.checked = true;
  showView();
}

function showView() {
  const chosen = views().find((view) => view.checked);
  const image = scan();
  if (!chosen || !image) return;
  sessionStorage.setItem("view", chosen.value);
  const source = image.dataset[chosen.value];
  if (image.getAttribute("src") !== source) {
    image.src = source;
    image.alt = image.alt.replace(/[^,]*$/, ` ${chosen.value}`);
  }
  const scale = document.querySelector("#desk .heights");
  if (scale.getAttribute("src") !== scale.dataset[chosen.value]) scale.src = scale.dataset[chosen.value];
}

function arrange() {
  const image = scan();
  if (!image) return;
  showView();
  watch(image);
  for (const each of document.querySelectorAll(".peeked")) each.hidden = !peeking;
  fetched = document.getElementById("desk").dataset.preload.split(" ").filter(Boolean).map((url) => {
    const ahead = new Image();
    ahead.src = url;
    return ahead;
  });
}

function watch(image) {
  const broken = image.complete && !image.naturalWidth;
  image.parentElement.classList.toggle("loading", !image.complete);
  image.parentElement.classList.toggle("failed", broken);
  image.parentElement.querySelector(".broken").hidden = !broken;
}

function showProblem(problem) {
  const place = document.getElementById("problem");
  place.hidden = !problem;
  place.textContent = problem;
}

function peek() {
  peeking = !peeking;
  document.getElementById("peek").setAttribute("aria-pressed", String(peeking));
  for (const each of document.querySelectorAll(".peeked")) each.hidden = !peeking;
}

function showKeys() {
  document.body.classList.toggle("keyless", keysOff());
  const keys = document.getElementById("keys");
  if (keys) keys.checked = !keysOff();
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  getSelection().selectAllChildren(source);
  if (!navigator.clipboard) return; // only on secure connections; it is marked, to be copied by hand
  await navigator.clipboard.writeText(source.textContent);
  button.textContent = "Copied";
}

document.addEventListener("keydown", pressed);
document.addEventListener("click", (event) => {
  const button = event.target.closest("button, [type=radio], [type=checkbox]");
  if (!button) return;
  if (button.id === "peek") peek();
  if (button.id === "ask-help") document.getElementById("help").showModal();
  if (button.dataset.copies) copy(button);
  // A button that was clicked must not take the next space; htmx looks first which one it was.
  if (event.detail && button.closest(".labelling")) setTimeout(() => button.blur());
});
document.addEventListener("change", (event) => {
  if (event.target.name === "view") showView();
  if (event.target.id !== "keys") return;
  localStorage.setItem("keys", event.target.checked ? "on" : "off");
  showKeys();
});
for (const kind of ["load", "error"]) {
  document.addEventListener(kind, (event) => event.target === scan() && watch(event.target), true);
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const { path, formData } = event.detail.requestConfig;
  const image = scan();
  // An image that has not been loaded cannot be classified.
  if (path === "/answers" && formData.get("answer") !== "skip" && !(image.complete && image.naturalWidth)) event.preventDefault();
});
document.addEventListener("htmx:afterSettle", arrange);
document.addEventListener("htmx:afterRequest", (event) => event.detail.successful && showProblem(""));
document.addEventListener("htmx:responseError", (event) => showProblem(event.detail.xhr.responseText));
document.addEventListener("htmx:sendError", () => showProblem("No answer from the server: this was not saved. Is it still running?"));

const kept = views().find((view) => view.value === sessionStorage.getItem("view"));
if (kept) kept.checked = true;
showKeys();
arrange();
