"use strict";
(() => {
  const root = document.documentElement;
  const button = document.querySelector("button.theme");
  const tip = document.getElementById("tip");
  const stored = () => { try { return localStorage.getItem("mews-theme"); } catch { return null; } };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const choose = (theme) => {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    button.textContent = dark() ? "Light theme" : "Dark theme";
  };
  choose((/theme=(dark|light)/.exec(location.hash) || [])[1] || stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => choose(null));
  button.hidden = false;
  button.addEventListener("click", () => {
    choose(dark() ? "light" : "dark");
    try { localStorage.setItem("mews-theme", root.dataset.theme); } catch { /* a page without storage keeps it until reload */ }
  });

  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 6))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 18}px`;
  };
  const hide = () => {
    tip.hidden = true;
    document.querySelectorAll(".hit.on").forEach((mark) => mark.classList.remove("on"));
  };
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest("[data-tip]");
    if (mark) show(mark, event.clientX, event.clientY); else hide();
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.closest("svg[tabindex]");
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!chart || !step) return;
    const marks = [...chart.querySelectorAll("[data-tip]")];
    if (!marks.length) return;
    event.preventDefault();
    const next = marks[Math.max(0, Math.min(marks.length - 1, marks.findIndex((mark) => mark.classList.contains("on")) + step))];
    hide();
    next.classList.add("on");
    const box = next.getBoundingClientRect();
    show(next, box.left + box.width / 2, box.top + Math.min(box.height / 2, 40));
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
})();
