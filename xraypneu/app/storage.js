// What the browser remembers for the page, such as the theme; where it remembers nothing, the page works without.
export class Memory {
  constructor(open) {
    this.open = open; // returns the browser's storage; already asking for it may throw
  }

  recall(key) {
    try {
      return this.open().getItem(`xraypneu-${key}`);
    } catch {
      return null;
    }
  }

  // An empty value is forgotten. False if the browser refuses storage or has no room left: the choice holds until the
  // page is closed, and no earlier one is found in its place.
  keep(key, value) {
    try {
      if (value) this.open().setItem(`xraypneu-${key}`, value);
      else this.open().removeItem(`xraypneu-${key}`);
      return true;
    } catch {
      if (value) this.keep(key, "");
      return false;
    }
  }
}
