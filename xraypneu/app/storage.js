// The lowest number that no other page of this tab has: JupyterLab may show several, and each keeps its own results.
// After a reload they get them in the order in which they are shown. Returns it, and how to give it back.
export function placeInTab(tab = globalThis) {
  const taken = (tab.xraypneuPlaces ??= new Set());
  let place = 1;
  while (taken.has(place)) place += 1;
  taken.add(place);
  return [place, () => taken.delete(place)];
}

// What the browser remembers for the page, such as the theme; where it remembers nothing, the page works without.
export class Memory {
  constructor(open, place = 1) {
    this.open = open; // returns the browser's storage; already asking for it may throw
    this.name = place === 1 ? "xraypneu" : `xraypneu-${place}`;
  }

  recall(key) {
    try {
      return this.open().getItem(`${this.name}-${key}`);
    } catch {
      return null;
    }
  }

  // An empty value is forgotten. False if the browser refuses storage or has no room left: the choice holds until the
  // page is closed, and no earlier one is found in its place.
  keep(key, value) {
    try {
      if (value) this.open().setItem(`${this.name}-${key}`, value);
      else this.open().removeItem(`${this.name}-${key}`);
      return true;
    } catch {
      if (value) this.keep(key, "");
      return false;
    }
  }
}
