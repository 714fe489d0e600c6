// What is wrong with the layout of a page, as a list of sentences. `width` is that of the window.
'use strict';

globalThis.faults = (width) => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > width) found.push(`the page is ${root.scrollWidth} wide in a window of ${width}`);

  // Where an element can be seen: the parts that an ancestor scrolls away or hides are left out.
  const clipped = (rect, element) => {
    let { left, top, right, bottom } = rect;
    for (let around = element; around; around = around.parentElement) {
      if (getComputedStyle(around).overflow === 'visible') continue;
      const frame = around.getBoundingClientRect();
      [left, top] = [Math.max(left, frame.left), Math.max(top, frame.top)];
      [right, bottom] = [Math.min(right, frame.right), Math.min(bottom, frame.bottom)];
    }
    return { left, top, right, bottom };
  };
  const isSeen = ({ left, top, right, bottom }) => right - left > 1 && bottom - top > 1;

  const boxes = []; // of controls and of texts
  for (const element of document.querySelectorAll('button, input, select, textarea, canvas, [tabindex]')) {
    const rect = clipped(element.getBoundingClientRect(), element.parentElement);
    if (isSeen(rect)) boxes.push({ element, rect, name: `${element.tagName} #${element.id}` });
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const part of range.getClientRects()) {
      const rect = clipped(part, element);
      if (isSeen(rect)) boxes.push({ element, text, rect, name: `'${text.data.trim().slice(0, 30)}'` });
    }
  }

  boxes.forEach((one, at) => {
    if (one.rect.left < -0.5 || one.rect.right > width + 0.5) found.push(`${one.name} is outside of the window`);
    for (const other of boxes.slice(at + 1)) {
      // Lines of one text, or a control and what is in it.
      const within = one.element.contains(other.element) || other.element.contains(one.element);
      if (one.text && other.text ? one.text === other.text : within) continue;
      const across = Math.min(one.rect.right, other.rect.right) - Math.max(one.rect.left, other.rect.left);
      const down = Math.min(one.rect.bottom, other.rect.bottom) - Math.max(one.rect.top, other.rect.top);
      if (across > 1 && down > 1) found.push(`${one.name} and ${other.name} overlap`);
    }
  });

  // WCAG 2, success criterion 1.4.3
  const canvas = document.createElement('canvas');
  const paint = canvas.getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return paint.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const [r, g, b] = [...rgba(colour)].map((byte) => byte / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let around = element; around; around = around.parentElement) {
      const { backgroundColor } = getComputedStyle(around);
      if (rgba(backgroundColor)[3] === 255) return backgroundColor;
    }
    return 'Canvas';
  };
  const contrast = (name, element, pseudo) => {
    const lights = [luminance(getComputedStyle(element, pseudo).color), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
    if (ratio < 4.5) found.push(`${name} has a contrast of ${ratio.toFixed(2)}`);
  };
  for (const { element, text, name } of boxes) {
    if (text || (element.tagName !== 'SELECT' && element.value)) contrast(name, element);
    if (element.placeholder) contrast(`the placeholder of ${name}`, element, '::placeholder');
  }
  for (const element of document.querySelectorAll('*')) {
    const { content } = getComputedStyle(element, '::before');
    if (content !== 'none' && content !== 'normal' && element.checkVisibility()) {
      contrast(`what is before #${element.id || element.tagName}`, element, '::before');
    }
  }
  return [...new Set(found)];
};
