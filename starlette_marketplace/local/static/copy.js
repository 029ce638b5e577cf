"use strict";

const SHOWN = 1500; // milliseconds

for (const pre of document.querySelectorAll("pre")) {
  const frame = document.createElement("div");
  const button = document.createElement("button");
  frame.className = "copyable";
  button.className = "quiet";
  button.type = "button";
  button.textContent = "Copy";
  pre.replaceWith(frame);
  frame.append(pre, button);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
    } catch {
      // Without permission, it is selected for the keyboard to copy.
      getSelection().selectAllChildren(pre);
      button.textContent = "Selected";
    }
    setTimeout(() => {
      button.textContent = "Copy";
    }, SHOWN);
  });
}
