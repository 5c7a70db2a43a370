/* Times in the reader's own zone: the server writes them in UTC, this rewrites every `<time data-moment>`. */
(() => {
  "use strict";

  const { $$, onReady } = dreamsketch;
  // The order of day and month as the server has it.
  const language = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang || undefined;
  const DAY = { day: "numeric", month: "long", year: "numeric" };
  const CLOCK = { hour: "2-digit", minute: "2-digit" };
  const SHAPES = { date: DAY, datetime: { ...DAY, ...CLOCK }, time: CLOCK };

  function rewrite(time) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) return;
    time.title ||= moment.toISOString().slice(0, 16).replace("T", " ") + " UTC";
    const text = moment.toLocaleString(language, SHAPES[time.dataset.moment]).replace(" at ", ", ");
    if (time.textContent !== text) time.textContent = text;
  }
  onReady((root) => $$("time[data-moment]", root).forEach(rewrite));
})();
