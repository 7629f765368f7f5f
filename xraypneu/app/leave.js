// Asks before results are lost with the page: on reload, Back and close. The page's template relays `beforeunload` as
// `xp-leave`: its listener alone comes before Voilà's, which ends the session, also of a visitor who then stays.
export function askBeforeLeaving(target, unsaved) {
  let held = false;
  const ask = (e) => {
    held = unsaved();
    if (held) e.preventDefault();
  };
  const leave = () => {
    if (held) target.dispatchEvent(new Event("beforeunload")); // for Voilà: the session, and its films, must end now
    held = false;
  };
  target.addEventListener("xp-leave", ask);
  target.addEventListener("pagehide", leave);
  return () => {
    target.removeEventListener("xp-leave", ask);
    target.removeEventListener("pagehide", leave);
  };
}
