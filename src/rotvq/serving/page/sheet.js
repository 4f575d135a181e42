// The tokens of a picture with one model: the encoder's, what is painted over them, and history.
const MOST = 200; // strokes that can be undone

export class Sheet {
  constructor({ height, width, rows, columns, indices }) {
    Object.assign(this, { height, width, rows, columns });
    this.base = Int32Array.from(indices);
    this.painted = new Int32Array(indices.length).fill(-1); // -1: the encoder's token
    this.past = [];
    this.future = [];
    this.stroke = null;
    this.decoded = null; // a canvas
  }

  at(token) { return this.painted[token] < 0 ? this.base[token] : this.painted[token]; }
  get tokens() { return this.base.map((_, token) => this.at(token)); }
  get changes() { return this.painted.reduce((n, code, i) => n + (code >= 0 && code !== this.base[i]), 0); }

  begin() { this.stroke ??= this.painted.slice(); }

  // Paint some tokens; -1 erases. Returns whether any of them changed.
  put(tokens, code) {
    let changed = false;
    for (const token of tokens) {
      changed ||= this.painted[token] !== code;
      this.painted[token] = code;
    }
    return changed;
  }

  // All that was put since `begin` is undone together.
  end() {
    if (this.stroke?.some((code, i) => code !== this.painted[i])) {
      this.past.push(this.stroke);
      if (this.past.length > MOST) this.past.shift();
      this.future = [];
    }
    this.stroke = null;
  }

  // All that was put since `begin` is as if it never had been.
  cancel() {
    if (this.stroke) this.painted = this.stroke;
    this.stroke = null;
  }

  replace(codes) {
    this.begin();
    this.painted = Int32Array.from(codes, (code, i) => code === this.at(i) ? this.painted[i] : code);
    this.end();
  }

  undo() { this.#step(this.past, this.future); }
  redo() { this.#step(this.future, this.past); }

  #step(from, to) {
    this.end();
    if (!from.length) return;
    to.push(this.painted);
    this.painted = from.pop();
  }
}
