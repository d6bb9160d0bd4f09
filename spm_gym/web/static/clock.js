// Times of the server as local ones, and how long ago they were.

const DAY = 86400;
let ahead = 0; // of this computer's clock, in s

export function synchronise(serverNow) {
  ahead = Date.now() / 1000 - serverNow;
}

function now() {
  return Date.now() / 1000 - ahead;
}

export function clockTime(date, second = "2-digit") {
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second, hour12: false });
  if (date.toDateString() === new Date(now() * 1000).toDateString()) return clock;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock}`;
}

function inWords(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 2) return "just now";
  if (s < 120) return `${s} s ago`;
  if (s < 7200) return `${Math.floor(s / 60)} min ago`;
  if (s < 2 * DAY) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / DAY)} days ago`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-show=time], time[data-show=minute]")) {
    const second = element.dataset.show === "time" ? "2-digit" : undefined;
    write(element, clockTime(new Date(element.dateTime), second));
  }
  tick(root);
}

export function tick(root = document) {
  for (const element of root.querySelectorAll("time[data-show=ago]")) {
    const age = now() - new Date(element.dateTime) / 1000;
    write(element, inWords(age));
    const status = element.closest("[data-late]");
    const late = document.getElementById("late");
    if (late) late.hidden = !status || age < Number(status.dataset.late);
  }
}
