"use strict";
{
  const EVERY = 5000, PATIENCE = 10000, STALE = 15000; // ms
  const main = document.querySelector("main");
  const lost = document.getElementById("lost");
  const icon = document.getElementById("icon");
  const { version } = document.documentElement.dataset;
  let title = document.title;
  let read = moment(); // when what is shown was asked for: its ages count from here
  let failure = "";
  let busy = false;

  function moment() {
    return { wall: Date.now(), steady: performance.now() };
  }

  // The wall clock may be set, the other may stand still while the machine sleeps: the later counts.
  function since() {
    return Math.max(Date.now() - read.wall, performance.now() - read.steady, 0);
  }

  async function refresh() {
    if (busy || document.hidden) return;
    busy = true;
    const asked = moment();
    try {
      // Not location.href: fetch refuses an address with a password in it.
      const address = location.origin + location.pathname + location.search;
      const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(`the exporter answers ${answer.status}`);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!next.getElementById("as-of")) throw new Error("something else answers");
      if (next.documentElement.dataset.version !== version) return location.reload();
      sync(main, next.querySelector("main"));
      icon.href = next.getElementById("icon").getAttribute("href");
      title = next.title;
      read = asked;
      failure = "";
    } catch (error) {
      failure = "connection lost" + (error.name === "Error" ? ` (${error.message})` : "");
    } finally {
      busy = false;
    }
    tick();
  }

  // Makes `old` like `next` and leaves alone what is alike, with the selection and focus in it.
  function sync(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType === Node.TEXT_NODE) {
      old.data = next.data;
      return;
    }
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    const named = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const staying = new Set([...next.children].map((child) => child.id));
    for (const [id, child] of named) if (!staying.has(id)) child.remove();
    let at = old.firstChild;
    for (const child of [...next.childNodes]) {
      const alike = at && !at.id && at.nodeName === child.nodeName ? at : null;
      const same = child.id ? named.get(child.id) : alike;
      if (same !== at || !same) old.insertBefore(same ?? child, at);
      else at = at.nextSibling;
      if (same) sync(same, child);
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  }

  function tick() {
    const passed = since();
    for (const span of main.querySelectorAll("[data-age]")) show(span, words(+span.dataset.age + passed / 1000));
    for (const span of main.querySelectorAll("[data-in]")) {
      const left = span.dataset.in - passed / 1000;
      show(span, left < 1 ? "due" : `in ${words(left)}`);
    }
    const trouble = failure || (passed > STALE ? "not refreshed" : "");
    const from = document.getElementById("as-of").textContent;
    show(lost, trouble && `${trouble}: what you see is from ${from}`);
    lost.hidden = !trouble;
    document.body.classList.toggle("lost", trouble !== "");
    // Nobody refreshes the title of a hidden tab, so it says when it was true.
    document.title = document.hidden || trouble ? `(${from}) ${title}` : title;
  }

  function show(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function words(time) {
    const seconds = Math.floor(time);
    const [one, word, two, half] =
      seconds < 60 ? [1, "s", 1, ""]
      : seconds < 3600 ? [60, "min", 1, "s"]
      : seconds < 86400 ? [3600, "h", 60, "min"]
      : [86400, "d", 3600, "h"];
    const rest = Math.floor((seconds % one) / two);
    return `${Math.floor(seconds / one)} ${word}` + (rest ? ` ${rest} ${half}` : "");
  }

  function wake() {
    tick();
    refresh();
  }

  setInterval(tick, 1000);
  setInterval(refresh, EVERY);
  document.addEventListener("visibilitychange", wake);
  addEventListener("pageshow", wake); // also when the browser shows a page that it kept
}
