// --- address: what a reader has chosen, behind the page's #, so that a link leads back to it

function newState() {
  return {
    search: "", filters: new Map(), brushes: new Map(), chosen: [], hidden: new Set(),
    metric: "", sort: "", descending: false,
  };
}

function written(id, state, trials) {
  const said = new URLSearchParams();
  if (state.search) said.set("search", state.search);
  if (state.metric) said.set("metric", state.metric);
  if (state.sort) said.set(state.descending ? "descending" : "ascending", state.sort);
  for (const [name, text] of state.filters) if (text) said.set(`filter.${name}`, text);
  for (const [name, range] of state.brushes) {
    const { words } = trials.byName.get(name);
    ["min.", "max."].forEach((end, i) => {
      const value = words ? words[range[i]] : Number.isFinite(range[i]) && range[i];
      if (value !== false && value !== undefined) said.set(end + name, value);
    });
  }
  for (const name of state.chosen) said.append("trial", name);
  for (const name of state.hidden) said.append("hidden", name);
  return said.size ? `#${id}?${said}` : "";
}

// null where the address speaks of something else. What it names and this page has not is ignored.
function readState(id, trials) {
  const [about, query] = location.hash.slice(1).split(/\?(.*)/s);
  if (about !== id || query === undefined) return null;
  const state = newState();
  for (const [key, value] of new URLSearchParams(query)) {
    const [, kind, name] = /^(?:(filter|min|max)\.)?(.*)$/s.exec(key);
    if (kind && trials.byName.has(name)) readField(state, kind, trials.byName.get(name), value);
    else if (key === "search" || key === "metric") state[key] = value;
    else if (key === "ascending" || key === "descending") {
      if (trials.byName.has(value)) [state.sort, state.descending] = [value, key === "descending"];
    } else if (key === "trial" && trials.rowOf.has(value)) state.chosen.push(value);
    else if (key === "hidden") state.hidden.add(value);
  }
  state.chosen = [...new Set(state.chosen)].slice(0, 2);
  return state;
}

function readField(state, kind, column, value) {
  if (kind === "filter") {
    state.filters.set(column.name, value);
    return;
  }
  const number = column.words ? column.words.indexOf(value) : Number(value);
  if (Number.isNaN(number) || (column.words && number < 0)) return;
  const range = state.brushes.get(column.name) ?? [-Infinity, Infinity];
  range[kind === "min" ? 0 : 1] = number;
  state.brushes.set(column.name, range);
}
