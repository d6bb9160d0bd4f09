// The live page: asks for news, keeps what the person has chosen, reports when nobody answers.

import { clockTime, showTimes, synchronise, tick } from "./clock.js";
import { Chart } from "./chart.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 8000;
const QUIET_MS = 30000;
const ENDS = ["ended", "failed", "cut off"];
// A screen reader would read out every image otherwise.
const SPOKEN = [...ENDS, "paused", "recovers"];

const page = document.getElementById("now");
const lost = document.getElementById("lost");
const announced = document.getElementById("announced");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let asking = false;
let again = false; // somebody has chosen something else since the question was asked
let reachedAt = new Date();
let announcedActivity = "";
let announcedAt = -QUIET_MS;
let held = ""; // section with the focus before it is renewed

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

function viewScan(scan) {
  const chosen = document.getElementById("followed");
  if (!chosen || !scan) return;
  chosen.value = scan === "latest" ? "" : scan;
  refresh();
}

function showScan(scan) {
  if (!scan) return;
  viewScan(scan);
  document.getElementById("scan").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
}

function announce() {
  const { activity } = document.getElementById("status").dataset;
  if (activity === announcedActivity) return;
  const spoken = SPOKEN.includes(activity);
  if (spoken && !ENDS.includes(activity) && performance.now() - announcedAt < QUIET_MS) return;
  announcedActivity = activity;
  if (!spoken) return;
  announcedAt = performance.now();
  announced.textContent = document.getElementById("sentence").textContent;
}

function show() {
  const status = document.getElementById("status");
  synchronise(Number(status.dataset.now));
  showTimes();
  const sentence = document.getElementById("sentence").textContent;
  document.title = `${sentence} – ${document.querySelector("h1").textContent}`;
}

function update() {
  show();
  announce();
  chart.update(Number(document.getElementById("chart-words").dataset.threshold) || null);
}

// What had the focus may be gone, as the buttons are when a run has ended.
function keepFocus() {
  if (!held || document.activeElement !== document.body) return;
  (document.getElementById(held) ?? page).querySelector("h2").focus({ preventScroll: true });
}

const chart = new Chart(document.getElementById("chart"), document.getElementById("span"), showScan);

function reached() {
  reachedAt = new Date();
  lost.hidden = true;
}

function unreachable(reason) {
  const text = `${reason} since ${clockTime(reachedAt)}: this page is from then.`;
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = false;
}

function restarted() {
  const link = Object.assign(document.createElement("a"), { href: "/unlock", textContent: "give the token again" });
  if (!lost.querySelector("a")) lost.replaceChildren("The page was started again: ", link, ".");
  lost.hidden = false;
}

function refusal(answer) {
  const isText = (answer.getResponseHeader("Content-Type") ?? "").startsWith("text/plain");
  return isText ? answer.responseText.slice(0, 300) : `${answer.status} ${answer.statusText}`;
}

page.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.target === page) asking = true;
  else document.getElementById("refused").textContent = "";
});
page.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target !== page) return;
  if (again) event.detail.shouldSwap = false;
  held = page.contains(document.activeElement) ? (document.activeElement.closest("section")?.id ?? "") : "";
});
page.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.target !== page) return;
  asking = false;
  if (event.detail.successful) reached();
  if (again) refresh();
});
page.addEventListener("htmx:responseError", ({ detail: { target, xhr } }) => {
  if (xhr.status === 401) restarted();
  else if (target === page) unreachable(`The monitor refuses: ${refusal(xhr)}`);
  else target.textContent = refusal(xhr);
});
for (const failure of ["htmx:sendError", "htmx:timeout"]) {
  page.addEventListener(failure, () => unreachable("No connection to the monitor"));
}
page.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target !== page) return;
  keepFocus();
  update();
});
document.body.addEventListener("asked", refresh);

// Find the scan under a place of the map; without a pointer, its number does the same.
async function scanAt(map, event) {
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
  try {
    const answer = await fetch(`/areas/${map.dataset.area}/at?x=${place.x}&y=${-place.y}`);
    if (answer.ok) showScan((await answer.json()).scan);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    unreachable("No connection to the monitor");
  }
}

function goToScan() {
  const number = document.getElementById("scan-number");
  if (number.value && number.reportValidity()) viewScan(number.value);
}

page.addEventListener("change", (event) => {
  if (event.target.name === "kind") localStorage.setItem("kind", event.target.value);
  if (event.target.name) refresh();
});
page.addEventListener("click", (event) => {
  const go = event.target.closest("[data-go]");
  if (go) (go.closest("#scan") ? viewScan : showScan)(go.dataset.go);
  const map = event.target.closest("svg.area");
  if (map) scanAt(map, event);
  if (event.target.closest("[data-go-to]")) goToScan();
  const more = event.target.closest("[data-more]");
  if (more) {
    const rows = document.getElementById("rows");
    rows.value = Number(rows.value) + Number(more.dataset.more);
    refresh();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.target.id === "scan-number" && event.key === "Enter") goToScan();
  const busy = event.target.closest("input, select, textarea, dialog");
  if (busy || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const key = { ArrowLeft: "ArrowLeft", ArrowRight: "ArrowRight" }[event.key];
  if (!key) return;
  event.preventDefault();
  viewScan(document.querySelector(`#scan [aria-keyshortcuts=${key}]`)?.dataset.go);
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());

const kind = document.getElementById(`kind-${localStorage.getItem("kind")}`);
if (kind) kind.checked = true;
announcedActivity = document.getElementById("status").dataset.activity;
update();
setInterval(tick, 1000, document);
setInterval(announce, 1000);
setInterval(() => document.hidden || asking || refresh(), EVERY_MS);
setTimeout(refresh, 300);
