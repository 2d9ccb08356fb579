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
  return (row) => lowered(column, row).includes(said);
}

function rangeOf({ numbers }, [low, high]) {
  return (row) => numbers[row] >= low && numbers[row] <= high;
}

// The text of a row, kept: to write a number takes longer than to look into the text.
function lowered(column, row) {
  column.lowered ??= [];
  return (column.lowered[row] ??= column.exact(row).toLowerCase());
}

// Which rows a reader keeps. The answers to each question are remembered for as long as it is asked,
// so that a range that moves is the only one that is looked at again.
class Filter {
  constructor(trials) {
    this.trials = trials;
    this.answers = new Map();
  }

  // For each row whether search, fields' filters and brushes all keep it.
  passing(state) {
    const { trials } = this;
    const asked = new Map();
    const ask = (question, test) => {
      const key = question.join("\n");
      if (test) asked.set(key, this.answers.get(key) ?? answersOf(trials.size, test));
    };
    for (const [name, text] of state.filters) {
      const column = trials.byName.get(name);
      if (column) ask(["filter", name, text], filterOf(column, text));
    }
    for (const [name, range] of state.brushes) {
      const column = trials.byName.get(name);
      if (column) ask(["range", name, ...range], rangeOf(column, range));
    }
    for (const word of state.search.toLowerCase().split(/\s+/).filter(Boolean)) {
      const texts = trials.searched();
      ask(["word", word], (row) => texts[row].includes(word));
    }
    this.answers = asked;
    const kept = new Uint8Array(trials.size).fill(1);
    for (const answers of asked.values()) {
      for (let row = 0; row < kept.length; row++) kept[row] &= answers[row];
    }
    return kept;
  }
}

function answersOf(size, test) {
  const answers = new Uint8Array(size);
  for (let row = 0; row < size; row++) answers[row] = test(row) ? 1 : 0;
  return answers;
}
