// Says that a table or a picture scrolls, and lets the keyboard scroll it.
const boxes = document.querySelectorAll(".scroll, p:has(> img[src$='#wide'])");
const mark = box => {
  const wide = box.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("wide", wide);
  if (wide) box.tabIndex = 0; else box.removeAttribute("tabindex");
};
const seen = new ResizeObserver(entries => entries.forEach(entry => mark(entry.target.closest(".scroll, p"))));
for (const box of boxes) for (const each of [box, box.firstElementChild]) seen.observe(each);
// The theme leaves the search without a name.
document.querySelector(".md-search").setAttribute("aria-label", "Search");
