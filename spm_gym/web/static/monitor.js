// The live page: asks for what is new, keeps what the person has chosen, says when nobody answers.

import { clockTime, showTimes, synchronise, tick } from "./clock.js";
import { Chart } from "./chart.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;

const page = document.getElementById("now");
const lost = document.getElementById("lost");
const announced = document.getElementById("announced");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let asking = false;
let again = false; // somebody has chosen something else since the question was asked
let reachedAt = new Date();
let activity = "";

htmx.config.timeout = PATIENCE_MS;
Object.assign(Idiomorph.defaults.callbacks, {
  beforeNodeMorphed: (old) => !(old.dataset && "keep" in old.dataset),
  // Whether details are open is the reader's business.
  beforeAttributeUpdated: (name, node) => !(name === "open" && node.localName === "details"),
});

function refresh() {
  again = asking;
  if (!asking) htmx.trigger(page, "refresh");
}

function look(scan) {
  const chosen = document.getElementById("followed");
  if (!chosen || !scan) return;
  chosen.value = scan === "latest" ? "" : scan;
  refresh();
}

function showScan(scan) {
  if (!scan) return;
  look(scan);
  document.getElementById("scan").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
}

function prepareNeighbours() {
  const shown = document.querySelector("#scan .picture img");
  if (!shown || !document.getElementById("followed").value) return;
  for (const button of document.querySelectorAll("#scan .browse [data-picture]")) {
    new Image().src = button.dataset.picture;
  }
}

function show() {
  const status = document.getElementById("status");
  synchronise(Number(status.dataset.now));
  showTimes();
  prepareNeighbours();
  const sentence = document.getElementById("sentence").textContent;
  document.title = `${sentence} – ${document.querySelector("h1").textContent}`;
  if (activity && status.dataset.activity !== activity) announced.textContent = sentence;
  activity = status.dataset.activity;
}

const chart = new Chart(document.getElementById("chart"), document.getElementById("span"), showScan);

function reached() {
  reachedAt = new Date();
  lost.hidden = true;
}

function unreachable(reason) {
  const text = `${reason} since ${clockTime(reachedAt)}: what you see is from then.`;
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = false;
}

page.addEventListener("htmx:beforeRequest", (event) => (asking ||= event.detail.target === page));
page.addEventListener("htmx:beforeSwap", (event) => {
  if (again && event.detail.target === page) event.detail.shouldSwap = false;
});
page.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target !== page) return;
  asking = false;
  if (event.detail.successful) reached();
  if (again) refresh();
});
page.addEventListener("htmx:responseError", (event) => event.detail.target === page && unreachable(`The monitor says: ${event.detail.xhr.responseText.slice(0, 300)}`));
for (const failure of ["htmx:sendError", "htmx:timeout"]) {
  page.addEventListener(failure, () => unreachable("No connection to the monitor"));
}
page.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target !== page) return;
  show();
  chart.update();
});
document.body.addEventListener("asked", refresh);

// The scan under a place of the map; whoever has no pointer goes through them one by one.
async function scanAt(map, event) {
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
  const answer = await fetch(`/areas/${map.dataset.area}/at?x=${place.x}&y=${-place.y}`);
  if (answer.ok) showScan((await answer.json()).scan);
}

page.addEventListener("change", (event) => {
  if (event.target.name === "kind") localStorage.setItem("kind", event.target.value);
  if (event.target.name) refresh();
});
page.addEventListener("click", (event) => {
  const go = event.target.closest("[data-go]");
  if (go) (go.closest("#scan") ? look : showScan)(go.dataset.go);
  const map = event.target.closest("svg.area");
  if (map) scanAt(map, event);
  const more = event.target.closest("[data-more]");
  if (more) {
    const rows = document.getElementById("rows");
    rows.value = Number(rows.value) + Number(more.dataset.more);
    refresh();
  }
});
document.addEventListener("keydown", (event) => {
  const busy = event.target.closest("input, select, textarea, dialog");
  if (busy || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const key = { ArrowLeft: "ArrowLeft", ArrowRight: "ArrowRight" }[event.key];
  if (!key) return;
  event.preventDefault();
  look(document.querySelector(`#scan [aria-keyshortcuts=${key}]`)?.dataset.go);
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());

const kind = document.getElementById(`kind-${localStorage.getItem("kind")}`);
if (kind) kind.checked = true;
show();
chart.update();
setInterval(tick, 1000, document);
setInterval(() => document.hidden || asking || refresh(), EVERY_MS);
setTimeout(refresh, 300);
