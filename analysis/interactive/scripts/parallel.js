// --- parallel coordinates: a line for each trial, an axis for each varied value and each metric

const RAMPS = {
  // From the best trial to the worst; both read on their paper.
  light: [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98]],
  dark: [[253, 231, 37], [94, 201, 98], [33, 145, 140], [82, 108, 170]],
};
const SHADES = 16;
const PAD = { top: 44, bottom: 26, side: 56 };
const SAMPLE = 200; // lines that are drawn at once; all of them follow when the reader pauses
const CHUNK = 500; // lines in one go, so that a page still answers meanwhile
const HEIGHT = 320;

function scheme() {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function shade(place) {
  if (Number.isNaN(place)) return "rgb(140 140 140)";
  const ramp = RAMPS[scheme()];
  const at = Math.min(Math.max(place, 0), 1) * (ramp.length - 1);
  const i = Math.min(Math.floor(at), ramp.length - 2);
  const mixed = ramp[i].map((from, k) => Math.round(from + (ramp[i + 1][k] - from) * (at - i)));
  return `rgb(${mixed.join(" ")})`;
}

// Where each row stands on an axis, 0 at its lower end and 1 at its upper; -1 for none.
function axisOf(column, size) {
  const log = column.log;
  const scale = log ? Math.log10 : (value) => value;
  let [low, high] = [Infinity, -Infinity];
  const usable = (value) => Number.isFinite(value) && !(log && value <= 0);
  for (let row = 0; row < size; row++) {
    const value = column.value(row);
    if (usable(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  const [from, to] = [scale(low), scale(high)];
  const part = (value) => (to > from ? (scale(value) - from) / (to - from) : 0.5);
  const parts = new Float32Array(size);
  for (let row = 0; row < size; row++) {
    const value = column.value(row);
    parts[row] = usable(value) ? part(value) : -1;
  }
  const invert = (at) => {
    if (at <= 0) return low;
    if (at >= 1) return high;
    const value = from + at * (to - from);
    return Number((log ? 10 ** value : value).toPrecision(5));
  };
  const values = [...new Set(Array.from(parts.keys(), column.value).filter(usable))];
  return { column, low, high, part, parts, invert, values: values.sort((a, b) => a - b) };
}

class Parallel {
  // `brushed(name, range or null)` is called when a reader has changed an axis' range.
  constructor(brushed) {
    this.brushed = brushed;
    this.lines = make("canvas", {});
    this.labels = make("canvas", {});
    this.marks = make("div", { className: "marks" });
    this.ranges = make("div", { className: "ranges" });
    this.box = make("div", { className: "axes" }, this.lines, this.labels, this.marks);
    this.legend = make("p", { className: "footnote" });
    const typed = make("details", {}, make("summary", {}, "Ranges as numbers"), this.ranges);
    const scroll = make("div", { className: "wide" }, this.box);
    this.element = make("div", { className: "parallel" }, scroll, this.legend, typed);
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label", "Parallel coordinates; the fields below set the ranges, too");
    for (const kind of ["pointerdown", "pointermove", "pointerup"]) {
      this.box.addEventListener(kind, (event) => this.drag(kind, event));
    }
    new ResizeObserver(() => this.resize()).observe(this.box);
  }

  set(trials) {
    this.trials = trials;
    const shown = trials.columns.filter((c) => ["axis", "objective", "metric"].includes(c.role));
    this.axes = shown.map((column) => axisOf(column, trials.size));
    // The best are drawn last, over all others.
    this.rows = trials.ranked.toReversed();
    this.shades = Array.from({ length: SHADES }, (_, i) => shade(i / (SHADES - 1)));
    this.shades.push(shade(NaN));
    this.shadeOf = Uint8Array.from(trials.place, (place) =>
      Number.isNaN(place) ? SHADES : Math.round(place * (SHADES - 1)),
    );
    // Positions once and not at each stroke.
    this.heights = this.axes.map((axis) => Float32Array.from(axis.parts, (part) => this.y(part)));
    this.legend.replaceChildren(...this.legendOf(trials));
    this.marks.replaceChildren(...this.axes.map(() => make("div", { hidden: true })));
    if (this.width) this.drawLabels();
    this.fields = new Map();
    this.ranges.replaceChildren(...this.axes.map((axis) => this.rangeFields(axis)));
  }

  legendOf(trials) {
    const objective = trials.columns.find((column) => column.role === "objective");
    if (!objective) return ["Drag along an axis to keep a range; click on it to keep all."];
    const signs = [0, 0.25, 0.5, 0.75, 1].map((place) => {
      const sign = make("span", { className: "sign" });
      sign.style.background = shade(place);
      return sign;
    });
    const said = " the worst. Drag along an axis to keep a range; click on it to keep all.";
    return [`Colour by ${objective.name}: the best `, ...signs, said];
  }

  rangeFields(axis) {
    const { column } = axis;
    const field = make("fieldset", {}, make("legend", {}, column.name));
    if (column.words) {
      const options = column.words.map((word, i) => make("option", { value: i }, word));
      const choice = make("select", {}, make("option", { value: "" }, "all"), ...options);
      choice.setAttribute("aria-label", `Value of ${column.name}`);
      choice.addEventListener("input", () => {
        this.brushed(column.name, choice.value === "" ? null : [+choice.value, +choice.value]);
      });
      this.fields.set(column.name, (range) => {
        choice.value = range && range[0] === range[1] ? range[0] : "";
      });
      field.append(choice);
      return field;
    }
    const [low, high] = ["Lowest", "Highest"].map((word, end) => {
      const input = make("input", { type: "number", step: "any" });
      input.placeholder = brief([axis.low, axis.high][end], 4);
      input.setAttribute("aria-label", `${word} ${column.name}`);
      return input;
    });
    const changed = () => {
      const given = low.value !== "" || high.value !== "";
      const from = low.value === "" ? -Infinity : +low.value;
      this.brushed(column.name, given ? [from, high.value === "" ? Infinity : +high.value] : null);
    };
    for (const input of [low, high]) input.addEventListener("input", changed);
    this.fields.set(column.name, (range) => {
      [low, high].forEach((input, end) => {
        if (input === document.activeElement) return; // somebody types there
        input.value = range && Number.isFinite(range[end]) ? range[end] : "";
      });
    });
    field.append(low, " to ", high);
    return field;
  }

  resize() {
    const width = this.box.clientWidth;
    if (!width || !this.axes) return;
    const ratio = devicePixelRatio;
    if (width === this.width && ratio === this.ratio) return;
    [this.width, this.ratio] = [width, ratio];
    for (const canvas of [this.lines, this.labels]) {
      canvas.width = width * ratio;
      canvas.height = HEIGHT * ratio;
    }
    this.drawLabels();
    if (this.kept) this.draw(this.kept, this.brushes);
  }

  x(i) {
    return PAD.side + (i * (this.width - 2 * PAD.side)) / Math.max(this.axes.length - 1, 1);
  }

  y(part) {
    const bottom = HEIGHT - PAD.bottom;
    return part < 0 ? HEIGHT - 8 : bottom - part * (bottom - PAD.top);
  }

  draw(kept, brushes) {
    [this.kept, this.brushes] = [kept, brushes];
    for (const [name, show] of this.fields) show(brushes.get(name));
    if (!this.width) return;
    this.drawMarks();
    this.drawLines();
  }

  // How many milliseconds without an event are a pause: somebody who holds an axis' end moves on.
  get rest() {
    return this.dragged ? 400 : 200;
  }

  // Of many lines at first a few, evenly from the worst to the best.
  drawLines() {
    clearTimeout(this.waiting);
    const rows = this.rows.filter((row) => this.kept[row]);
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const isLast = rows.length <= SAMPLE;
    const every = Math.ceil(rows.length / SAMPLE);
    this.stroke(this.context(this.lines), isLast ? rows : rows.filter((_, i) => i % every === 0), rows.length);
    if (isLast) this.drawn = performance.now();
    else this.waiting = setTimeout(() => this.drawAll(rows, turn), this.rest);
  }

  // Beside the canvas that is seen, and then all at once.
  drawAll(rows, turn) {
    this.spare ??= make("canvas", {});
    this.spare.width = this.lines.width;
    this.spare.height = this.lines.height;
    const context = this.context(this.spare);
    const strokeFrom = (start) => {
      if (turn !== this.turn) return;
      this.stroke(context, rows.slice(start, start + CHUNK), rows.length);
      if (start + CHUNK < rows.length) {
        requestAnimationFrame(() => strokeFrom(start + CHUNK));
        return;
      }
      const seen = this.context(this.lines);
      seen.globalAlpha = 1;
      seen.drawImage(this.spare, 0, 0, this.width, HEIGHT);
      this.drawn = performance.now();
    };
    strokeFrom(0);
  }

  // The rows' lines, worst first; `many` are as transparent as all of these need.
  stroke(context, rows, many) {
    const { heights } = this;
    const xs = this.axes.map((_, i) => this.x(i));
    context.globalAlpha = Math.min(1, Math.max(0.12, 150 / many));
    context.lineWidth = many > 500 ? 0.7 : 1.2;
    let now = -1;
    for (const row of rows) {
      if (this.shadeOf[row] !== now) {
        if (now >= 0) context.stroke();
        now = this.shadeOf[row];
        context.strokeStyle = this.shades[now];
        context.beginPath();
      }
      context.moveTo(xs[0], heights[0][row]);
      for (let k = 1; k < xs.length; k++) context.lineTo(xs[k], heights[k][row]);
    }
    if (now >= 0) context.stroke();
  }

  // Axes and their labels, which no brush changes.
  drawLabels() {
    const context = this.context(this.labels);
    const style = getComputedStyle(this.box);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    this.axes.forEach((axis, i) => {
      const x = this.x(i);
      context.strokeStyle = colour("--faint");
      context.strokeRect(x, PAD.top, 0, HEIGHT - PAD.top - PAD.bottom);
      const label = (text, y, fill) => {
        context.lineWidth = 4;
        context.strokeStyle = colour("--paper");
        context.strokeText(text, x, y, 2 * PAD.side);
        context.lineWidth = 1;
        context.fillStyle = colour(fill);
        context.fillText(text, x, y, 2 * PAD.side);
      };
      label(shortened(axis.column.name), i % 2 ? 26 : 12, "--ink");
      for (const [text, part] of ticks(axis)) label(text, this.y(part) + 4, "--faint");
      if (axis.parts.includes(-1)) label("none", this.y(-1) + 4, "--faint");
    });
  }

  drawMarks() {
    this.axes.forEach((axis, i) => {
      const mark = this.marks.children[i];
      const range = this.brushes.get(axis.column.name);
      mark.hidden = !range;
      if (!range) return;
      const inside = range.map((value) => Math.min(Math.max(value, axis.low), axis.high));
      const [bottom, top] = inside.map((value) => this.y(axis.part(value)));
      mark.style.left = `${this.x(i) - 9}px`;
      mark.style.top = `${top - 2}px`;
      mark.style.height = `${bottom - top + 4}px`;
    });
  }

  context(canvas) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, HEIGHT);
    return context;
  }

  // A drag along an axis keeps that range, a click on it keeps all.
  drag(kind, event) {
    const box = this.box.getBoundingClientRect();
    const at = (PAD.top - (event.clientY - box.top)) / (HEIGHT - PAD.top - PAD.bottom) + 1;
    if (kind === "pointerdown") {
      const near = this.axes.findIndex((_, i) => Math.abs(this.x(i) - (event.clientX - box.left)) < 22);
      if (near < 0) return;
      this.box.setPointerCapture(event.pointerId);
      this.dragged = { axis: this.axes[near], from: at, moved: false };
      return;
    }
    if (!this.dragged) return;
    const { axis, from } = this.dragged;
    this.dragged.moved ||= Math.abs(at - from) > 0.01;
    if (kind === "pointerup") {
      if (!this.dragged.moved) this.brushed(axis.column.name, null);
      this.dragged = null;
    } else if (this.dragged.moved) {
      this.brushed(axis.column.name, rangeBetween(axis, Math.min(from, at), Math.max(from, at)));
    }
  }
}

// Of words those that lie between the two ends.
function rangeBetween(axis, low, high) {
  if (!axis.column.words) return [axis.invert(low), axis.invert(high)];
  const last = axis.column.words.length - 1;
  return [Math.ceil(low * last), Math.floor(high * last)];
}

// Texts and where they stand: values that there are where these are few, else even steps.
function ticks(axis) {
  if (!Number.isFinite(axis.low)) return [];
  const { words } = axis.column;
  if (words) return spread(words.map((word, i) => [shortened(word), axis.part(i)]));
  const steps = axis.values.length <= 8 ? axis.values : [0, 0.25, 0.5, 0.75, 1].map(axis.invert);
  return spread(steps.map((value) => [brief(value, 3), axis.part(value)]));
}

// Those that leave the ones before them readable.
function spread(labels) {
  let before = -1;
  return labels.filter(([, part]) => part - before >= 0.06 && ((before = part), true));
}

function brief(value, digits) {
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  return size && (size < 1e-3 || size >= 1e6) ? rounded.toExponential() : String(rounded);
}

function shortened(text) {
  return text.length > 18 ? `${text.slice(0, 17)}…` : text;
}
