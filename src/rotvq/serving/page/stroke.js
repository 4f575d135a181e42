// Which tokens a brush covers. Tokens are numbered row by row.

// The cells from one to the other, both included, each a neighbor of the one before: a stroke has
// no gap, however far the pointer jumps between two events.
export function line([x, y], [toX, toY]) {
  const dx = toX - x, dy = toY - y, steps = Math.max(Math.abs(dx), Math.abs(dy), 1);
  return Array.from({ length: steps + 1 }, (_, i) =>
    [Math.round(x + dx * i / steps), Math.round(y + dy * i / steps)]);
}

// The tokens under a square brush around some cells.
export function covered(cells, size, columns, rows) {
  const tokens = new Set(), before = Math.floor((size - 1) / 2);
  for (const [x, y] of cells) {
    for (let j = Math.max(0, y - before); j < Math.min(rows, y - before + size); j++) {
      for (let i = Math.max(0, x - before); i < Math.min(columns, x - before + size); i++) {
        tokens.add(j * columns + i);
      }
    }
  }
  return tokens;
}
