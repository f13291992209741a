// The form for an API key: there only once the server has asked for one. The key is kept in memory, by `Api`.

import { byId, reveal } from "./dom.js";

const KEPT = "It is kept in this page only and forgotten when the page is closed.";
const REFUSED = "The server does not know this key. Check it and try again.";

/** Show the form; promises what is typed. `refused` says that a key was given and was wrong. */
export function askForKey(refused) {
  const form = byId("key");
  const field = byId("key-value");
  form.hidden = false;
  byId("key-text").textContent = refused ? REFUSED : KEPT;
  field.setAttribute("aria-invalid", String(refused));
  field.focus({ preventScroll: true });
  reveal(form);
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (!key) return;
      field.value = "";
      form.hidden = true;
      resolve(key);
    };
  });
}
