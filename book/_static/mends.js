/* The theme's buttons have names; the icons and keys drawn on them are not part of these. */
document.addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll(".theme-switch, .search-button__kbd-shortcut")) part.setAttribute("aria-hidden", "true");
});
