// Opens the operation that the address names.
"use strict";
(() => {
  function open() {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named instanceof HTMLDetailsElement) { named.open = true; named.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  open();
})();
