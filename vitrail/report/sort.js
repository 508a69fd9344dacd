// Click on a column's name to sort its table; a second click turns the order round.
document.querySelectorAll("table.sortable").forEach(function (table) {
  var heads = table.querySelectorAll("th");
  heads.forEach(function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", function () {
      var down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.classList.contains("n");
      var body = table.tBodies[0];
      var value = function (row) { return row.cells[column].dataset.v || row.cells[column].textContent; };
      Array.from(body.rows).sort(function (a, b) {
        var x = value(a), y = value(b), d = Number(x) - Number(y);
        if (Number.isNaN(d)) d = x < y ? -1 : x > y ? 1 : 0;
        return down ? -d : d;
      }).forEach(function (row) { body.appendChild(row); });
      heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
});
