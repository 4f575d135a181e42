// Says that a table scrolls, and lets the keyboard scroll it.
const mark = box => {
  const wide = box.scrollWidth > box.clientWidth + 1;
  box.classList.toggle("wide", wide);
  if (wide) box.tabIndex = 0; else box.removeAttribute("tabindex");
};
const seen = new ResizeObserver(entries => entries.forEach(entry => mark(entry.target.closest(".scroll"))));
for (const box of document.querySelectorAll(".scroll"))
  for (const each of [box, box.firstElementChild]) seen.observe(each);
