// Small comforts on top of pages that work without them. HTMX does the rest.
(() => {
  "use strict";

  const root = document.documentElement;
  const each = (scope, selector, act) => {
    if (scope.matches?.(selector)) act(scope);
    scope.querySelectorAll?.(selector).forEach(act);
  };

  // ── Light, dark, or as the system says: a cookie, so that the server paints it at once ──
  const THEMES = ["system", "light", "dark"];
  const YEAR = 365 * 86400;

  function showTheme() {
    const name = root.dataset.theme || "system";
    each(document, "[data-theme-name]", (element) => { element.textContent = name; });
  }

  function nextTheme() {
    const next = THEMES[(THEMES.indexOf(root.dataset.theme || "system") + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    const age = next === "system" ? 0 : YEAR;
    document.cookie = `portal_theme=${next}; path=/; max-age=${age}; samesite=lax`;
    showTheme();
  }

  // ── Times: UTC, local or Unix seconds, as the reader chose; the others in the tooltip ───
  const CLOCKS = ["UTC", "local", "Unix"];
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" });

  function zoneName(date) {
    return zone.formatToParts(date).find((part) => part.type === "timeZoneName")?.value || "local";
  }

  function localTime(date, precise) {
    const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
    const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => pad(n));
    return `${day} ${time.join(":")}${precise ? `.${pad(date.getMilliseconds(), 3)}` : ""}`;
  }

  function utcTime(date, precise) {
    return date.toISOString().replace("T", " ").slice(0, precise ? 23 : 19);
  }

  function clockName() {
    let name = null;
    try { name = localStorage.getItem("portal_times"); } catch { /* Storage may be forbidden. */ }
    return CLOCKS.includes(name) ? name : "UTC";
  }

  function showTime(element) {
    const microseconds = Number(element.dataset.us);
    if (!Number.isFinite(microseconds)) return;
    const date = new Date(microseconds / 1000);
    const precise = "precise" in element.dataset;
    const clocks = {
      UTC: [utcTime(date, precise), "UTC"],
      local: [localTime(date, precise), zoneName(date)],
      Unix: [precise ? (microseconds / 1e6).toFixed(3) : Math.floor(microseconds / 1e6), "Unix"],
    };
    const [text, name] = clocks[clockName()];
    const abbreviation = document.createElement("abbr");
    abbreviation.textContent = name;
    element.replaceChildren(`${text} `, abbreviation);
    element.title = Object.values(clocks).map((pair) => pair.join(" ")).join("\n");
  }

  // Who reads local times means them in a period too. One that is set without a zone stays UTC; how
  // long ago something was is the same in all zones.
  function fillZones(scope) {
    const here = new Intl.DateTimeFormat().resolvedOptions().timeZone;
    const isFree = (input) => !input?.value || /^\d+ ?[mhd]$/.test(input.value.trim());
    each(scope, "[data-zone]", (input) => {
      const fields = input.form.elements;
      if (clockName() !== "local") {
        if (input.value === input.dataset.zone) input.value = "";
        input.dataset.zone = "";
      } else if (here && !input.value && isFree(fields.since) && isFree(fields.until)) {
        input.value = input.dataset.zone = here;
      }
    });
  }

  function showTimes(scope) {
    root.dataset.times = clockName();
    fillZones(scope);
    each(scope, "time[data-us]", showTime);
    each(scope, "[data-time-name]", (element) => {
      element.textContent = clockName();
    });
  }

  function switchTimes() {
    const next = CLOCKS[(CLOCKS.indexOf(clockName()) + 1) % CLOCKS.length];
    try { localStorage.setItem("portal_times", next); } catch { return; }
    showTimes(document);
  }

  // ── Copying ─────────────────────────────────────────────────────────────────────────────
  async function copy(button) {
    const source = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
    const text = source ? source.value ?? source.textContent : button.dataset.copy;
    await navigator.clipboard.writeText(text);
    const use = button.querySelector("use");
    const label = button.getAttribute("aria-label");
    const address = use?.getAttribute("href");
    use?.setAttribute("href", address.replace(/#.*/, "#check"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      use?.setAttribute("href", address);
      if (label) button.setAttribute("aria-label", label);
      else button.removeAttribute("aria-label");
    }, 1500);
  }

  // ── Rows: a button [data-add-row="#template"] puts the template's content at the end of
  //    the list [data-rows] it names in data-into; [data-remove-row] takes its .row away ────
  function addRow(button) {
    const template = document.querySelector(button.dataset.addRow);
    const list = document.querySelector(button.dataset.into);
    list.append(template.content.cloneNode(true));
    const row = list.lastElementChild;
    window.htmx?.process(row);
    row.querySelector("input, select, textarea")?.focus();
    list.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function removeRow(button) {
    const row = button.closest(".row");
    const list = row.parentElement;
    (row.nextElementSibling || row.previousElementSibling)?.querySelector("input")?.focus();
    row.remove();
    list.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // ── Live tail: rows put themselves on top as they come, and wait while one reads ────────
  // The rows come from an event stream; where none is to be had, by asking again and again.
  const MOST_ROWS = 200;
  const ASK_AGAIN = 3000;
  let tail = null;

  class Tail {
    constructor(box) {
      this.box = box;
      this.known = new Map();
      this.waiting = new Map();
      this.open();
    }

    open() {
      this.source = new EventSource(this.box.dataset.tail);
      this.source.onmessage = (event) => this.take(event.data);
      this.source.onerror = () => {
        if (this.source.readyState === EventSource.CLOSED) this.ask();
      };
    }

    async ask() {
      try {
        const answer = await fetch(this.box.dataset.tail, { headers: { Accept: "text/html" } });
        if (answer.ok) this.take(await answer.text());
      } catch { /* It is asked again. */ }
      if (tail === this) this.timer = setTimeout(() => this.ask(), ASK_AGAIN);
    }

    close() {
      this.source.close();
      clearTimeout(this.timer);
    }

    get body() { return this.box.closest("#log").querySelector("table.log > tbody"); }

    // While one is at the rows, by scrolling, marking text or with the keyboard, none moves.
    get isRead() {
      const selection = document.getSelection();
      return this.body.getBoundingClientRect().top < 0
        || this.body.contains(document.activeElement)
        || (!selection.isCollapsed && this.body.contains(selection.anchorNode));
    }

    take(html) {
      if (!html.trim()) return;
      if (!this.body) { location.reload(); return; }
      const template = document.createElement("template");
      template.innerHTML = html;
      for (const row of [...template.content.querySelectorAll("tr")].reverse()) {
        if (this.known.get(row.id) === row.outerHTML) continue;
        this.known.set(row.id, row.outerHTML);
        const shown = document.getElementById(row.id);
        if (shown) this.change(shown, row);
        else this.waiting.set(row.id, row);
      }
      this.show();
    }

    change(shown, row) {
      if (shown.contains(document.activeElement)) {
        const link = shown.querySelector("[data-open]");
        row.querySelector("[data-open]")?.replaceWith(link);
        shown.replaceWith(row);
        link?.focus();
      } else shown.replaceWith(row);
      showTimes(row);
    }

    show(now = !this.isRead) {
      const button = this.box.querySelector("[data-tail-show]");
      button.hidden = now || !this.waiting.size;
      button.querySelector("span").textContent = `${this.waiting.size} new – show`;
      if (!now) return;
      for (const row of this.waiting.values()) {
        row.classList.add("fresh");
        this.body.prepend(row);
        showTimes(row);
      }
      this.waiting.clear();
      while (this.body.rows.length > MOST_ROWS) {
        this.known.delete(this.body.lastElementChild.id);
        this.body.lastElementChild.remove();
      }
    }
  }

  function followTail() {
    const box = document.hidden ? null : document.querySelector("[data-tail]");
    if (box === (tail && tail.box)) return;
    tail?.close();
    tail = box && new Tail(box);
  }

  for (const name of ["scroll", "selectionchange", "focusout"]) {
    document.addEventListener(name, () => { if (tail?.waiting.size) tail.show(); });
  }
  // A page that nobody sees holds no stream. One begins with the rows of the last minutes; what
  // was missed before them comes with the page.
  const CAUGHT_UP = 150_000;
  let hiddenAt = Date.now();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) hiddenAt = Date.now();
    const missed = !document.hidden && Date.now() - hiddenAt > CAUGHT_UP;
    if (missed && document.querySelector("[data-tail]")) location.reload();
    else followTail();
  });

  // ── One listener for all of it ──────────────────────────────────────────────────────────
  const CLICKS = [
    ["[data-theme-switch]", nextTheme],
    ["[data-time-switch]", switchTimes],
    ["[data-keys]", () => document.getElementById("keys")?.showModal()],
    ["[data-copy], [data-copy-from]", copy],
    ["[data-add-row]", addRow],
    ["[data-remove-row]", removeRow],
    ["[data-tail-show]", () => { tail?.show(true); scrollTo({ top: 0 }); }],
  ];
  document.addEventListener("click", (event) => {
    for (const [selector, act] of CLICKS) {
      const element = event.target.closest?.(selector);
      if (element) {
        event.preventDefault();
        act(element);
        return;
      }
    }
    for (const open of document.querySelectorAll("details.switcher[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });

  // ── Keys: the list of them is templates/_keys.html ──────────────────────────────────────
  const seen = (selector) =>
    [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility());

  function search() {
    const [box] = seen("[data-search], input[type=search]");
    box?.focus();
    box?.select();
  }

  // A row is opened by its link [data-open]: what has the focus is where one is.
  function step(distance) {
    const links = seen("main [data-open]");
    const here = links.findIndex((link) => link === document.activeElement);
    const next = here < 0 && distance < 0 ? links.length - 1 : here + distance;
    const link = links[Math.max(0, Math.min(next, links.length - 1))];
    link?.focus();
    link?.closest("tr, li")?.scrollIntoView({ block: "nearest" });
  }

  const KEYS = {
    "/": search,
    "j": () => step(1),
    "k": () => step(-1),
    "n": () => seen("a[rel=next]")[0]?.click(),
    "p": () => seen("a[rel=prev]")[0]?.click(),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.("input, select, textarea, [contenteditable], dialog")) return;
    const act = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // ── Pages, and the fragments that HTMX brings ───────────────────────────────────────────
  // No answer at all: said once, and gone with the next answer.
  function showOffline() {
    const messages = document.getElementById("messages");
    if (!messages || messages.querySelector("[data-offline]")) return;
    messages.append(document.getElementById("offline").content.cloneNode(true));
  }

  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && !event.detail.ctx.response) showOffline();
  });
  // A form whose token was of an earlier sign-in: the answer brings another, for the next try.
  document.addEventListener("htmx:after:request", (event) => {
    const token = event.detail.ctx?.response?.headers?.get("X-CSRF-Token");
    if (!token) return;
    document.body.setAttribute("hx-headers:inherited", JSON.stringify({ "X-CSRFToken": token }));
    each(document, "input[name=csrf_token]", (input) => { input.value = token; });
  });
  document.addEventListener("htmx:after:request", () => {
    document.querySelector("#messages [data-offline]")?.remove();
  });

  root.classList.add("js");
  showTheme();
  showTimes(document);
  followTail();
  document.addEventListener("htmx:after:swap", () => { showTimes(document); followTail(); });
})();
