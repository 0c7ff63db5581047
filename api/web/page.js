// Live updates: parts of the page marked data-live are fetched again and replaced. Everything else works without a script.
"use strict";

const CALM = 1000; // milliseconds between two updates, at least
const POLL = 3000; // between updates of pages without a stream of events

// Keeps the boxes that are checked, and the focus.
function replace(old, fresh) {
  const checked = new Set([...old.querySelectorAll("input:checked")].map((box) => box.id));
  const open = new Set([...old.querySelectorAll("details[open]")].map((part) => part.id));
  const focus = old.contains(document.activeElement) ? document.activeElement.id : "";
  for (const box of fresh.querySelectorAll("input[type=checkbox]")) box.checked = checked.has(box.id);
  for (const part of fresh.querySelectorAll("details")) part.open = open.has(part.id);
  old.replaceWith(fresh);
  if (focus) document.getElementById(focus)?.focus();
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.redirected || !answer.ok) return false;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of page.querySelectorAll("[id][data-part]")) {
    const old = document.getElementById(fresh.id);
    if (old && old.outerHTML !== fresh.outerHTML) replace(old, document.importNode(fresh, true));
  }
  return document.querySelector("[data-live]") !== null;
}

let waiting = false;
let again = false;

async function update() {
  if (waiting) {
    again = true;
    return;
  }
  waiting = true;
  again = false;
  await refresh().catch(() => {});
  setTimeout(() => {
    waiting = false;
    if (again) update();
  }, CALM);
}

function follow(url) {
  const source = new EventSource(url);
  for (const type of ["accepted", "running", "progress", "rows", "lost"]) source.addEventListener(type, update);
  for (const type of ["successful", "failed", "dismissed"]) {
    source.addEventListener(type, () => {
      source.close();
      update();
    });
  }
}

async function poll() {
  const live = document.hidden || (await refresh().catch(() => true));
  if (live) setTimeout(poll, POLL);
}

const part = document.querySelector("[data-live]");
if (part && part.dataset.live === "poll") setTimeout(poll, POLL);
else if (part) follow(part.dataset.live);
