"use strict";
{
  const REFRESH_INTERVAL_MS = 5000, REQUEST_TIMEOUT_MS = 10000, STALE_AFTER_MS = 15000;
  const main = document.querySelector("main");
  const staleNotice = document.getElementById("stale");
  const icon = document.getElementById("icon");
  const { version } = document.documentElement.dataset;
  let title = document.title;
  let shownSince = now(); // when the shown page was requested: its ages count from then
  let failure = "";
  let isRefreshing = false;

  function now() {
    return { wall: Date.now(), monotonic: performance.now() };
  }

  // The wall clock can be set, and the monotonic clock can stop while the machine sleeps: the larger difference counts.
  function millisecondsShown() {
    return Math.max(Date.now() - shownSince.wall, performance.now() - shownSince.monotonic, 0);
  }

  async function refresh() {
    if (isRefreshing || document.hidden) return;
    isRefreshing = true;
    const requested = now();
    try {
      // Not location.href: fetch rejects a URL with a password in it.
      const url = location.origin + location.pathname + location.search;
      const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) });
      if (!response.ok) throw new Error(`the exporter answers ${response.status}`);
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      if (!next.getElementById("as-of")) throw new Error("another server answers");
      if (next.documentElement.dataset.version !== version) return location.reload();
      update(main, next.querySelector("main"));
      icon.href = next.getElementById("icon").getAttribute("href");
      title = next.title;
      shownSince = requested;
      failure = "";
    } catch (error) {
      failure = "connection lost" + (error.name === "Error" ? ` (${error.message})` : "");
    } finally {
      isRefreshing = false;
    }
    tick();
  }

  // Makes `old` equal to `next`, and does not touch equal nodes: they keep the selection and the focus.
  function update(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType === Node.TEXT_NODE) {
      old.data = next.data;
      return;
    }
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    const oldById = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
    const nextIds = new Set([...next.children].map((child) => child.id));
    for (const [id, child] of oldById) if (!nextIds.has(id)) child.remove();
    let current = old.firstChild;
    for (const child of [...next.childNodes]) {
      const similar = current && !current.id && current.nodeName === child.nodeName ? current : null;
      const match = child.id ? oldById.get(child.id) : similar;
      if (match !== current || !match) old.insertBefore(match ?? child, current);
      else current = current.nextSibling;
      if (match) update(match, child);
    }
    while (current) {
      const following = current.nextSibling;
      current.remove();
      current = following;
    }
  }

  function tick() {
    const elapsed = millisecondsShown();
    for (const span of main.querySelectorAll("[data-age]")) setText(span, formatDuration(+span.dataset.age + elapsed / 1000));
    for (const span of main.querySelectorAll("[data-in]")) {
      const secondsLeft = span.dataset.in - elapsed / 1000;
      setText(span, secondsLeft < 1 ? "due" : `in ${formatDuration(secondsLeft)}`);
    }
    const problem = failure || (elapsed > STALE_AFTER_MS ? "not refreshed" : "");
    const asOf = document.getElementById("as-of").textContent;
    setText(staleNotice, problem && `${problem}: this page shows the state as of ${asOf}`);
    staleNotice.hidden = !problem;
    document.body.classList.toggle("stale", problem !== "");
    // The title of a hidden tab is not refreshed, so it says when it was true.
    document.title = document.hidden || problem ? `(${asOf}) ${title}` : title;
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  // The same format as HumanDuration of the exporter.
  function formatDuration(time) {
    const seconds = Math.floor(time);
    const [unitSeconds, unit, smallerUnitSeconds, smallerUnit] =
      seconds < 60 ? [1, "s", 1, ""]
      : seconds < 3600 ? [60, "min", 1, "s"]
      : seconds < 86400 ? [3600, "h", 60, "min"]
      : [86400, "d", 3600, "h"];
    const rest = Math.floor((seconds % unitSeconds) / smallerUnitSeconds);
    return `${Math.floor(seconds / unitSeconds)} ${unit}` + (rest ? ` ${rest} ${smallerUnit}` : "");
  }

  function tickAndRefresh() {
    tick();
    refresh();
  }

  setInterval(tick, 1000);
  setInterval(refresh, REFRESH_INTERVAL_MS);
  document.addEventListener("visibilitychange", tickAndRefresh);
  addEventListener("pageshow", tickAndRefresh); // also when the browser shows a page from its cache
}
