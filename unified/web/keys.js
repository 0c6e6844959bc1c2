// Keys of the game: held ones step the worlds as fast as frames come.
(() => {
  const held = new Set(), tapped = new Set();
  const names = {" ": "space", ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right"};
  const known = new Set([..."wasdcvjkpezfnb123456789", ...Object.values(names)]);
  const step = () => document.querySelector("#play-step")?.click();
  let under = false;
  window.unifiedKeys = () => {
    const keys = [...new Set([...held, ...tapped])].join(" ");
    tapped.clear();
    return keys;
  };
  window.unifiedStepped = () => { under = false; if (held.size || tapped.size) begin(); };
  const begin = () => { if (!under) { under = true; step(); setTimeout(() => { under = false; }, 5000); } };
  const pad = (event) => event.target.closest?.("#play-pad");
  document.addEventListener("keydown", (event) => {
    const key = names[event.key] ?? event.key.toLowerCase();
    if (!pad(event) || !known.has(key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.repeat) return;
    tapped.add(key);
    if (!"nb".includes(key)) held.add(key);
    begin();
  });
  document.addEventListener("keyup", (event) => held.delete(names[event.key] ?? event.key.toLowerCase()));
  document.addEventListener("focusout", (event) => { if (pad(event)) held.clear(); });
})();
