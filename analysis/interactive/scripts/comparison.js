// --- comparison: what differs between two trials

const MOST_IMAGES = 60;

class Comparison {
  constructor(clear) {
    this.clear = clear;
    this.element = make("div", { className: "comparison" });
    this.element.setAttribute("aria-live", "polite");
  }

  async draw(trials, predictions, chosen) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const rows = chosen.map((name) => trials.rowOf.get(name));
    if (rows.length < 2) {
      const said = rows.length
        ? `${chosen[0]} is chosen. Choose a second trial to compare it with.`
        : "Choose two trials in the table to compare them.";
      this.element.replaceChildren(make("p", {}, said));
      return;
    }
    const button = make("button", { type: "button" }, "End the comparison");
    button.addEventListener("click", this.clear);
    const title = make("p", {}, make("b", {}, `${chosen[0]} and ${chosen[1]}`), " ", button);
    const predicted = predictions ? await differing(predictions, rows) : null;
    if (turn !== this.turn) return;
    this.element.replaceChildren(
      title, fieldsOf(trials, rows, chosen), ...(predicted ? saidOf(predicted) : [
        make("p", {}, "Their predictions can't be compared: the page doesn't have both."),
      ]),
    );
  }
}

// A row for each setting that differs, and for each outcome.
function fieldsOf(trials, rows, chosen) {
  const settings = trials.columns.filter((c) => ["axis", "field"].includes(c.role) || c.name === "seed");
  const outcomes = trials.columns.filter((c) => ["objective", "metric"].includes(c.role));
  const differ = settings.filter((c) => c.exact(rows[0]) !== c.exact(rows[1]));
  const line = (kind) => (column) => {
    const [a, b] = rows.map((row) => column.exact(row));
    return make("tr", {}, ...[column.name, kind, a, b].map((text) => make("td", {}, text)));
  };
  const heads = ["", "", ...chosen].map((text) => make("th", { scope: "col" }, text));
  const none = make("tr", {}, make("td", { colSpan: 4 }, "All settings are the same."));
  const body = make(
    "tbody", {}, ...(differ.length ? differ.map(line("setting")) : [none]), ...outcomes.map(line("outcome")),
  );
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  return make("div", { className: "scroll" }, table);
}

async function differing(stored, rows) {
  const places = rows.map((row) => stored.rows.indexOf(row));
  if (places.includes(-1)) return null;
  const [a, b, labels, index] = await Promise.all(
    [stored.predicted[places[0]], stored.predicted[places[1]], stored.labels, stored.index].map(unpack),
  );
  const found = [];
  for (let i = 0; i < labels.length; i++) {
    if (a[i] !== b[i]) found.push({ index: index[i], label: labels[i], a: a[i], b: b[i] });
  }
  return { found, of: labels.length, classes: stored.classes, data: stored.data };
}

function saidOf({ found, of, classes, data }) {
  const number = (many) => many.toLocaleString("en");
  const right = (side) => found.filter((one) => one[side] === one.label).length;
  const said =
    `They predict different classes for ${number(found.length)} of ${number(of)} examples. ` +
    `Of these the first is right about ${number(right("a"))}, the second about ${number(right("b"))}.`;
  const items = found.slice(0, MOST_IMAGES).map((one) => {
    const text = `${one.index}: ${classes[one.label]} → ${classes[one.a]}, ${classes[one.b]}`;
    const image = imageOf(data, one.index);
    return make("li", {}, ...(image ? [image] : []), make("span", {}, text));
  });
  const more = found.length > items.length ? ` The first ${items.length} are shown.` : "";
  const read = "Each with its place in the test set: true class → the first's, the second's.";
  return [
    make("p", {}, said), ...(items.length ? [make("p", { className: "footnote" }, read + more)] : []),
    make("ul", { className: "differing" }, ...items),
  ];
}

// The example's image, where a gallery of the page has it: one of the same data set.
function imageOf(data, index) {
  if (!data) return null;
  for (const gallery of document.querySelectorAll("figure.gallery[data-set]")) {
    if (gallery.dataset.set !== data) continue;
    const found = gallery.querySelector(`li[data-index="${index}"] img`);
    if (found) return make("img", { src: found.src, alt: `test image ${index}`, width: 48, height: 48 });
  }
  return null;
}
