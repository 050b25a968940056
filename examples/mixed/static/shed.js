// Keeps the page of the old application up to date with the stream of the new one.
"use strict";

const list = document.querySelector("#tools");
const connection = document.querySelector("#connection");
const me = list.dataset.me;

function show(tool) {
  const item = list.querySelector(`[data-tool="${tool.id}"]`);
  if (!item) return;
  const text = tool.borrower ? `is with ${tool.borrower}` : "is here";
  const state = item.querySelector(".state");
  if (state.textContent !== text) state.textContent = text;
  item.dataset.state = tool.borrower ? "lent" : "here";
  if (me) {
    item.querySelector("form").hidden = Boolean(tool.borrower);
    item.querySelector(".back").hidden = tool.borrower !== me;
  }
}

for (const button of list.querySelectorAll(".back")) {
  const tool = button.closest("li").dataset.tool;
  button.addEventListener("click", () => fetch(`/api/tools/${tool}/loan`, { method: "DELETE" }));
}

const feed = new EventSource("/api/watch");
feed.addEventListener("message", (event) => {
  JSON.parse(event.data).tools.forEach(show);
  connection.dataset.state = "live";
  connection.textContent = "live";
});
feed.addEventListener("error", () => {
  connection.dataset.state = "lost";
  connection.textContent = "not live";
});
