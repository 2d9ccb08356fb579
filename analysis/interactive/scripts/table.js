// --- table: every trial that is kept; only the rows that can be seen are elements. Out of sight it
// follows when the reader pauses.

const ROW = 31; // pixels, as the style sheet has it
const SPARE = 2; // rows above and below

class TrialTable {
  // `changed.sort(name)`, `changed.filter(name, text)` and `changed.choose(trial)`.
  constructor(changed) {
    this.changed = changed;
    this.head = make("thead", {});
    this.body = make("tbody", {});
    this.widths = make("colgroup", {});
    this.table = make("table", {}, this.widths, this.head, this.body);
    this.element = make("div", { className: "scroll trials", tabIndex: 0 }, this.table);
    this.element.setAttribute("role", "region");
    this.element.setAttribute("aria-label", "Trials");
    this.element.addEventListener("scroll", () => this.render());
    this.body.addEventListener("pointerover", ({ target }) => this.tell(target.closest("td")));
    new ResizeObserver(() => this.rows && this.render()).observe(this.element);
    this.isSeen = true;
    const observer = new IntersectionObserver((seen) => {
      this.isSeen = seen.at(-1).isIntersecting;
      if (this.isSeen) this.settle();
    });
    observer.observe(this.element);
  }

  set(trials) {
    this.trials = trials;
    this.table.setAttribute("aria-rowcount", trials.size + 1);
    const sample = trials.ranked.slice(0, 200);
    const cols = trials.columns.map((column) => {
      const longest = Math.max(...sample.map((row) => column.text(row).length), 6);
      const col = make("col", {});
      col.style.width = `${Math.min(Math.max(longest, column.name.length + 2), 44) * 0.62 + 1.5}em`;
      return col;
    });
    const first = make("col", {});
    first.style.width = "5.5em";
    this.widths.replaceChildren(first, ...cols);
    this.spaces = [this.space(), this.space()];
    this.pool = [];
    this.body.replaceChildren(...this.spaces);
    this.heads = new Map();
    const choose = make("th", { scope: "col" }, "compare");
    this.head.replaceChildren(
      make("tr", {}, choose, ...trials.columns.map((column) => this.headOf(column))),
    );
  }

  headOf(column) {
    const button = make("button", { type: "button" }, column.name);
    button.addEventListener("click", () => this.changed.sort(column.name));
    const input = make("input", { type: "text", placeholder: column.words ? "filter" : "> 0, 1..3" });
    input.setAttribute("aria-label", `Filter ${column.name}`);
    input.addEventListener("input", () => this.changed.filter(column.name, input.value));
    const head = make("th", { scope: "col", className: column.words ? "" : "number" }, button, input);
    this.heads.set(column.name, { head, input });
    return head;
  }

  draw(rows, state) {
    [this.rows, this.state] = [rows, state];
    for (const [name, { head, input }] of this.heads) {
      if (input !== document.activeElement) input.value = state.filters.get(name) ?? "";
      head.removeAttribute("aria-sort");
      const way = state.descending ? "descending" : "ascending";
      if (name === state.sort) head.setAttribute("aria-sort", way);
    }
    this.isBehind = true;
    if (this.isSeen) this.settle();
  }

  settle() {
    if (this.isBehind) this.render();
  }

  // Rows are used again: to make them anew takes longer than to fill them.
  render() {
    const { rows, element } = this;
    this.isBehind = false;
    const seen = Math.ceil(element.clientHeight / ROW) + 2 * SPARE;
    const first = Math.max(0, Math.min(Math.floor(element.scrollTop / ROW) - SPARE, rows.length - seen));
    const last = Math.min(first + seen, rows.length);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.value : null;
    while (this.pool.length < last - first) this.pool.push(this.emptyRow());
    this.pool.splice(last - first).forEach(({ tr }) => tr.remove());
    this.pool.forEach((made, i) => this.fill(made, rows[first + i], first + i));
    const [above, below] = this.spaces;
    for (const [space, number] of [[above, first], [below, rows.length - last]]) {
      space.hidden = number === 0;
      space.style.height = `${number * ROW}px`;
    }
    const again = focused !== null && this.pool.find(({ box }) => box.value === focused);
    if (again) again.box.focus({ preventScroll: true });
  }

  space() {
    const row = make("tr", { className: "space" }, make("td", { colSpan: this.trials.columns.length + 1 }));
    row.setAttribute("aria-hidden", "true");
    return row;
  }

  emptyRow() {
    const box = make("input", { type: "checkbox" });
    box.addEventListener("change", () => this.changed.choose(box.value));
    const cells = this.trials.columns.map(({ words }) => make("td", { className: words ? "" : "number" }, ""));
    const tr = make("tr", {}, make("td", {}, box), ...cells);
    this.spaces[1].before(tr);
    return { tr, box, cells, row: null };
  }

  fill(made, row, at) {
    const { trials } = this;
    const { tr, box, cells } = made;
    box.checked = this.state.chosen.includes(trials.names[row]);
    tr.setAttribute("aria-rowindex", at + 2);
    if (made.row === row) return;
    made.row = row;
    box.value = trials.names[row];
    box.setAttribute("aria-label", `Compare ${box.value}`);
    cells.forEach((cell, i) => (cell.firstChild.data = trials.columns[i].text(row)));
  }

  // The stored value of the cell that the mouse points at.
  tell(cell) {
    const made = this.pool.find(({ tr }) => tr === cell?.parentElement);
    const column = made && this.trials.columns[made.cells.indexOf(cell)];
    if (column) cell.title = column.exact(made.row);
  }
}
