
"use strict";
// The pages work without this. It takes over Airflow's theme, opens Airflow's own pages in Airflow's window instead of
// in this frame, says that a page loads, and sends the forms that start a DAG.
(() => {
  const root = document.documentElement;
  const outer = (() => {
    try { return window.parent !== window && window.parent.document ? window.parent : null; } catch { return null; }
  })();

  const follow = () => {
    let theme = "";
    try { theme = localStorage.getItem("theme") || ""; } catch { /* no storage: the browser's theme */ }
    if (outer) {
      const names = outer.document.documentElement.classList;
      theme = names.contains("dark") ? "dark" : names.contains("light") ? "light" : theme;
    }
    if (theme === "dark" || theme === "light") root.dataset.theme = theme; else delete root.dataset.theme;
  };
  follow();
  addEventListener("storage", follow);
  if (outer) {
    new MutationObserver(follow).observe(outer.document.documentElement, { attributeFilter: ["class"] });
  }

  const open = (address) => {
    if (!outer) { location.assign(address); return; }
    if (!address.startsWith("/")) {  // another site, which may refuse to be framed
      const link = outer.document.createElement("a");
      Object.assign(link, { href: address, target: "_blank", rel: "noopener noreferrer" });
      link.click();
      return;
    }
    outer.history.pushState({}, "", address);
    outer.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
  };

  const load = (on) => {
    const line = document.getElementById("loading");
    if (on) root.dataset.loading = ""; else delete root.dataset.loading;
    if (line) line.textContent = on ? "Loading…" : "";
  };
  addEventListener("pageshow", () => load(false));
  addEventListener("click", (event) => {
    const link = event.target.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.dataset.airflow !== undefined && outer) {
      event.preventDefault();
      open(link.getAttribute("href"));
    } else if (!link.getAttribute("href").startsWith("#")) {
      load(true);
    }
  });

  addEventListener("submit", async (event) => {
    const form = event.target, said = document.getElementById("said");
    event.preventDefault();
    const conf = {};
    for (const field of form.elements) {
      if (!field.name) continue;
      const value = field.type === "checkbox" ? field.checked : field.value.trim();
      if (value === "") continue;
      conf[field.name] = field.dataset.kind === "integer" ? Number(value) : value;
    }
    load(true);
    try {
      const answer = await fetch(form.dataset.api, {
        method: "POST",
        credentials: "same-origin",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ logical_date: null, conf }),
      });
      const body = await answer.json();
      if (answer.ok) {
        open(form.dataset.runs + "/" + encodeURIComponent(body.dag_run_id));
      } else {
        const why = typeof body.detail === "string" ? body.detail : JSON.stringify(body.detail);
        said.textContent = "Airflow refused (" + answer.status + "): " + why;
      }
    } catch {
      said.textContent = "Airflow does not answer. Nothing was started. Try again.";
    }
    load(false);
  });
})();
