// Tables and blocks that scroll are reached by keyboard too, also those that are wrapped later.
const reachable = () => {
  for (const one of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) one.tabIndex = 0;
};
reachable();
new MutationObserver(reachable).observe(document.body, { childList: true, subtree: true });
