"use strict";
// Sorts and filters tables, filters galleries, enlarges figures, opens what a link leads to. The page
// is complete without it.
(() => {
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const order = new Intl.Collator("en", { numeric: true }).compare;

  // A line of controls that ends in "n of m", which `show` keeps up to date.
  const bar = (items, controls, shows) => {
    const told = make("output", {});
    const show = () => {
      for (const item of items) item.hidden = !shows(item);
      told.value = `${items.filter((item) => !item.hidden).length} of ${items.length}`;
    };
    const labels = Object.entries(controls).map(([name, control]) => {
      control.addEventListener("input", show);
      return make("label", {}, name, control);
    });
    show();
    return make("div", { className: "controls" }, ...labels, told);
  };

  // --- what folds out

  const folds = () => [...document.querySelectorAll("details")];

  const name = (hash) => {
    try {
      return decodeURIComponent(hash.slice(1));
    } catch {
      return ""; // somebody typed it
    }
  };
  const reveal = (hash) => {
    const target = document.getElementById(name(hash));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    return target;
  };
  const arrive = () => reveal(location.hash)?.scrollIntoView();
  addEventListener("hashchange", arrive);
  // Before the browser follows it: also where the address already ends in it.
  document.addEventListener("click", ({ target }) => {
    const link = target.closest("a[href^='#']");
    if (link) reveal(link.hash);
  });
  if (location.hash) arrive();

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds().filter((fold) => !fold.open);
    for (const fold of closed) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of closed) fold.open = false;
  });

  if (folds().length > 1) {
    const all = make("button", { type: "button" }, "Open all sections");
    all.addEventListener("click", () => {
      const open = folds().some((fold) => !fold.open);
      for (const fold of folds()) fold.open = open;
      all.textContent = open ? "Close all sections" : "Open all sections";
    });
    folds()[0].before(make("div", { className: "controls" }, all));
  }

  // --- tables

  // In words, where a table is wider than its box.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const box = target.closest(".scroll");
      const more = box.parentElement.querySelector(".more");
      more.hidden = box.scrollWidth <= box.clientWidth;
    }
  });
  const hint = (box) => {
    const more = make("span", { className: "more", hidden: true }, " Scroll sideways for more \u2192");
    box.parentElement.querySelector("figcaption").append(more);
    watch.observe(box);
    watch.observe(box.firstElementChild);
  };

  const MISSING = new Set(["", "-"]);

  // The number that a cell begins with: 95.50 of "95.50 ± 0.12".
  const number = (text) => {
    const start = text.split(" ")[0].replaceAll(",", "");
    return Number(start.replace("inf", "Infinity"));
  };

  const compare = (a, b, column, direction) => {
    const [left, right] = [a, b].map((row) => row.cells[column].textContent);
    const missing = MISSING.has(left) - MISSING.has(right);
    if (missing || MISSING.has(left)) return missing; // last either way
    if (!a.cells[column].classList.contains("number")) return direction * order(left, right);
    return direction * Math.sign(number(left) - number(right) || 0);
  };

  const sorts = (table) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    const turns = { ascending: "descending", descending: null };

    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = now ? turns[now] : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        const direction = next === "descending" ? -1 : 1;
        const sorted = next ? [...rows].sort((a, b) => compare(a, b, column, direction)) : rows;
        body.append(...sorted);
      });
      head.append(button);
    });

    if (rows.length > 8) {
      const box = make("input", { type: "search" });
      const shows = (row) => {
        const text = [...row.cells].map((cell) => cell.textContent).join("\n").toLowerCase();
        return box.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
      };
      table.parentElement.before(bar(rows, { "Filter rows": box }, shows));
    }
  };

  // --- galleries

  const filters = (list) => {
    const samples = [...list.children];
    const choice = (key) => {
      const names = [...new Set(samples.map((sample) => sample.dataset[key]))].sort(order);
      const options = names.map((name) => make("option", { value: `=${name}` }, name));
      const all = make("option", { value: "" }, "all");
      return make("select", {}, all, ...options);
    };
    const actual = choice("true");
    const predicted = choice("predicted");
    const fits = (select, name) => select.value === "" || select.value === `=${name}`;
    const shows = ({ dataset }) => fits(actual, dataset.true) && fits(predicted, dataset.predicted);
    const controls = { "True class": actual, "Predicted class": predicted };
    list.before(bar(samples, controls, shows));
  };

  // --- figures

  const image = make("img", { alt: "", draggable: false });
  const stage = make("div", { className: "stage" }, image);
  const caption = make("p", { id: "enlarged" });
  const level = make("output", {});
  let scale, x, y;

  const place = () => {
    // No further than to the picture's edge.
    const reach = (size) => (size * (scale - 1)) / 2;
    x = Math.min(Math.max(x, -reach(stage.clientWidth)), reach(stage.clientWidth));
    y = Math.min(Math.max(y, -reach(stage.clientHeight)), reach(stage.clientHeight));
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    level.value = `${Math.round(100 * scale)} %`;
  };
  const reset = () => {
    [scale, x, y] = [1, 0, 0];
    place();
  };
  const pan = (right, down) => {
    x += right;
    y += down;
    place();
  };
  // `right` and `down`: from the middle of the stage to the point that stays where it is.
  const zoom = (factor, right = 0, down = 0) => {
    const next = Math.min(Math.max(scale * factor, 1), 20);
    x = right - ((right - x) * next) / scale;
    y = down - ((down - y) * next) / scale;
    scale = next;
    place();
  };

  const button = (text, label, act) => {
    const made = make("button", { type: "button", title: label }, text);
    made.setAttribute("aria-label", label);
    made.addEventListener("click", act);
    return made;
  };
  const dialog = make(
    "dialog",
    {},
    make(
      "div",
      { className: "controls" },
      button("\u2212", "Zoom out (-)", () => zoom(1 / 1.5)),
      button("+", "Zoom in (+)", () => zoom(1.5)),
      button("Whole figure", "Whole figure (0)", reset),
      level,
      button("Close", "Close (Esc)", () => dialog.close()),
    ),
    stage,
    caption,
  );
  dialog.setAttribute("aria-labelledby", caption.id);

  const keys = {
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: reset,
    ArrowLeft: () => pan(60, 0),
    ArrowRight: () => pan(-60, 0),
    ArrowUp: () => pan(0, 60),
    ArrowDown: () => pan(0, -60),
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = stage.getBoundingClientRect();
      const [middle, centre] = [box.left + box.width / 2, box.top + box.height / 2];
      zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.clientX - middle, event.clientY - centre);
    },
    { passive: false },
  );
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) pan(event.movementX, event.movementY);
  });

  const enlarges = (figure) => {
    const [small, text] = [figure.querySelector("img"), figure.querySelector("figcaption")];
    const enlarge = make("button", { type: "button", className: "enlarge" }, "Enlarge");
    enlarge.setAttribute("aria-label", `Enlarge: ${small.alt}`);
    const open = () => {
      image.src = small.src;
      image.alt = small.alt;
      caption.textContent = small.alt;
      dialog.addEventListener("close", () => enlarge.focus(), { once: true });
      dialog.showModal();
      reset();
    };
    enlarge.addEventListener("click", open);
    small.addEventListener("click", open);
    small.classList.add("opens");
    text.querySelector(".files").append(enlarge);
    // The page's own copy, which is there also where the page was sent without its folder.
    const kind = small.src.startsWith("data:image/svg") ? "svg" : "png";
    text.querySelector(`[download$=".${kind}"]`).href = small.src;
  };
  document.body.append(dialog);

  // --- all of it, and what a live page replaces

  const prepares = {
    ".scroll": hint,
    "details table": sorts,
    ".gallery ul": filters,
    "figure.picture": enlarges,
  };
  const prepare = (root) => {
    for (const [kind, act] of Object.entries(prepares)) {
      if (root !== document && root.matches(kind)) act(root);
      for (const one of root.querySelectorAll(kind)) act(one);
    }
  };
  prepare(document);
  document.addEventListener("report:changed", ({ target, detail }) => {
    if (detail.replaced) prepare(target);
  });
})();
