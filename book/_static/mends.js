/* What a link leads to is shown: a number's cell with its code, the estimates behind a verdict. */
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target?.closest("details") ?? (target?.matches(".cell, .cell *") ? target.querySelector("details") : null);
  if (!fold || fold.open) return;
  fold.open = true;
  target.scrollIntoView();
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
