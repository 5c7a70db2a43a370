/* The theme: shown at once, kept by the server in a cookie. */
(() => {
  "use strict";

  const { $$ } = dreamsketch;
  const night = matchMedia("(prefers-color-scheme: dark)");

  function setTheme(form, theme) {
    document.documentElement.dataset.theme = theme;
    for (const button of $$("[data-theme-choice] button")) {
      button.setAttribute("aria-pressed", String(button.value === theme));
    }
    const body = new FormData(form);
    body.set("theme", theme);
    fetch(form.getAttribute("action"), {
      method: "POST",
      body,
      headers: { "HX-Request": "true" },
      credentials: "same-origin",
    }).catch(() => {
      /* offline: the look holds for this page */
    });
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-theme-form]")) {
      event.preventDefault();
      const theme = document.documentElement.dataset.theme;
      const dark = theme === "dark" || (theme !== "light" && night.matches);
      setTheme(form, dark ? "light" : "dark");
    } else if (form.matches("[data-theme-choice]")) {
      event.preventDefault();
      setTheme(form, event.submitter?.value || "system");
    }
  });
})();
