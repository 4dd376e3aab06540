/*
 * Copying a text, on plain http too, where a browser offers pages no clipboard.
 */

/** Copies `text`; resolves to false if the browser leaves that to the hand. */
export async function copyText(text) {
  // Without a secure context there is no clipboard; with one it may be forbidden.
  const isCopied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  return isCopied || copySelected(text);
}

// What lies beside a modal dialog cannot be selected, so the field goes into it.
function copySelected(text) {
  const field = document.createElement("textarea");
  const focused = document.activeElement;
  field.className = "visually-hidden";
  field.readOnly = true;
  field.value = text;
  (document.querySelector("dialog:modal") ?? document.body).append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return isCopied;
}
