/* A number leads to the cell that computed it: show its code. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target?.closest("details") ?? target?.querySelector("details");
  if (fold && target.matches(".cell, .cell *")) fold.open = true;
}
document.addEventListener("DOMContentLoaded", unfold);
window.addEventListener("hashchange", unfold);

/* Buttons of the theme are named other than they read. What can be read is their name; an icon gets its name as text. */
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field, .theme-switch-button, details > summary")) {
    const page = button.querySelector(".toctree-toggle") && button.closest("li")?.querySelector("a");
    const name = page ? `Pages below ${page.textContent.trim()}` : button.getAttribute("aria-label");
    button.removeAttribute("aria-label");
    if (button.textContent.trim() || !name) continue;
    const text = document.createElement("span");
    text.className = "visually-hidden";
    text.textContent = name;
    button.append(text);
  }
});
