// --- decode: reads what packed.py and columns.py write

const ARRAYS = {
  f64: Float64Array,
  f32: Float32Array,
  u32: Uint32Array,
  u16: Uint16Array,
  u8: Uint8Array,
};

async function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const buffer = await new Response(inflated).arrayBuffer();
  if (packed.type === "json") return JSON.parse(new TextDecoder().decode(buffer));
  return new ARRAYS[packed.type](buffer);
}

const MISSING = "-";

// A column as all else uses it: `numbers` order the rows (of words: their places), NaN for none, and
// `value(row)` is one of them; `text(row)` is what a reader sees.
async function readColumn(stored) {
  const column = { name: stored.name, role: stored.role, log: stored.log === true };
  if (stored.numbers) {
    const numbers = await unpack(stored.numbers);
    const exact = (row) => (Number.isNaN(numbers[row]) ? MISSING : String(numbers[row]));
    return Object.assign(column, {
      words: null,
      numbers,
      value: (row) => numbers[row],
      exact,
      text: (row) => (Number.isNaN(numbers[row]) ? MISSING : String(+numbers[row].toPrecision(6))),
    });
  }
  const [words, codes] = await Promise.all([unpack(stored.words), unpack(stored.codes)]);
  const text = (row) => (codes[row] ? words[codes[row] - 1] : MISSING);
  const numbers = Float64Array.from(codes, (code) => (code ? code - 1 : NaN));
  return Object.assign(column, { words, numbers, value: (row) => numbers[row], text, exact: text });
}

// The trials of a launch. `ranked` are their rows, best first; `place[row]` is where a row stands
// among them, from 0 to 1, NaN for one without a value.
async function readTrials(data) {
  const [names, columns] = await Promise.all([
    unpack(data.names),
    Promise.all(data.columns.map(readColumn)),
  ]);
  const named = {
    name: "trial", role: "about", log: false, words: names, numbers: Float64Array.from(names.keys()),
    value: (row) => row, text: (row) => names[row], exact: (row) => names[row],
  };
  const trials = { names, columns: [named, ...columns], size: names.length };
  trials.byName = new Map(trials.columns.map((column) => [column.name, column]));
  trials.rowOf = new Map(names.map((name, row) => [name, row]));
  const objective = columns.find((column) => column.role === "objective");
  const rows = Array.from(names.keys());
  trials.ranked = objective ? sorted(rows, objective, data.direction === "maximize") : rows;
  trials.place = new Float64Array(names.length).fill(NaN);
  const valued = trials.ranked.filter((row) => objective && !Number.isNaN(objective.value(row)));
  valued.forEach((row, i) => (trials.place[row] = i / Math.max(valued.length - 1, 1)));
  trials.searched = () => (trials.texts ??= names.map((_, row) => searchedText(trials, row)));
  return trials;
}

const order = new Intl.Collator("en", { numeric: true }).compare;

// A copy of the rows, by a column; those without a value last.
function sorted(rows, column, descending) {
  const sign = descending ? -1 : 1;
  if (!column.words) return Array.from(rows).sort((a, b) => compared(column, a, b, sign));
  const places = new Map([...column.words].sort(order).map((word, place) => [word, place]));
  const of = (row) => places.get(column.text(row)) ?? Infinity;
  return Array.from(rows).sort((a, b) => sign * (of(a) - of(b)) || 0);
}

function compared(column, a, b, sign) {
  const [left, right] = [column.value(a), column.value(b)];
  const missing = Number.isNaN(left) - Number.isNaN(right);
  return missing || sign * (left - right) || 0;
}

function searchedText(trials, row) {
  return trials.columns.map((c) => `${c.name}=${c.exact(row)}`).join(" ").toLowerCase();
}
