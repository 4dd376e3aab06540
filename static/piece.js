/*
 * A piece of the page that not everybody needs, fetched when somebody does.
 *
 * Comes as a document of its own: under Trusted Types nothing else may be parsed as HTML.
 */

/** Resolves to the document at `path` of this server; rejects where there is none. */
export function pieceAt(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    request.responseType = "document";
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(new Error(`${request.status} for ${path}`)));
    request.onerror = () => reject(new Error(`no answer for ${path}`));
    request.send();
  });
}
