/* What was done on the edit page, one operation after the other: undo, redo, and kept in this tab over a reload. */
(() => {
  "use strict";

  const NOWHERE = { left: 0, right: 0, top: 0, bottom: 0 };

  class History {
    /** `changed()` is called after every change; `key` names the picture. */
    constructor(key, changed) {
      this.key = `dreamsketch.edit.${key}`;
      this.changed = changed;
      this.operations = [];
      this.undone = [];
    }

    add(operation) {
      this.operations.push(operation);
      this.undone = [];
      this.settle();
    }

    undo() {
      if (this.operations.length) this.undone.push(this.operations.pop());
      this.settle();
    }

    redo() {
      if (this.undone.length) this.operations.push(this.undone.pop());
      this.settle();
    }

    /** By how much the picture is extended at each side, after all that was done. */
    get sides() {
      const last = this.operations.findLast(({ tool }) => tool === "extend" || tool === "clear");
      return last?.sides || NOWHERE;
    }

    settle() {
      this.changed();
      this.keep();
    }

    /** With the words of the form, as `fields` gives them. */
    keep() {
      try {
        const { operations, undone } = this;
        sessionStorage.setItem(this.key, JSON.stringify({ operations, undone, fields: this.fields?.() || [] }));
        this.kept = true;
      } catch {
        this.kept = false; // full, or forbidden: then leaving warns
      }
    }

    /** What an earlier visit left; null where there was none. */
    restore() {
      try {
        const state = JSON.parse(sessionStorage.getItem(this.key));
        if (!Array.isArray(state.operations)) return null;
        Object.assign(this, { operations: state.operations, undone: state.undone || [] });
        return state;
      } catch {
        return null;
      }
    }
  }

  dreamsketch.edit.History = History;
})();
