/**
 * Elements of HTML and SVG. Names and paths come from images and servers that nobody vouches for: they become text nodes
 * and attributes here, and never markup.
 */
// @ts-check

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {Node | string | number | undefined} Child */
/** @typedef {Record<string, string | number | undefined>} Attributes */

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes))
    if (value !== undefined) element.setAttribute(name, String(value));
  for (const child of children)
    if (child !== undefined) element.append(child instanceof Node ? child : String(child));
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {Child[]} children
 */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * A picture `width` × `height` units large, which takes the width that there is.
 * @param {number} width
 * @param {number} height
 * @param {string} label
 * @param {Child[]} children
 */
export function picture(width, height, label, ...children) {
  return svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, ...children);
}

/**
 * @param {string} heading
 * @param {string} explanation
 * @param {Child[]} children
 */
export function card(heading, explanation, ...children) {
  return html(
    'section',
    { class: 'card' },
    html('h3', {}, heading),
    html('p', { class: 'explanation' }, explanation),
    ...children,
  );
}

/**
 * @param {string} kind of a source
 * @param {Child} text
 */
export function chip(kind, text) {
  return html('span', { class: `chip ${kindClass(kind)}` }, text);
}

/** @param {string} kind of a source */
export function kindClass(kind) {
  return ['file', 'smb', 'https', 'blob'].includes(kind) ? `kind-${kind}` : 'kind-other';
}
