"use strict";
// Brings the page up to what its server has now, by the differences between the source that it was
// made from and the new one: what other scripts added, and what a reader opened or scrolled, stays.
// Where an element was replaced, or something in it changed, it gets the event "report:changed";
// after a replacement (event.detail.replaced) its script has to begin anew with it.
(() => {
  const shown = new WeakMap(); // of each node of the last source, the node that the reader sees
  const changed = new Map();
  const tell = (node, replaced) => {
    const unit = replaced ? node : node.parentElement?.closest("[id]");
    if (unit) changed.set(unit, replaced || changed.get(unit) === true);
  };
  const pair = (source, seen) => {
    shown.set(source, seen);
    const children = [...seen.childNodes];
    source.childNodes.forEach((child, i) => pair(child, children[i]));
  };
  const keep = (before, after) => {
    shown.set(after, shown.get(before));
    after.childNodes.forEach((child, i) => keep(before.childNodes[i], child));
  };
  const parts = (node) => [...node.childNodes].filter((one) => one.nodeType !== 3 || one.data.trim());
  const kind = (node) => `${node.nodeName}#${node.id ?? ""}`;
  const made = (after) => {
    const node = document.importNode(after, true);
    pair(after, node);
    tell(node, true);
    return node;
  };
  const replace = (before, after) => {
    const [old, fresh] = [shown.get(before), made(after)];
    const states = ["details", "[tabindex]"].map((what) => {
      const next = [...fresh.querySelectorAll(what)];
      return [...old.querySelectorAll(what)].map(({ id, open, scrollLeft }, i) => {
        return [(id && next.find((one) => one.id === id)) || next[i], { open, scrollLeft }];
      });
    });
    old.replaceWith(fresh);
    for (const [one, { open, scrollLeft }] of states.flat()) {
      if (one instanceof HTMLDetailsElement) one.open = open;
      if (one) one.scrollLeft = scrollLeft;
    }
  };

  // Makes of what is shown of `before` what `after` is; false where that takes a new element.
  const alter = (before, after) => {
    const node = shown.get(before);
    shown.set(after, node);
    if (before.nodeType !== 1) return (node.data = after.data), tell(node), true;
    for (const { name } of [...before.attributes, ...after.attributes]) {
      const value = after.getAttribute(name);
      if (value === before.getAttribute(name)) continue;
      value === null ? node.removeAttribute(name) : node.setAttribute(name, value);
      tell(node);
    }
    const [old, now] = [parts(before), parts(after)];
    if (old.length === now.length && old.every((one, i) => kind(one) === kind(now[i])))
      return old.every((one, i) => change(one, now[i]));
    // Children that all have ids come and go one by one, where those that stay keep their order.
    const [was, is] = [old.map(kind), now.map(kind)];
    const order = [was.filter((one) => is.includes(one)), is.filter((one) => was.includes(one))];
    if (![...old, ...now].every((one) => one.id) || order[0].join() !== order[1].join()) return false;
    for (const one of old) if (!is.includes(kind(one))) shown.get(one).remove();
    let last = null;
    for (const one of now) {
      if (was.includes(kind(one))) change(old[was.indexOf(kind(one))], one);
      else last ? last.after(made(one)) : node.prepend(made(one));
      last = shown.get(one);
    }
    return true;
  };
  const change = (before, after) => {
    if (before.isEqualNode(after)) return keep(before, after), true;
    if (alter(before, after)) return true;
    if (!before.id && before.parentNode.nodeName !== "BODY") return false;
    return replace(before, after), true;
  };

  const bodyOf = (page) => {
    for (const one of page.querySelectorAll("script:not([type])")) one.remove();
    return page.querySelector("body");
  };
  let source = document.documentElement.cloneNode(true);
  pair(source, document.documentElement);
  source = bodyOf(source);
  document.documentElement.style.overflowAnchor = "none"; // `update` does it

  const update = (html) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    const next = bodyOf(page);
    const top = (one) => one.getBoundingClientRect().top;
    const ids = scrollY > 0 ? [...document.querySelectorAll("[id]")] : [];
    const anchor = ids.find((one) => one.checkVisibility() && top(one) >= 0);
    const place = anchor && top(anchor);
    document.title = page.title;
    if (!change(source, next)) location.reload();
    source = next;
    const now = anchor?.isConnected ? anchor : document.getElementById(anchor?.id);
    if (now) scrollBy({ top: top(now) - place, behavior: "instant" });
    for (const [one, replaced] of changed)
      one.dispatchEvent(new CustomEvent("report:changed", { bubbles: true, detail: { replaced } }));
    changed.clear();
  };
  let turn = Promise.resolve();
  const ask = () => {
    const answer = fetch("./", { cache: "no-store" }).then((one) => one.text());
    turn = turn.then(() => answer).then(update, () => {}); // a server that went is asked again
  };
  new EventSource("events").addEventListener("message", ask);
})();
