// The probability of a good probe over the time of operation; bands for what the run did.

const HOUR = 3600;
const DAY = 24; // in hours, the unit of the axis
const HEIGHT = 230;
const ROOM = 70; // of a mark of the axis of time, pixels
const LOWEST = -0.14; // room for the troubles below 0

function colour(host, name) {
  return getComputedStyle(host).getPropertyValue(name).trim();
}

// Round steps in each of the units: seconds and minutes of an hour, hours, days.
const STEPS = [
  ...[1, 2, 5, 10, 20, 30].map((seconds) => seconds / HOUR),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes / 60),
  ...[1, 2, 3, 6, 12],
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((days) => DAY * days),
];

// Own marks: those of uPlot are decimals of an hour, which minutes are not.
export function splits(low, high, most) {
  const step = STEPS.find((each) => (high - low) / each <= most) ?? STEPS.at(-1);
  const first = Math.ceil(low / step - 1e-6);
  const number = Math.max(0, Math.floor(high / step + 1e-6) - first + 1);
  return Array.from({ length: number }, (_, n) => (first + n) * step);
}

export function inWords(marks, width) {
  if (width < 2) return marks.map((hours) => `${+(60 * hours).toFixed(2)} min`);
  if (width < 2 * DAY) return marks.map((hours) => `${+hours.toFixed(2)} h`);
  return marks.map((hours) => `${+(hours / DAY).toFixed(2)} d`);
}

// A mark at every point of a series; points on the same pixel are drawn once.
function marks(draw) {
  return (u, series, first, last) => {
    const path = new Path2D();
    const [xs, ys] = [u.data[0], u.data[series]];
    let before = "";
    for (let i = first; i <= last; i++) {
      if (ys[i] == null) continue;
      const x = Math.round(u.valToPos(xs[i], "x", true));
      const y = Math.round(u.valToPos(ys[i], "y", true));
      const here = `${x} ${y}`;
      if (here !== before) draw(path, x, y, devicePixelRatio);
      before = here;
    }
    return { stroke: path, fill: path, flags: 0 };
  };
}

function dot(path, x, y, size) {
  const r = 1.6 * size;
  path.moveTo(x + r, y);
  path.arc(x, y, r, 0, 2 * Math.PI);
}

function cross(path, x, y, size) {
  const r = 2.6 * size;
  path.moveTo(x - r, y - r);
  path.lineTo(x + r, y + r);
  path.moveTo(x - r, y + r);
  path.lineTo(x + r, y - r);
}

function diamond(path, x, y, size) {
  const r = 3.2 * size;
  path.moveTo(x, y - r);
  path.lineTo(x + r, y);
  path.lineTo(x, y + r);
  path.lineTo(x - r, y);
  path.closePath();
}

export class Chart {
  constructor(host, span, onScan) {
    this.host = host;
    this.span = span;
    this.onScan = onScan;
    this.last = 0;
    this.second = 0;
    this.scans = [];
    this.data = [[], [], [], []];
    this.episodes = new Map();
    this.troubles = new Map();
    this.areas = new Map();
    this.threshold = null;
    this.build();
    span.addEventListener("change", () => this.show());
    new ResizeObserver(() => this.fit()).observe(host);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
  }

  async update(threshold) {
    this.threshold = threshold;
    if (this.busy) return;
    this.busy = true;
    try {
      const answer = await fetch(`/series?after=${this.last}`);
      if (!answer.ok) return;
      this.take(await answer.json());
      this.show();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // nobody answers, and the page reports it
    } finally {
      this.busy = false;
    }
  }

  take(news) {
    let scan = this.last;
    news.scans.forEach((step, i) => {
      scan += step;
      this.second += news.seconds[i];
      this.scans.push(scan);
      this.data[0].push(this.second / HOUR);
      const label = news.labels[i];
      for (let series = 0; series < 3; series++) {
        this.data[series + 1].push(series === label ? news.probabilities[i] / 1000 : null);
      }
    });
    this.last = news.last;
    for (const [id, begin, end] of news.episodes) this.episodes.set(id, [begin / HOUR, end === null ? null : end / HOUR]);
    for (const [id, when, what] of news.troubles) this.troubles.set(id, [when / HOUR, what]);
    for (const [id, when] of news.areas) if (!this.areas.has(id)) this.areas.set(id, when / HOUR);
  }

