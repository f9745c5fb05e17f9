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

  // ── Times: UTC, or local where the reader chose so; the other one in the tooltip ────────
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

  function timesAreLocal() {
    try { return localStorage.getItem("portal_times") === "local"; } catch { return false; }
  }

  function showTime(element) {
    const microseconds = Number(element.dataset.us);
    if (!Number.isFinite(microseconds)) return;
    const date = new Date(microseconds / 1000);
    const precise = "precise" in element.dataset;
    const texts = { UTC: utcTime(date, precise), [zoneName(date)]: localTime(date, precise) };
    const shown = timesAreLocal() ? zoneName(date) : "UTC";
    const abbreviation = document.createElement("abbr");
    abbreviation.textContent = shown;
    element.replaceChildren(`${texts[shown]} `, abbreviation);
    const others = Object.entries(texts).map(([name, text]) => `${text} ${name}`);
    element.title = [...others, `Unix ${Math.floor(microseconds / 1e6)}`].join("\n");
  }

  function showTimes(scope) {
    each(scope, "time[data-us]", showTime);
    each(scope, "[data-time-name]", (element) => {
      element.textContent = timesAreLocal() ? "local" : "UTC";
    });
  }

  function switchTimes() {
    try { localStorage.setItem("portal_times", timesAreLocal() ? "utc" : "local"); } catch { return; }
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

  // ── One listener for all of it ──────────────────────────────────────────────────────────
  const CLICKS = [
    ["[data-theme-switch]", nextTheme],
    ["[data-time-switch]", switchTimes],
    ["[data-copy], [data-copy-from]", copy],
    ["[data-add-row]", addRow],
    ["[data-remove-row]", removeRow],
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

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, [contenteditable]")) return;
    const search = document.querySelector("[data-search], input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select?.();
    }
  });

  // ── Pages, and the fragments that HTMX brings ───────────────────────────────────────────
  // No answer at all: said once on top, and gone with the next answer.
  function showOffline() {
    const messages = document.getElementById("messages");
    if (!messages || messages.querySelector("[data-offline]")) return;
    const alert = document.createElement("div");
    alert.className = "alert bad";
    alert.setAttribute("role", "alert");
    alert.dataset.offline = "";
    alert.textContent = "The portal does not answer. Check the connection and try again.";
    messages.append(alert);
  }

  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && !event.detail.ctx.response) showOffline();
  });
  document.addEventListener("htmx:after:request", () => {
    document.querySelector("#messages [data-offline]")?.remove();
  });

  root.classList.add("js");
  showTheme();
  showTimes(document);
  document.addEventListener("htmx:after:swap", () => showTimes(document));
})();
