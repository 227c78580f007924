// The players look for the theme at the root of the page; furo writes it on the body.
const tell = () => { document.documentElement.dataset.theme = document.body.dataset.theme; };
document.addEventListener("DOMContentLoaded", () => {
  tell();
  new MutationObserver(tell).observe(document.body, { attributeFilter: ["data-theme"] });
});