  build() {
    this.plot?.destroy();
    const ink = colour(this.host, "--ink");
    const axis = { stroke: ink, grid: { stroke: colour(this.host, "--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const [good, bad, afterAction] = ["--good-ink", "--bad-ink", "--conditioning-ink"].map((name) => colour(this.host, name));
    this.plot = new uPlot(
      {
        width: this.host.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        scales: { x: { time: false, range: (u, low, high) => (low == null ? [0, 1] : [low, Math.max(high, low + 1e-3)]) }, y: { range: [LOWEST, 1.04] } },
        axes: [
          {
            ...axis, label: "time of operation", labelSize: 18, labelFont: "12px system-ui", size: 28, space: 60,
            splits: (u, number, low, high) => splits(low, high, u.width / ROOM),
            values: (u, marks) => inWords(marks, u.scales.x.max - u.scales.x.min),
          },
          { ...axis, size: 36, splits: () => [0, 0.25, 0.5, 0.75, 1], values: (u, splits) => splits.map(String) },
        ],
        cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
        series: [
          {},
          { fill: good, width: 0, paths: marks(dot), points: { show: false } },
          { stroke: bad, width: 1.4, paths: marks(cross), points: { show: false } },
          { stroke: afterAction, width: 1.6, paths: marks(diamond), points: { show: false } },
        ],
        hooks: {
          drawClear: [(u) => this.drawBands(u)],
          draw: [(u) => this.drawThreshold(u)],
          setSelect: [(u) => u.select.width > 0 && this.zoomed()],
        },
      },
      this.data,
      this.host,
    );
    const over = this.plot.over;
    over.addEventListener("dblclick", () => {
      this.span.value = "";
      this.show();
    });
    let pressed = 0;
    over.addEventListener("pointerdown", (event) => (pressed = event.clientX));
    over.addEventListener("click", (event) => {
      const place = this.plot.cursor.idx;
      if (place != null && Math.abs(event.clientX - pressed) < 4) this.onScan(this.scans[place]);
    });
    this.show();
  }

  zoomed() {
    this.span.querySelector("[value=zoomed]").hidden = false;
    this.span.value = "zoomed";
  }

  fit() {
    if (this.host.clientWidth) this.plot.setSize({ width: this.host.clientWidth, height: HEIGHT });
  }

  show() {
    const end = this.data[0].at(-1) ?? 0;
    this.plot.setData(this.data, false);
    if (this.span.value === "zoomed") {
      this.plot.redraw();
      return;
    }
    const hours = Number(this.span.value);
    this.plot.setScale("x", { min: hours ? Math.max(0, end - hours) : 0, max: end || 1 });
  }

  drawBands(u) {
    const { ctx, bbox } = u;
    const end = this.data[0].at(-1) ?? 0;
    const at = (hours) => u.valToPos(hours, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour(this.host, "--band");
    for (const [begin, until] of this.episodes.values()) {
      const left = at(begin);
      ctx.fillRect(left, bbox.top, Math.max(at(until ?? end) - left, devicePixelRatio), bbox.height);
    }
    ctx.strokeStyle = colour(this.host, "--ink");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    [...this.areas.values()].sort((a, b) => a - b).slice(1).forEach((when) => this.line(ctx, at(when), bbox.top, bbox.height));
    ctx.setLineDash([]);
    ctx.strokeStyle = colour(this.host, "--trouble");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const [when] of this.troubles.values()) {
      this.line(ctx, at(when), bbox.top + 0.93 * bbox.height, 0.06 * bbox.height);
    }
    ctx.restore();
  }

  drawThreshold(u) {
    if (!this.threshold) return;
    const { ctx, bbox } = u;
    const y = u.valToPos(this.threshold, "y", true);
    ctx.save();
    ctx.strokeStyle = colour(this.host, "--ink");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([2 * devicePixelRatio, 2 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.restore();
  }

  line(ctx, x, top, height) {
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
  }
}
