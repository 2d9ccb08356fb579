// --- curves: a metric over epochs or steps, a line for each trial, drawn by Bokeh

const MOST_LINES = 100;
// Okabe and Ito's, which people with any colour vision tell apart, without the pale ones.
const FEW = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a6d3b", "#7f7f7f"];

// What was logged, decoded when it is asked for: `of(row, metric)` gives its points.
class LoggedCurves {
  constructor(stored) {
    this.stored = stored;
    this.metrics = stored.metrics;
    this.values = new Map();
  }

  async read(metric) {
    this.groups ??= Promise.all([this.stored.exact, this.stored.sampled].filter(Boolean).map(groupOf));
    this.places ??= new Map((await this.groups).flatMap((group) => [...group.places]));
    const at = this.metrics.indexOf(metric);
    if (at >= 0 && !this.values.has(metric)) {
      const groups = await this.groups;
      this.values.set(metric, await Promise.all(groups.map((group) => valuesOf(group, at))));
    }
  }

  has(row) {
    return this.places.has(row);
  }

  isExact(row) {
    return this.places.get(row).group === 0;
  }

  async of(row, metric) {
    const place = this.places.get(row);
    if (!place) return { at: [], values: [] };
    const groups = await this.groups;
    const value = this.values.get(metric)[place.group];
    const found = { at: [], values: [] };
    for (let i = place.start; i < place.end; i++) {
      const number = value(i, place.nth);
      if (!Number.isFinite(number)) continue;
      found.at.push(groups[place.group].at[i]);
      found.values.push(number);
    }
    return found;
  }
}

async function groupOf(stored, group) {
  const [rows, lengths, at] = await Promise.all([stored.rows, stored.lengths, stored.at].map(unpack));
  const places = new Map();
  let start = 0;
  rows.forEach((row, nth) => {
    places.set(row, { group, nth, start, end: start + lengths[nth] });
    start += lengths[nth];
  });
  return { stored, places, at };
}

// A function of a point and of its trial.
async function valuesOf(group, metric) {
  const stored = group.stored.values[metric];
  if (stored.type) {
    const numbers = await unpack(stored);
    return (i) => numbers[i];
  }
  const [low, span, codes] = await Promise.all([stored.low, stored.span, stored.codes].map(unpack));
  const rounded = (i, nth) => Number((low[nth] + (codes[i] / 65534) * span[nth]).toPrecision(6));
  return (i, nth) => (codes[i] === 65535 ? NaN : rounded(i, nth));
}

class Curves {
  // `changed.metric(name)` and `changed.hide(trials, whether)`.
  constructor(changed) {
    this.changed = changed;
    this.metric = make("select", {});
    this.metric.addEventListener("input", () => changed.metric(this.metric.value));
    this.told = make("output", {});
    const zoom = (text, label, factor) => this.button(text, label, () => this.zoom(factor));
    const controls = make(
      "div", { className: "controls" },
      make("label", {}, "Curves of", this.metric),
      zoom("+", "Zoom in", 0.6), zoom("−", "Zoom out", 1 / 0.6),
      this.button("Reset zoom", "Reset zoom", () => this.plot.reset.emit()),
      this.button("Show all", "Show all curves", () => changed.hide(this.listed, false)),
      this.button("Hide all", "Hide all curves", () => changed.hide(this.listed, true)),
      this.told,
    );
    this.place = make("div", { className: "plot" });
    this.legend = make("ul", { className: "legend" });
    this.element = make("div", { className: "curves" }, controls, this.place, this.legend);
    this.listed = [];
  }

  button(text, label, act) {
    const made = make("button", { type: "button" }, text);
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  }

  set(trials, stored) {
    this.trials = trials;
    this.logged = new LoggedCurves(stored);
    const options = stored.metrics.map((name) => make("option", { value: name }, name));
    this.metric.replaceChildren(...options);
    this.by = stored.by;
    this.element.hidden = stored.metrics.length === 0;
    if (this.plot) this.plot.below[0].axis_label = this.by;
  }

  // The lines of the rows that have any, the first ones of them, without those that are hidden.
  async draw(rows, state) {
    if (this.element.hidden) return;
    if (typeof Bokeh === "undefined") {
      this.element.replaceChildren(
        make("p", {}, "No curves: the report was written without Bokeh. Install it by "),
        make("code", {}, "pip install 'sweeps-hpc[report]'"), " and write the report again.",
      );
      return;
    }
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const metric = this.logged.metrics.includes(state.metric) ? state.metric : this.logged.metrics[0];
    this.metric.value = metric;
    await this.logged.read(metric);
    const drawable = rows.filter((row) => this.logged.has(row));
    const lines = drawable.slice(0, MOST_LINES);
    this.listed = lines.map((row) => this.trials.names[row]);
    const colours = lines.map((_, i) => colourOf(i, lines.length));
    const visible = lines.map((row, i) => [row, colours[i]]);
    // The first ones are drawn last, over all others.
    const shown = visible.reverse().filter(([row]) => !state.hidden.has(this.trials.names[row]));
    const curves = await Promise.all(shown.map(([row]) => this.logged.of(row, metric)));
    if (turn !== this.turn) return;
    const few = drawable.length > lines.length ? `the first ${lines.length} of ` : "";
    const part = lines.some((row) => !this.logged.isExact(row)) ? ", in part rounded to 16 bits" : "";
    this.told.value = `${few}${drawable.length.toLocaleString("en")} curves${part}`;
    this.list(lines, colours, state);
    this.plot ??= this.begin();
    this.lines.data = {
      xs: curves.map((one) => one.at),
      ys: curves.map((one) => one.values),
      colour: shown.map(([, colour]) => colour),
    };
    this.points.data = this.pointsOf(curves, shown);
  }

