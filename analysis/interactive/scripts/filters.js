// --- filters: which trials a reader keeps

const BOUND = /^\s*(>=|<=|>|<|=)\s*([-+.\de]+)\s*$/i;
const RANGE = /^\s*([-+.\de]+)\s*\.\.\s*([-+.\de]+)\s*$/i;
const BOUNDS = {
  ">": (value, bound) => value > bound,
  ">=": (value, bound) => value >= bound,
  "<": (value, bound) => value < bound,
  "<=": (value, bound) => value <= bound,
  "=": (value, bound) => value === bound,
};

// What a field's filter says: > 0.5, 1..3, or a part of the text. null: it keeps everything.
function filterOf(column, text) {
  const said = text.trim().toLowerCase();
  if (!said) return null;
  const bound = !column.words && BOUND.exec(text);
  if (bound) return (row) => BOUNDS[bound[1]](column.value(row), Number(bound[2]));
  const range = !column.words && RANGE.exec(text);
  if (range) return rangeOf(column, [Number(range[1]), Number(range[2])]);
  return (row) => column.exact(row).toLowerCase().includes(said);
}

function rangeOf(column, [low, high]) {
  return (row) => {
    const value = column.value(row);
    return value >= low && value <= high;
  };
}

// For each row whether search, fields' filters and brushes all keep it.
function passing(trials, state) {
  const tests = [];
  for (const [name, text] of state.filters) {
    const column = trials.byName.get(name);
    const test = column && filterOf(column, text);
    if (test) tests.push(test);
  }
  for (const [name, range] of state.brushes) {
    const column = trials.byName.get(name);
    if (column) tests.push(rangeOf(column, range));
  }
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    const texts = trials.searched();
    tests.push((row) => words.every((word) => texts[row].includes(word)));
  }
  const kept = new Uint8Array(trials.size);
  for (let row = 0; row < trials.size; row++) kept[row] = tests.every((test) => test(row)) ? 1 : 0;
  return kept;
}
