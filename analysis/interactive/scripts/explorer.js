// --- explorer: one for each launch, which links all of the above

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

class Explorer {
  constructor(place, text) {
    this.place = place;
    this.text = text;
    this.state = newState();
    this.parallel = new Parallel((name, range) => this.brush(name, range));
    this.curves = new Curves({
      metric: (name) => this.change(() => (this.state.metric = name)),
      hide: (names, hide) => this.change(() => {
        for (const name of names) hide ? this.state.hidden.add(name) : this.state.hidden.delete(name);
      }),
    });
    this.table = new TrialTable({
      sort: (name) => this.change(() => this.sort(name)),
      filter: (name, said) => this.change(() => {
        said ? this.state.filters.set(name, said) : this.state.filters.delete(name);
      }),
      choose: (name) => this.change(() => this.choose(name)),
    });
    this.comparison = new Comparison(() => this.change(() => (this.state.chosen = [])));
    this.search = make("input", { type: "search" });
    this.search.addEventListener("input", () => this.change(() => (this.state.search = this.search.value)));
    const all = make("button", { type: "button" }, "Keep all trials");
    all.addEventListener("click", () => this.change(() => {
      Object.assign(this.state, { search: "", filters: new Map(), brushes: new Map() });
    }));
    this.told = make("output", {});
    const label = make("label", {}, "Search trials", this.search);
    const controls = make("div", { className: "controls" }, label, all, this.told);
    const parts = [this.parallel, this.curves, this.table, this.comparison];
    place.replaceChildren(controls, ...parts.map((part) => part.element));
  }

  // Reads the chart's JSON and draws it; what the reader has chosen stays.
  async update(text = this.text) {
    this.text = text;
    const data = typeof text === "string" ? JSON.parse(text) : text;
    const trials = await readTrials(data);
    if (text !== this.text) return;
    const first = !this.trials;
    [this.data, this.trials, this.filter] = [data, trials, new Filter(trials)];
    this.parallel.element.hidden = !data.parallel;
    for (const part of [this.parallel, this.table]) part.set(trials);
    this.curves.set(trials, data.curves);
    if (first) this.state = readState(this.place.id, trials) ?? this.state;
    this.sorted = null;
    this.parallel.resize();
    await this.draw(true);
    // Before anybody types, so that the first letter is as quick as the others.
    setTimeout(() => trials.searched(), 100);
  }

  // A range of words that holds none of them is ignored.
  brush(name, range) {
    this.change(() => {
      if (range && !(range[0] > range[1])) this.state.brushes.set(name, range);
      else this.state.brushes.delete(name);
    });
  }

  sort(name) {
    const { state } = this;
    if (state.sort !== name) [state.sort, state.descending] = [name, false];
    else if (!state.descending) state.descending = true;
    else [state.sort, state.descending] = ["", false];
    this.sorted = null;
  }

  choose(name) {
    const { chosen } = this.state;
    const others = chosen.filter((one) => one !== name);
    this.state.chosen = others.length < chosen.length ? others : [...others, name].slice(-2);
  }

  change(act) {
    if (!this.trials) return;
    act();
    this.draw(false);
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      const hash = written(this.place.id, this.state, this.trials);
      history.replaceState(null, "", hash || `#${this.place.id}`);
    }, 200);
  }

  // Filters at once; curves when the reader pauses, since they take longer.
  async draw(isWhole) {
    const { trials, state } = this;
    const kept = this.filter.passing(state);
    const by = trials.byName.get(state.sort);
    this.sorted ??= by ? sorted(trials.ranked, by, state.descending) : trials.ranked;
    const rows = this.sorted.filter((row) => kept[row]);
    if (this.search !== document.activeElement) this.search.value = state.search;
    const number = (many) => many.toLocaleString("en");
    this.told.value = `${number(rows.length)} of ${number(trials.size)} trials`;
    this.table.draw(rows, state);
    if (!this.parallel.element.hidden) this.parallel.draw(kept, state.brushes);
    const slow = async () => {
      this.table.settle();
      const chosen = state.chosen.map((name) => trials.rowOf.get(name)).filter((row) => row >= 0);
      await this.curves.draw(chosen.length ? chosen : rows, state);
      await this.comparison.draw(trials, this.data.predictions, chosen.map((row) => trials.names[row]));
      this.drawn = (this.drawn ?? 0) + 1;
    };
    clearTimeout(this.waiting);
    if (isWhole) await slow();
    else this.waiting = setTimeout(slow, 100 + this.parallel.rest);
  }
}

const sheet = new CSSStyleSheet();
sheet.replaceSync(SHEET);
document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];

// sweepsCharts[NAME].update(data) draws a chart from new data: JSON, or the object it holds.
window.sweepsCharts ??= {};

// The chart of a place, which is drawn when a reader comes near it.
function chartOf(place) {
  const stored = document.getElementById(`${place.id}-data`);
  let made = null;
  let begun = null;
  const chart = {
    // Once it is drawn.
    get explorer() {
      return made;
    },
    begin() {
      return (begun ??= (made = new Explorer(place, stored.textContent)).update());
    },
    update(data) {
      if (made) return made.update(data);
      stored.textContent = typeof data === "string" ? data : JSON.stringify(data);
      return Promise.resolve();
    },
    async arrive() {
      if (location.hash.slice(1).split("?")[0] !== place.id) return;
      for (let at = place; (at = at.parentElement?.closest("details")); ) at.open = true;
      await chart.begin();
      const state = readState(place.id, made.trials);
      if (state) Object.assign(made, { state, sorted: null });
      await made.draw(true);
      place.closest("figure").scrollIntoView();
    },
  };
  place.closest("figure").hidden = false;
  const observer = new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting)) return;
    observer.disconnect();
    chart.begin();
  }, { rootMargin: "400px" });
  observer.observe(place);
  chart.arrive();
  return chart;
}

function findCharts(within) {
  for (const place of within.querySelectorAll(".explorer")) {
    window.sweepsCharts[place.id] = chartOf(place);
  }
}

findCharts(document);
addEventListener("hashchange", () => {
  for (const chart of Object.values(window.sweepsCharts)) chart.arrive();
});
// What a page of a running sweep says of an element whose content is new, or that is new itself.
document.addEventListener("report:changed", ({ target, detail }) => {
  const [, name] = /^(.*)-data$/s.exec(target.id) ?? [];
  if (name in window.sweepsCharts) window.sweepsCharts[name].update(target.textContent);
  else if (detail.replaced) findCharts(target);
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const { explorer } of Object.values(window.sweepsCharts)) {
    explorer?.curves.repaint();
    explorer?.parallel.set(explorer.trials);
    explorer?.draw(true);
  }
});