  // A column for each property; ten thousand points are not made objects of their own.
  pointsOf(curves, shown) {
    const points = { x: [], y: [], trial: [], at: [], stored: [], colour: [], alpha: [] };
    curves.forEach(({ at, values }, i) => {
      const [row, colour] = shown[i];
      const alpha = at.length === 1 ? 1 : 0; // a curve of one point is not a line
      for (let k = 0; k < at.length; k++) {
        points.x.push(at[k]);
        points.y.push(values[k]);
        points.trial.push(this.trials.names[row]);
        points.at.push(String(at[k]));
        points.stored.push(String(values[k]));
        points.colour.push(colour);
        points.alpha.push(alpha);
      }
    });
    return points;
  }

  list(lines, colours, state) {
    const names = lines.map((row) => this.trials.names[row]);
    if (this.names?.join("\n") !== names.join("\n")) {
      this.names = names;
      this.legend.replaceChildren(...names.map((name, i) => this.entry(name, colours[i])));
    }
    for (const box of this.legend.querySelectorAll("input")) box.checked = !state.hidden.has(box.value);
  }

  entry(name, colour) {
    const box = make("input", { type: "checkbox", value: name });
    box.addEventListener("change", () => this.changed.hide([name], !box.checked));
    const sign = make("span", { className: "sign" });
    sign.style.background = colour;
    return make("li", {}, make("label", {}, box, sign, name));
  }

  zoom(factor) {
    for (const range of [this.plot.x_range, this.plot.y_range]) {
      const middle = (range.start + range.end) / 2;
      const half = ((range.end - range.start) / 2) * factor;
      range.setv({ start: middle - half, end: middle + half });
    }
  }

  begin() {
    const of = (name, properties) => new (Bokeh.Models.get(name))(properties);
    const style = getComputedStyle(this.place);
    const [ink, faint, line, paper] = ["--ink", "--faint", "--line", "--paper"].map((name) =>
      style.getPropertyValue(name).trim(),
    );
    const axis = (label) => of("LinearAxis", {
      axis_label: label, axis_label_text_color: ink, major_label_text_color: faint,
      axis_line_color: faint, major_tick_line_color: faint, minor_tick_line_color: null,
    });
    this.lines = of("ColumnDataSource", { data: { xs: [], ys: [], colour: [] } });
    const empty = { x: [], y: [], trial: [], at: [], stored: [], colour: [], alpha: [] };
    this.points = of("ColumnDataSource", { data: empty });
    const curves = of("MultiLine", {
      xs: { field: "xs" }, ys: { field: "ys" }, line_color: { field: "colour" }, line_width: { value: 1.5 },
    });
    const dot = (alpha) => of("Scatter", {
      x: { field: "x" }, y: { field: "y" }, size: { value: 9 }, line_color: { value: null },
      fill_color: { field: "colour" }, fill_alpha: alpha,
    });
    const dots = of("GlyphRenderer", {
      data_source: this.points, glyph: dot({ field: "alpha" }), hover_glyph: dot({ value: 1 }),
    });
    const tooltips = [["trial", "@trial"], [this.by, "@at"], ["value", "@stored"]];
    const zoom = of("BoxZoomTool");
    const tools = [
      of("HoverTool", { renderers: [dots], tooltips, limit: 5 }), zoom, of("PanTool"),
      of("WheelZoomTool"), of("ResetTool"),
    ];
    const plot = of("Plot", {
      x_range: of("DataRange1d"), y_range: of("DataRange1d"), height: 360,
      sizing_mode: "stretch_width", background_fill_color: paper, border_fill_color: paper,
      outline_line_color: line,
      toolbar: of("Toolbar", { tools, active_drag: zoom, logo: null }),
    });
    // No metric's name stands here: Bokeh would take a part of it for a formula.
    [axis(this.by), axis(null)].forEach((made, dimension) => {
      plot.add_layout(made, ["below", "left"][dimension]);
      plot.add_layout(of("Grid", { axis: made, dimension, grid_line_color: line }));
    });
    plot.add_renderers(of("GlyphRenderer", { data_source: this.lines, glyph: curves }), dots);
    Bokeh.logger.set_level("error"); // set_log_level writes a line, and no curves are a warning
    const page = new (Bokeh.require("document").Document)();
    page.add_root(plot);
    Bokeh.embed.add_document_standalone(page, this.place);
    return plot;
  }

  // In the colours of the paper as they are now.
  repaint() {
    if (!this.plot) return;
    this.plot.document.clear();
    this.place.replaceChildren();
    this.plot = null;
  }
}

function colourOf(i, lines) {
  return lines <= FEW.length ? FEW[i] : shade(i / (lines - 1));
}
