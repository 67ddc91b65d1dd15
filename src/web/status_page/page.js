"use strict";
{
  const REFRESH_INTERVAL_MS = 5000, REQUEST_TIMEOUT_MS = 10000, STALE_AFTER_MS = 15000;
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;
  let main, staleNotice, news, icon, filterBox, themeButton;
  let title, theme = "auto";
  let shownSince = now(); // when the shown page was requested: its ages count from then
  let failure = "", isRefreshing = false, mustRefreshAgain = false;

  // Before the first paint.
  root.classList.add("js");
  try { theme = localStorage.getItem("theme") ?? "auto"; } catch { /* the browser keeps nothing */ }
  applyTheme();
  document.addEventListener("DOMContentLoaded", start);

  function start() {
    main = document.querySelector("main");
    [staleNotice, news, icon, filterBox, themeButton] = ["stale", "news", "icon", "filter", "theme"].map((id) => document.getElementById(id));
    title = document.title;
    for (const details of main.querySelectorAll("details")) details.wanted = details.open;
    filterBox.value = new URLSearchParams(location.search).get("filter") ?? "";
    filterBox.addEventListener("input", () => { setParameter("filter", filterBox.value); applyFilter(); });
    themeButton.addEventListener("click", nextTheme);
    main.addEventListener("click", handleClick);
    main.addEventListener("toggle", addCopyButtons, true);
    addEventListener("hashchange", openTarget);
    document.addEventListener("visibilitychange", tickAndRefresh);
    addEventListener("pageshow", tickAndRefresh); // also when the browser shows a page from its cache
    setInterval(tick, 1000);
    setInterval(refresh, REFRESH_INTERVAL_MS);
    applyTheme();
    applyFilter();
    addCopyButtons();
    openTarget();
  }

  function now() {
    return { wall: Date.now(), monotonic: performance.now() };
  }

  // The wall clock can be set, and the monotonic clock can stop while the machine sleeps: the larger difference counts.
  function millisecondsShown() {
    return Math.max(Date.now() - shownSince.wall, performance.now() - shownSince.monotonic, 0);
  }

  async function refresh() {
    mustRefreshAgain = isRefreshing;
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
      if (next.documentElement.dataset.version !== root.dataset.version) return location.reload();
      update(main, next.querySelector("main"));
      applyFilter();
      addCopyButtons();
      icon.href = next.getElementById("icon").getAttribute("href");
      if (next.title !== title) setText(news, next.title.split(" · ")[0]);
      title = next.title;
      shownSince = requested;
      failure = "";
    } catch (error) {
      failure = "connection lost" + (error.name === "Error" ? ` (${error.message})` : "");
    } finally {
      isRefreshing = false;
    }
    tick();
    if (mustRefreshAgain) refresh();
  }

  // Makes `old` equal to `next`, and does not touch equal nodes: they keep the selection and the focus. What was opened or
  // closed stays so until the exporter's wish changes.
  function update(old, next) {
    if (old.isEqualNode(next)) return;
    if (old.nodeType === Node.TEXT_NODE) {
      old.data = next.data;
      return;
    }
    if (old.tagName === "DETAILS") {
      if (old.wanted !== undefined && old.wanted !== next.open) old.open = next.open;
      old.wanted = next.open;
    }
    const isKept = (name) => name === "open" || name === "hidden";
    for (const { name, value } of next.attributes) if (!isKept(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (!isKept(name) && !next.hasAttribute(name)) old.removeAttribute(name);
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
      if (!current.classList?.contains("copy")) current.remove();
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

  function setParameter(name, value) {
    const parameters = new URLSearchParams(location.search);
    if (value) parameters.set(name, value);
    else parameters.delete(name);
    const query = parameters.size ? `?${parameters}` : location.pathname;
    history.replaceState(null, "", query + location.hash);
  }

  function nextTheme() {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("theme", theme); } catch { /* the browser keeps nothing */ }
    applyTheme();
  }

  function applyTheme() {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    if (themeButton) setText(themeButton, `Theme: ${theme}`);
  }

  // Hides rows whose currency and account do not contain the text, and opens what has rows that do.
  function applyFilter() {
    const wanted = filterBox.value.trim().toLowerCase();
    const contains = (node) => !wanted || node.textContent.toLowerCase().includes(wanted);
    for (const row of main.querySelectorAll("#low tbody tr")) row.hidden = !contains(row.querySelector("th")) && !contains(row.querySelector(".location"));
    let shown = 0;
    const accounts = main.querySelectorAll("details.account:not(#prices)");
    for (const account of accounts) {
      const isNamed = contains(account.querySelector("h3"));
      let isFound = isNamed;
      for (const wallet of account.querySelectorAll("details.wallet")) {
        let hasRow = isNamed;
        for (const row of wallet.querySelectorAll("tbody tr")) {
          const isMatch = isNamed || contains(row.querySelector("th"));
          row.hidden = !isMatch;
          hasRow ||= isMatch;
        }
        wallet.hidden = !hasRow;
        isFound ||= hasRow;
        openForFilter(wallet, hasRow && !isNamed);
      }
      account.hidden = !isFound;
      shown += isFound;
      openForFilter(account, isFound && !isNamed);
    }
    setText(document.getElementById("matches"), wanted && `${shown} of ${accounts.length} accounts`);
  }

  function openForFilter(details, isWanted) {
    if (isWanted) {
      details.openBefore ??= details.open;
      details.open = true;
    } else if (details.openBefore !== undefined) {
      details.open = details.openBefore;
      details.openBefore = undefined;
    }
  }

  // Only where amounts are visible: a page of hundreds of accounts has ten thousand of them.
  function addCopyButtons() {
    for (const amount of main.querySelectorAll("#low td > u:last-of-type, [open] > .wallet[open] td > u:last-of-type")) {
      const cell = amount.parentNode;
      if (cell.querySelector(".copy")) continue;
      const button = document.createElement("button");
      Object.assign(button, { type: "button", className: "copy", title: "copy the exact amount", ariaLabel: "copy" });
      amount.after(button);
    }
  }

  function handleClick(event) {
    const link = event.target.closest(".sort a");
    if (link) {
      event.preventDefault();
      setParameter("sort", new URL(link.href).searchParams.get("sort"));
      refresh();
    }
    const button = event.target.closest(".copy");
    if (button) copy(button);
  }

  async function copy(button) {
    let text = "";
    for (let node = button.parentNode.firstChild; node !== button; node = node.nextSibling) if (node.tagName !== "SMALL") text += node.textContent;
    try {
      await navigator.clipboard.writeText(text.trim());
      setText(news, `copied ${text.trim()}`);
    } catch {
      // Without TLS a browser gives no access to the clipboard: select the digits instead.
      const first = button.parentNode.querySelector(".why")?.nextSibling ?? button.parentNode.firstChild;
      getSelection().setBaseAndExtent(first, 0, button, 0);
      setText(news, "selected, press Ctrl+C to copy");
    }
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  }

  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let details = target?.closest("details"); details; details = details.parentElement.closest("details")) details.open = true;
    target?.scrollIntoView();
  }
}
